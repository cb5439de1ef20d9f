package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/golang-migrate/migrate/v4/source"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/campaign-scheduler/scheduler/migrations"
)

// migrateLockTimeout bounds every wait of a migrator: for another migrator, and
// for a transaction that holds a table the migration changes. It is short
// because all later statements on the table queue behind the migrator.
// golang-migrate's own timeout does not apply while its driver is being made.
const migrateLockTimeout = 15 * time.Second

// Schema errors by which callers decide.
var (
	ErrSchemaMissing = errors.New("the database has no scheduler schema")
	ErrSchemaTooOld  = errors.New("the database's schema is too old for this program")
	ErrSchemaTooNew  = errors.New("the database's schema is newer than this program knows")
	// ErrMayNotRead says that the login may not read the schema.
	ErrMayNotRead = errors.New("this database login may not read the scheduler's tables")
)

// A SchemaVersion says where a database's schema stands.
type SchemaVersion struct {
	Current int // the newest migration applied; 0 when there is none
	Newest  int // the newest one this program carries
	// Interrupted says that a migrator was killed, or runs at this moment. The
	// interrupted migration left nothing behind, and the next verb clears its
	// mark.
	Interrupted bool
}

// A Migrator changes the schema. Each verb uses connections of its own and
// leaves none behind. It waits for other migrators, and first repairs the mark
// of one that was killed. When ctx ends, it stops before the next migration. It
// is safe for concurrent use.
type Migrator struct {
	config  *pgx.ConnConfig
	session *session
	files   fs.FS
	newest  int
	log     *slog.Logger
}

// NewMigrator takes a connection string for a role that may change the schema.
// A nil log discards.
func NewMigrator(url string, log *slog.Logger) (*Migrator, error) {
	return newMigrator(url, log, migrations.FS)
}

func newMigrator(url string, log *slog.Logger, files fs.FS) (*Migrator, error) {
	pool, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	config := pool.ConnConfig // a single connection does not know a pool's parameters
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 5*time.Second)
	session := baseSession()
	session.set("lock_timeout", fmt.Sprint(migrateLockTimeout.Milliseconds()))
	session.set("statement_timeout", "0") // building an index may take its time, whatever the role's default
	session.set("idle_in_transaction_session_timeout", "0")
	session.configure(config, "scheduler migrate")
	newest, err := newestMigration(files)
	if err != nil {
		return nil, err
	}
	return &Migrator{config: config, session: session, files: files, newest: newest, log: cmp.Or(log, slog.New(slog.DiscardHandler))}, nil
}

// Up applies every migration that is not applied yet.
func (m *Migrator) Up(ctx context.Context) error {
	return m.run(ctx, "up", func(s *migration) error { return s.to(m.newest) })
}

// Down takes the newest n migrations back, and no more than there are. Their
// tables go with all their rows.
func (m *Migrator) Down(ctx context.Context, n int) error {
	if n < 1 {
		return fmt.Errorf("migrate down: %d is not a number of migrations to take back", n)
	}
	return m.run(ctx, "down", func(s *migration) error { return s.to(max(0, s.from-n)) })
}

// Goto goes up or down to a version; 0 takes everything back.
func (m *Migrator) Goto(ctx context.Context, version int) error {
	if version < 0 || version > m.newest {
		return fmt.Errorf("migrate goto: there is no version %d; the newest is %d", version, m.newest)
	}
	return m.run(ctx, "goto", func(s *migration) error { return s.to(version) })
}

// Force records a version without running anything. It is for an admin who
// changed the schema by hand, or restored a part of a dump.
func (m *Migrator) Force(ctx context.Context, version int) error {
	if version < 0 || version > m.newest {
		return fmt.Errorf("migrate force: there is no version %d; the newest is %d", version, m.newest)
	}
	return m.connect(ctx, "force", func(s *migration) error { return s.force(ctx, version) })
}

// Version reads the schema's version and changes nothing.
func (m *Migrator) Version(ctx context.Context) (SchemaVersion, error) {
	db := m.database()
	defer db.Close()
	current, err := appliedVersion(ctx, db)
	if err != nil {
		return SchemaVersion{}, fmt.Errorf("migrate version: %w", err)
	}
	interrupted, err := markedDirty(ctx, db)
	if err != nil {
		return SchemaVersion{}, fmt.Errorf("migrate version: %w", err)
	}
	return SchemaVersion{Current: current, Newest: m.newest, Interrupted: interrupted}, nil
}

// database opens connections of the migrator's own.
func (m *Migrator) database() *sql.DB {
	return stdlib.OpenDB(*m.config, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		noticeDeath(ctx, c)
		return m.session.start(ctx, c)
	}))
}

// CheckSchema returns nil if the schema is the one this program was written
// for. Else its error wraps ErrSchemaMissing, ErrSchemaTooOld or
// ErrSchemaTooNew and names the versions, or is ErrMayNotRead.
func (s *Store) CheckSchema(ctx context.Context) error {
	newest, err := newestMigration(migrations.FS)
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(s.pool)
	defer db.Close()
	current, err := appliedVersion(ctx, db)
	if IsDenied(err) {
		return ErrMayNotRead
	}
	if err != nil {
		return fmt.Errorf("check schema: %w", err)
	}
	return compareSchema(current, newest)
}

// NewestSchema is the version this program was written for.
func NewestSchema() int {
	newest, err := newestMigration(migrations.FS)
	if err != nil {
		panic(err) // the files are ours
	}
	return newest
}

func compareSchema(current, newest int) error {
	switch {
	case current == 0:
		return ErrSchemaMissing
	case current < newest:
		return fmt.Errorf("%w: it is at version %d, needed is %d", ErrSchemaTooOld, current, newest)
	case current > newest:
		return fmt.Errorf("%w: it is at version %d, the newest known is %d", ErrSchemaTooNew, current, newest)
	}
	return nil
}

// appliedVersion returns the version that the schema states; 0 when there is no schema.
func appliedVersion(ctx context.Context, db *sql.DB) (version int, err error) {
	err = db.QueryRowContext(ctx, `SELECT version FROM scheduler.schema_version`).Scan(&version)
	if absent(err) {
		return 0, nil
	}
	return version, err
}

// markedDirty reads the mark that golang-migrate makes before a migration and
// takes away after it.
func markedDirty(ctx context.Context, db *sql.DB) (dirty bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT dirty FROM scheduler.schema_migrations`).Scan(&dirty)
	if absent(err) {
		return false, nil
	}
	return dirty, err
}

// absent says whether err means that the table (42P01), its schema (3F000) or
// its row is not there.
func absent(err error) bool {
	state := sqlState(err)
	return state == "42P01" || state == "3F000" || errors.Is(err, sql.ErrNoRows)
}

func newestMigration(files fs.FS) (int, error) {
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return 0, err
	}
	newest := 0
	for _, name := range names {
		parsed, err := source.DefaultParse(name)
		if err != nil {
			return 0, fmt.Errorf("migration file %s: %w", name, err)
		}
		newest = max(newest, int(parsed.Version))
	}
	return newest, nil
}

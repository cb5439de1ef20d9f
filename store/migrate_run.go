package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A migration is one run of a verb: its connections, and golang-migrate's
// runner over them.
type migration struct {
	db     *sql.DB
	driver database.Driver
	runner *migrate.Migrate
	from   int // the version at the start
}

// run is connect for verbs that run migration files. The schema must not be
// newer than the files.
func (m *Migrator) run(ctx context.Context, verb string, do func(*migration) error) error {
	return m.connect(ctx, verb, func(s *migration) error {
		s.warnOfEncoding(ctx, m)
		if s.from > m.newest {
			return fmt.Errorf("%w; use the program that made it", compareSchema(s.from, m.newest))
		}
		if err := do(s); err != nil {
			return s.failure(ctx, err)
		}
		return nil
	})
}

// connect opens the connections, repairs what a killed migrator left, runs do
// and closes everything.
func (m *Migrator) connect(ctx context.Context, verb string, do func(*migration) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate %s: %w", verb, readable(err))
		}
	}()
	s, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		sourceErr, databaseErr := s.runner.Close()
		if err == nil {
			err = errors.Join(sourceErr, databaseErr)
		}
	}()
	var healed bool
	if s.from, healed, err = s.heal(ctx); err != nil {
		return err
	}
	if healed {
		m.log.WarnContext(ctx, "corrected the migration mark", "version", s.from)
	}
	stop := context.AfterFunc(ctx, func() { s.runner.GracefulStop <- true })
	defer stop()
	if err := do(s); err != nil {
		return err
	}
	to, err := appliedVersion(context.WithoutCancel(ctx), s.db)
	if err != nil {
		return err
	}
	if to != s.from {
		m.log.InfoContext(ctx, "schema migrated", "verb", verb, "from", s.from, "to", to)
	}
	return ctx.Err() // stopped before the last one
}

func (m *Migrator) open(ctx context.Context) (*migration, error) {
	db := m.database()
	s := &migration{db: db}
	if err := s.assemble(ctx, m); err != nil {
		_ = db.Close()
		return nil, err
	}
	return s, nil
}

// noticeDeath has the server check, while it works, that this program is still
// connected. When this program is killed, its migration then ends within a
// second and gives the lock back. Not every system can do this; without it the
// next migrator only waits longer.
func noticeDeath(ctx context.Context, conn *pgx.Conn) {
	_, _ = conn.Exec(ctx, `SET client_connection_check_interval = '1s'`)
}

func (s *migration) assemble(ctx context.Context, m *Migrator) error {
	if err := s.ensureSchema(ctx); err != nil {
		return err
	}
	files, err := iofs.New(m.files, ".")
	if err != nil {
		return err
	}
	// golang-migrate's table lies in our schema. So no other user of
	// golang-migrate in this database shares the table, or the lock, whose
	// number comes from the table's name.
	s.driver, err = migratepgx.WithInstance(s.db, &migratepgx.Config{SchemaName: "scheduler"})
	if err != nil {
		return err
	}
	s.runner, err = migrate.NewWithInstance("migrations", files, "postgres", s.driver)
	if err != nil {
		return err
	}
	s.runner.LockTimeout = 2 * migrateLockTimeout // the server's lock_timeout is shorter, and its error says more
	return nil
}

// warnOfEncoding warns where the database's encoding cannot hold all texts.
func (s *migration) warnOfEncoding(ctx context.Context, m *Migrator) {
	var encoding string
	if s.db.QueryRowContext(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding) == nil && encoding != "UTF8" {
		m.log.WarnContext(ctx, "the database's encoding is not UTF8: some texts cannot be stored, others be cut inside a character", "encoding", encoding,
			"do", "createdb --encoding=UTF8 --template=template0")
	}
}

// ensureSchema makes the schema for golang-migrate's own table. It looks first
// whether the schema exists, since CREATE SCHEMA IF NOT EXISTS needs the right
// to create one even then. It takes a lock because two migrators at once would
// collide in the catalog.
func (s *migration) ensureSchema(ctx context.Context) error {
	if err := s.foreignSchema(ctx); err != nil {
		return err
	}
	_, err := s.db.ExecContext(ctx, `
		DO $$
		BEGIN
			IF to_regnamespace('scheduler') IS NULL THEN
				PERFORM pg_advisory_xact_lock(hashtext('scheduler schema'));
				CREATE SCHEMA IF NOT EXISTS scheduler;
			END IF;
		END
		$$`)
	if IsDenied(err) {
		return fmt.Errorf("this login may make no schema in the database, or cannot write; "+
			"migrate with the database's owner, or let it: GRANT CREATE ON DATABASE … TO …: %w", err)
	}
	return err
}

// foreignSchema returns an error, before anything is done, where a schema with
// one of our names belongs to somebody else.
func (s *migration) foreignSchema(ctx context.Context) error {
	var schema, owner string
	err := s.db.QueryRowContext(ctx, `
		SELECT n.nspname, pg_get_userbyid(n.nspowner) FROM pg_namespace n
		 WHERE n.nspname IN ('scheduler', 'audience') AND NOT pg_has_role(n.nspowner, 'USAGE')
		   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('scheduler') AND c.relname = 'schema_version') ORDER BY 1 DESC LIMIT 1`).Scan(&schema, &owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the schema %s is there already and belongs to %s: use another database, "+
		"have %[2]s drop or rename it, or give this login the rights of its owner: GRANT %[2]s TO …", schema, owner)
}

// heal sets golang-migrate's mark to the version that the schema states. A
// migration sets scheduler.schema_version in its own transaction. So that
// version is true after a migrator was killed, and after files were run by psql,
// whatever the mark says. Under the lock no migration is half done.
func (s *migration) heal(ctx context.Context) (version int, healed bool, err error) {
	err = s.locked(func() error {
		if version, err = appliedVersion(ctx, s.db); err != nil {
			return err
		}
		marked, dirty, err := s.driver.Version()
		if err != nil {
			return err
		}
		if want := mark(version); dirty || marked != want {
			healed = true
			return s.driver.SetVersion(want, false)
		}
		return nil
	})
	return version, healed, err
}

// force records the version in the schema itself, since heal goes by that.
func (s *migration) force(ctx context.Context, version int) error {
	return s.locked(func() error {
		if s.from == 0 && version == 0 {
			return nil
		}
		_, err := s.db.ExecContext(ctx, `SELECT scheduler.set_schema_version($1)`, version)
		if state := sqlState(err); state == "42883" || state == "3F000" { // no such function, no such schema
			return fmt.Errorf("%w, so there is no version to force; run: scheduler migrate up", ErrSchemaMissing)
		}
		return err
	})
}

// locked holds golang-migrate's own lock while f runs.
func (s *migration) locked(f func() error) error {
	if err := s.driver.Lock(); err != nil {
		return err
	}
	return errors.Join(f(), s.driver.Unlock())
}

// to goes to a version. It is no error if the schema has that version already.
func (s *migration) to(version int) error {
	var err error
	if version == 0 {
		err = s.runner.Down()
	} else {
		err = s.runner.Migrate(uint(version))
	}
	if errors.Is(err, migrate.ErrNoChange) {
		return nil
	}
	return err
}

// mark returns a version as golang-migrate writes it: -1 for none.
func mark(version int) int {
	if version == 0 {
		return database.NilVersion
	}
	return version
}

// failure names the migration that failed, by the mark that golang-migrate made
// before it. It takes the mark away, since the file was rolled back.
func (s *migration) failure(ctx context.Context, err error) error {
	marked, dirty, versionErr := s.driver.Version()
	if versionErr != nil || !dirty {
		return err
	}
	_, _, _ = s.heal(context.WithoutCancel(ctx)) // if this fails, the next verb heals
	if marked > s.from {
		return fmt.Errorf("%06d up was rolled back: %w", marked, readable(err))
	}
	return fmt.Errorf("%06d down was rolled back: %w", max(marked, 0)+1, readable(err))
}

// readable takes the server's own error out of golang-migrate's, which quotes
// the whole file. It explains a wait that timed out.
func readable(err error) error {
	line := uint(0)
	if failed, ok := errors.AsType[database.Error](err); ok {
		err, line = failed.OrigErr, failed.Line
	}
	if failed, ok := errors.AsType[*database.Error](err); ok {
		err = failed.OrigErr
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, migrate.ErrLockTimeout), ok && pg.Code == "55P03":
		return fmt.Errorf("another migration runs, or a transaction holds a table that is to change; try again later: %w", err)
	case ok && pg.Position > 0:
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// Owner is the role that owns the schema where ownership is separated from the
// roles of daily use.
const Owner = "scheduler_owner"

// Own makes Owner the schema's owner, and makes that role when it is missing. It
// needs a superuser, or a login that is a member of the present owner and of
// Owner. A second call changes nothing.
func (m *Migrator) Own(ctx context.Context) error {
	db := m.database()
	defer db.Close()
	current, err := appliedVersion(ctx, db)
	if err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	if err := compareSchema(current, m.newest); err != nil {
		return fmt.Errorf("migrate own: %w; run: scheduler migrate up", err)
	}
	if _, err := db.ExecContext(ctx, `SELECT scheduler.set_owner($1)`, Owner); err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	var left int
	err = db.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM pg_namespace WHERE nspname IN ('scheduler', 'audience') AND nspowner <> $1::text::regrole)
		     + (SELECT count(*) FROM pg_class WHERE relnamespace = 'scheduler'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND relowner <> $1::text::regrole)
		     + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'scheduler'::regnamespace AND proowner <> $1::text::regrole)`, Owner).Scan(&left)
	if err != nil {
		return fmt.Errorf("migrate own: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("migrate own: %d objects belong to roles that this login is no member of; use a superuser's login", left)
	}
	return nil
}

package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/campaign-scheduler/scheduler/migrations"
	"github.com/campaign-scheduler/scheduler/store"
)

// A server is the PostgreSQL server on which the databases of this process are made.
type server struct {
	from  string        // description of the server, for messages
	url   string        // of its maintenance database
	admin *pgxpool.Pool // on that database
	end   func() error  // ends what was started for it
	clone string        // how a template is copied

	templateMu   sync.Mutex // of both
	templateName string     // empty until it is made
	filled       []string   // the databases of Templates
}

// A source starts, or finds, a PostgreSQL server. It returns the server's URL,
// what it is in words, and how to end it.
type source struct {
	name string
	open func(ctx context.Context) (url, from string, end func() error, err error)
}

// open tries the sources in their order.
func open(ctx context.Context) (*server, error) {
	wanted := os.Getenv("TEST_DATABASE")
	if wanted == "" && os.Getenv("TEST_DATABASE_URL") != "" {
		wanted = "url" // an explicit choice: when it fails, that is final
	}
	var tried []string
	for _, src := range []source{{"url", openURL}, {"docker", openDocker}, {"local", openLocal}} {
		if wanted != "" && wanted != src.name {
			continue
		}
		s, err := connect(ctx, src)
		if err == nil {
			if testing.Verbose() {
				fmt.Fprintln(os.Stderr, "pgtest: using", s.from)
			}
			return s, nil
		}
		tried = append(tried, fmt.Sprintf("  %-7s %v", src.name+":", err))
	}
	return nil, refusal(wanted, tried)
}

func refusal(wanted string, tried []string) error {
	if len(tried) == 0 {
		return fmt.Errorf("TEST_DATABASE=%s is none of url, docker, local", wanted)
	}
	return errors.New("Tried:\n" + strings.Join(tried, "\n") + "\nDo one of these: install PostgreSQL 14 or later " +
		"(make test does it on Debian as root), start Docker, or set TEST_DATABASE_URL.")
}

func connect(ctx context.Context, src source) (*server, error) {
	url, from, end, err := src.open(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{from: from, url: url, end: end}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) prepare(ctx context.Context) error {
	var err error
	if s.admin, err = openPool(s.url); err != nil {
		return err
	}
	var mayCreate bool
	var version int
	err = s.admin.QueryRow(ctx, `
		SELECT rolcreatedb OR rolsuper, current_setting('server_version_num')::int
		FROM pg_roles WHERE rolname = current_user`).Scan(&mayCreate, &version)
	switch {
	case err != nil:
		return err
	case !mayCreate:
		return errors.New("the role may not create databases")
	}
	if version >= 150000 { // with fsync off some five times cheaper than WAL_LOG, the default
		s.clone = " STRATEGY FILE_COPY"
	}
	return nil
}

func (s *server) close() error {
	if s.admin != nil {
		for _, name := range s.filled {
			s.dropDatabase(context.Background(), name)
		}
		s.admin.Close()
	}
	return s.end()
}

func (s *server) dropAtEnd(name string) {
	s.templateMu.Lock()
	defer s.templateMu.Unlock()
	s.filled = append(s.filled, name)
}

var databases atomic.Int64 // of this process

// newDatabase makes a database of a name of its own, with a pool on it.
func (s *server) newDatabase(ctx context.Context, template string) (db *DB, name string, err error) {
	name = fmt.Sprintf("pgtest_%d_%d", os.Getpid(), databases.Add(1))
	if _, err := s.admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+s.clone); err != nil {
		return nil, "", err
	}
	db = &DB{URL: s.urlOf(name)}
	db.Pool, err = openPool(db.URL)
	return db, name, err
}

// dropDatabase ignores errors: a database that stays costs only space.
func (s *server) dropDatabase(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	_, _ = s.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// urlOf returns the server's URL with another database.
func (s *server) urlOf(database string) string {
	u, err := url.Parse(s.url)
	if err != nil { // keyword=value form: the last one given wins
		return s.url + " dbname=" + database
	}
	u.Path = "/" + database
	return u.String()
}

// template returns the name of the migrated database that tests are cloned
// from. Its name is the hash of the migrations, and an advisory lock keeps test
// binaries that share a server from making it twice.
func (s *server) template(ctx context.Context) (string, error) {
	s.templateMu.Lock()
	defer s.templateMu.Unlock()
	if s.templateName != "" {
		return s.templateName, nil
	}
	name, err := templateName()
	if err != nil {
		return "", err
	}
	err = s.admin.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext('pgtest template'))"); err != nil {
			return err
		}
		defer func() { _ = conn.Conn().Close(context.WithoutCancel(ctx)) }() // which gives the lock back
		return s.ensureTemplate(ctx, conn, name)
	})
	if err != nil {
		return "", err
	}
	s.templateName = name
	return name, nil
}

func (s *server) ensureTemplate(ctx context.Context, conn *pgxpool.Conn, name string) error {
	var ready bool
	err := conn.QueryRow(ctx, "SELECT datistemplate FROM pg_database WHERE datname = $1", name).Scan(&ready)
	if ready || (err != nil && !errors.Is(err, pgx.ErrNoRows)) {
		return err
	}
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + name, "CREATE DATABASE " + name + " TEMPLATE template0" + s.clone} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	migrator, err := store.NewMigrator(s.urlOf(name), nil)
	if err != nil {
		return err
	}
	if err := migrator.Up(ctx); err != nil {
		return err
	}
	if err := s.compact(ctx, name); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+name+" IS_TEMPLATE true ALLOW_CONNECTIONS false")
	return err
}

// compact takes out of a template's catalog what its migrations left behind, 12 of 24 MB:
// it is copied for every test. Our own tables stay as no VACUUM has seen them, which
// decides on plans.
func (s *server) compact(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.urlOf(name))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "VACUUM FULL pg_proc, pg_class")
	return errors.Join(err, conn.Close(ctx))
}

func templateName() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(migrations.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := migrations.FS.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	})
	return "pgtest_template_" + hex.EncodeToString(hash.Sum(nil)[:8]), err
}

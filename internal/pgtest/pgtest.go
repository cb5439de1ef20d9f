// Package pgtest gives each test a PostgreSQL database of its own, cloned from a
// template that is migrated once per server.
//
// The server comes from the first of these that works, and nothing is skipped:
// when none does, the test fails with what was tried and how to fix it.
//
//	url     TEST_DATABASE_URL: a server of yours, and a superuser's login: tests make databases and
//	        roles, and write a record by hand past its triggers (session_replication_role)
//	docker  a container run by testcontainers-go: TEST_DATABASE_IMAGE, else postgres:17-alpine
//	local   the PostgreSQL installed on this machine, run privately and without fsync, on a copy of
//	        files that the user's cache keeps (scheduler-pgtest, which may be removed at any time)
//
// TEST_DATABASE=url, docker or local allows that one only. There is one server
// per test binary. It ends with the process, however that ends; a package's
// TestMain calls Main or MainWaiting, which ends it in order and looks for leaked
// goroutines.
package pgtest

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/internal/faketime"
	"github.com/campaign-scheduler/scheduler/store"
)

// setupTimeout bounds the making of one database, including the server's start
// and an image's download.
const setupTimeout = 5 * time.Minute

// DB is a test's own database. Its pool scans timestamptz into UTC and is
// closed, and the database dropped, when the test ends.
type DB struct {
	*pgxpool.Pool
	URL string // for further pools, and for processes under test
}

// URLAs returns the database's URL for another login.
func (db *DB) URLAs(tb testing.TB, login, password string) string {
	tb.Helper()
	u, err := url.Parse(db.URL)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	u.User = url.UserPassword(login, password)
	q := u.Query()
	q.Del("user")
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String()
}

// Role makes a role with the options of CREATE ROLE and returns its name, which
// is made of the database's name and the word. Roles belong to the cluster, and
// by this name no other test has the same. The role is dropped, with everything
// it owns and was granted, when the test ends.
func (db *DB) Role(tb testing.TB, word, options string) string {
	tb.Helper()
	name := db.Config().ConnConfig.Database + "_" + word
	if _, err := db.Exec(tb.Context(), "CREATE ROLE "+name+" "+options); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		ctx := context.WithoutCancel(tb.Context())
		for _, sql := range []string{"DROP OWNED BY " + name, "DROP ROLE " + name} {
			if _, err := db.Exec(ctx, sql); err != nil {
				tb.Errorf("pgtest: %s: %v", sql, err)
			}
		}
	})
	return name
}

// New returns a fresh database with every migration applied.
func New(tb testing.TB) *DB {
	tb.Helper()
	return create(tb, func(ctx context.Context, s *server) (string, error) { return s.template(ctx) })
}

// A Template is a database that is filled once for all tests of a package, and copied
// for each. It is safe for concurrent use.
type Template struct {
	fill func(testing.TB, *DB)

	mu   sync.Mutex
	name string // empty until it is filled
}

// NewTemplate returns a template that its first user fills, on a database with every
// migration applied.
func NewTemplate(fill func(testing.TB, *DB)) *Template { return &Template{fill: fill} }

// New returns a copy.
func (p *Template) New(tb testing.TB) *DB {
	tb.Helper()
	return create(tb, func(ctx context.Context, s *server) (string, error) { return p.filled(ctx, tb, s) })
}

func (p *Template) filled(ctx context.Context, tb testing.TB, s *server) (string, error) {
	tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.name != "" {
		return p.name, nil
	}
	migrated, err := s.template(ctx)
	if err != nil {
		return "", err
	}
	db, name, err := s.newDatabase(ctx, migrated)
	if err != nil {
		return "", err
	}
	s.dropAtEnd(name)
	defer db.closePool(tb) // a database is copied while nobody is connected to it
	p.fill(tb, db)
	p.name = name
	return name, nil
}

// NewEmpty returns a fresh database without anything of ours.
func NewEmpty(tb testing.TB) *DB {
	tb.Helper()
	return create(tb, func(context.Context, *server) (string, error) { return "template0", nil })
}

func create(tb testing.TB, template func(context.Context, *server) (string, error)) *DB {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), setupTimeout)
	defer cancel()
	s, err := shared(ctx)
	if err != nil {
		tb.Fatalf("pgtest: no PostgreSQL for the tests.\n%v", err)
	}
	from, err := template(ctx, s)
	if err != nil {
		tb.Fatalf("pgtest: template database: %v", err)
	}
	db, name, err := s.newDatabase(ctx, from)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		db.closePool(tb)
		s.dropDatabase(context.WithoutCancel(tb.Context()), name)
	})
	return db
}

// closePool does not wait for ever for a connection that the test holds, as
// Close would: a test that failed may not have given it back.
func (db *DB) closePool(tb testing.TB) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		db.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		tb.Error("pgtest: the test has not given all its connections back")
	}
}

// openPool sets those settings of the daemon's own pool that tests can see.
func openPool(url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MinConns, config.MaxConns = 0, 16
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	return pgxpool.NewWithConfig(context.Background(), config)
}

var (
	sharedOnce   sync.Once
	sharedServer *server
	errShared    error
)

// shared starts the server at its first call.
func shared(ctx context.Context) (*server, error) {
	sharedOnce.Do(func() { sharedServer, errShared = open(ctx) })
	return sharedServer, errShared
}

// Main runs a package's tests, ends the server, and fails the package when
// goroutines are left. Call it from TestMain; it exits the process.
func Main(m *testing.M, options ...goleak.Option) {
	// golang-migrate leaves the files that it reads ahead where a migration fails, as one
	// does when the server of NewWithClock crashes.
	options = append(options, goleak.IgnoreAnyFunction("github.com/golang-migrate/migrate/v4.(*Migration).Buffer"))
	goleak.VerifyTestMain(closing{m}, options...)
}

// atOnce is how many parallel tests MainWaiting runs at once at least.
const atOnce = 8

// MainWaiting is Main for a package whose tests mostly wait: for a due second, a
// heartbeat, the end of a lease, a browser. It runs eight of them at once, unless
// -parallel says otherwise. Go's own number, that of the processors, is the better
// one where the tests keep PostgreSQL busy.
func MainWaiting(m *testing.M, options ...goleak.Option) {
	if err := runManyAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		os.Exit(1)
	}
	Main(m, options...)
}

// runManyAtOnce sets -parallel where it is not given.
func runManyAtOnce() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0))))
}

// closing ends the server between the last test and the search for leaks.
type closing struct{ m *testing.M }

func (c closing) Run() int {
	code := c.m.Run()
	sharedOnce.Do(func() {}) // no test may start one now
	if sharedServer == nil {
		return code
	}
	if err := sharedServer.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// A Clock is a server's wall clock, which a test may set. It goes on by itself.
type Clock struct {
	file string
}

// NewWithClock is New on a server of the test's own, whose clock it may set. The
// test fails on a machine without libfaketime, and says what to install.
func NewWithClock(tb testing.TB) (*DB, *Clock) {
	tb.Helper()
	library := faketime.Library()
	if library == "" {
		tb.Fatal("pgtest: a database with a clock of its own needs libfaketime: install it, on Debian with apt-get install libfaketime")
	}
	ctx := context.WithoutCancel(tb.Context())
	dir, err := serverDir(os.TempDir(), "pgtest-clock-") // not in /dev/shm, which may forbid programs
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &Clock{file: filepath.Join(dir, "clock")}
	c.Set(tb, 0)
	programs, _, err := embedpg.Find()
	if err != nil {
		tb.Fatal(err)
	}
	wrapped := filepath.Join(dir, "programs")
	if err := faketime.Wrap(library, c.file, programs, wrapped); err != nil {
		tb.Fatal(err)
	}
	s, err := embedpg.Start(ctx, embedpg.Config{Dir: filepath.Join(dir, "server"), BinDir: wrapped, Database: "clocked", Ephemeral: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Stop() })
	db := &DB{URL: s.URL("clocked")}
	migrator, err := store.NewMigrator(db.URL, nil)
	if err != nil {
		tb.Fatal(err)
	}
	// A server whose clock is set by libfaketime may crash, since that library reads its
	// file in signal handlers. It is back in a second, and a migration goes on.
	for deadline := time.Now().Add(time.Minute); ; {
		err := migrator.Up(ctx)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
		tb.Log(err)
		<-time.After(50 * time.Millisecond)
	}
	if db.Pool, err = openPool(db.URL); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.closePool(tb) })
	return db, c
}

// Set puts the clock ahead of the machine's.
func (c *Clock) Set(tb testing.TB, ahead time.Duration) {
	tb.Helper()
	if err := faketime.Set(c.file, ahead); err != nil {
		tb.Fatal(err)
	}
}

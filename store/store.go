// Package store keeps the scheduler's state in PostgreSQL. It is the only
// package that knows SQL; each statement stands next to the function that runs
// it. Every function takes one round trip or one transaction, honours its
// context's deadline, and is safe for concurrent use.
//
// Functions that depend on the time take it as an argument; the zero time means
// the database's clock, which is what production uses.
package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says how to reach the database.
type Config struct {
	// URL is a PostgreSQL connection string. It may hold a password and is
	// never logged.
	URL string
	// MaxConns bounds the pool; zero means 16.
	MaxConns int
	// ConnectTimeout bounds one attempt to connect; zero means 5 s.
	ConnectTimeout time.Duration
	// StatementTimeout is the server's bound on each statement, in case a
	// context's deadline does not end it; zero means 30 s.
	StatementTimeout time.Duration
	// Login replaces the user and password of the URL; nil: as the URL says.
	Login *Login

	front bool // see OpenFront
}

// A Login is a person's own login. The server has to ask for the password: if
// it asked for none, as for a local user, anyone could sign in under any name.
type Login struct{ User, Password string }

// ErrLoginRefused says that the server refuses a Login, or asks for no
// password.
var ErrLoginRefused = errors.New("the database refused the login")

// use replaces the URL's user and password by the login's.
func (l *Login) use(c *pgx.ConnConfig) {
	if l == nil {
		return
	}
	c.User, c.Password, c.RequireAuth = l.User, l.Password, "scram-sha-256,md5,password"
	for _, f := range c.Fallbacks {
		f.TLSConfig = withoutCertificate(f.TLSConfig)
	}
	c.TLSConfig = withoutCertificate(c.TLSConfig)
}

// withoutCertificate leaves out the daemon's own certificate, since it is not
// the person's.
func withoutCertificate(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.Certificates, c.GetClientCertificate = nil, nil
	return c
}

// SignIn opens a Store with a person's own login, and tries the login at once.
// The error is ErrLoginRefused when the server refuses it.
func SignIn(ctx context.Context, cfg Config, login Login) (*Store, error) {
	cfg.Login = &login
	s, err := Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.pool.Ping(ctx); err != nil {
		s.Close()
		if IsOutage(err) && sqlState(err) != "" || ctx.Err() != nil {
			return nil, fmt.Errorf("sign in: %w", err)
		}
		return nil, ErrLoginRefused // the cause names the user and how the server asks
	}
	return s, nil
}

// Store is a pool of connections with the scheduler's statements.
type Store struct {
	pool     *pgxpool.Pool
	db       runner                        // where statements run: the pool, or one connection of a Sitting
	pace     func(read func() error) error // runs a read of a page, and may wait before and after it; nil: it just runs
	conns    *trackedConns
	session  *session
	seal     atomic.Pointer[string]           // of the database as this daemon knows it; nil: the Store is no daemon's
	channels atomic.Pointer[map[string]int16] // see channelNos
}

// A runner runs statements: a pool, or one connection of it.
type runner interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Begin(ctx context.Context) (pgx.Tx, error)
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Sitting returns a Store whose statements run on one connection, until done gives it
// back. That is for many short statements in a row: a connection is taken once, and with
// it the role of a front's person. pace runs each read of a page, and may wait before
// and after it; nil: each just runs. A sitting is for one goroutine at a time. done may
// be called again.
func (s *Store) Sitting(ctx context.Context, pace func(read func() error) error) (sitting *Store, done func(), err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("take a connection: %w", err)
	}
	return &Store{pool: s.pool, db: conn, pace: pace, conns: s.conns, session: s.session}, sync.OnceFunc(conn.Release), nil
}

// Open makes a Store. It does not wait for the database: connections are made
// as they are needed, so that a daemon can start before its database.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	pc, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	cfg.Login.use(pc.ConnConfig)
	pc.MaxConns = int32(cmp.Or(cfg.MaxConns, 16))
	pc.ConnConfig.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 5*time.Second)
	s := &Store{conns: &trackedConns{all: make(map[*trackedConn]struct{})}, session: daemonSession(cmp.Or(cfg.StatementTimeout, 30*time.Second))}
	s.session.configure(pc.ConnConfig, "scheduler")
	pc.AfterConnect, pc.PrepareConn = s.connected, s.prepare
	if cfg.front {
		pc.PrepareConn, pc.AfterRelease = actAs, actAsNobody
	}
	pc.ConnConfig.DialFunc = s.conns.dial
	if s.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	s.db = s.pool
	return s, nil
}

// closeTimeout is how long Close waits for calls that are under way.
const closeTimeout = 2 * time.Second

// Close closes every connection. It waits closeTimeout for those in use, then
// cuts them, so that a database that hangs cannot keep a daemon from ending.
func (s *Store) Close() {
	impatient := time.AfterFunc(closeTimeout, s.conns.cutAll)
	defer impatient.Stop()
	s.pool.Close()
}

// Discard drops idle connections and lets those in use end, so that the next
// ones reach the server that answers now, for example after a failover.
func (s *Store) Discard() { s.pool.Reset() }

// Renounce is Discard for the end of an outage that began at since. It also
// cuts connections in use on which no byte has come since then. Calls on them
// would otherwise wait for their deadlines.
func (s *Store) Renounce(since time.Time) {
	s.pool.Reset()
	s.conns.cut(since)
}

// registerUTC makes timestamptz scan into UTC; pgx's default is time.Local.
func registerUTC(c *pgx.Conn) {
	c.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
}

// Now returns the database's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.db.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	return now, nil
}

// IsOutage says whether err means that no statement can succeed on the database
// at present: no connection, no answer in time, shutting down, no room, or
// read-only.
func IsOutage(err error) bool {
	state := sqlState(err)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, ErrUnrecognised), errors.Is(err, errStandby):
		return true
	case state == "":
		var network net.Error
		return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
			errors.Is(err, driver.ErrBadConn) || pgconn.SafeToRetry(err)
	}
	switch state[:2] {
	case "SR": // not recognised yet
		return state != sessionLost
	case "08", "53", "58", "XX": // connection, resources, the machine's, internal: a full disk shows as each of them
		return true
	}
	return state == "25006" || state == "25P03" || strings.HasPrefix(state, "57P") // read-only; idle for too long, as when frozen
}

// IsRefused says whether err means that the server, or a pooler before it,
// refuses this login or connection, so that waiting does not help.
func IsRefused(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "28") || state == "3D000" || state == "08P01" && strings.Contains(err.Error(), "startup parameter")
}

// IsTimeout says whether err means that a statement exceeded its time limit, by
// this program's clock or the server's.
func IsTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || sqlState(err) == "57014"
}

// IsBlocked says whether err means that somebody else holds a lock for long.
func IsBlocked(err error) bool { return sqlState(err) == "55P03" }

// OfARow says whether err may come from a single row that was read: a value
// that cannot be decoded or converted, or that the server cannot work with. The
// other rows can then be read without this one.
func OfARow(err error) bool {
	var bad *pgconn.PgError
	switch {
	case err == nil, IsOutage(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &bad):
		class := bad.Code[:2]
		return class == "22" || class == "54" || class == "38" || class == "P0" || bad.Code == "57014" // data, limits, functions, statement_timeout
	default:
		return true // an error of the client: the value could not be scanned
	}
}

// IsReadOnly says whether err means that the server takes no writes, as a
// demoted primary does.
func IsReadOnly(err error) bool { return sqlState(err) == "25006" || errors.Is(err, errStandby) }

// IsDenied says whether err means that the login lacks a privilege.
func IsDenied(err error) bool { return sqlState(err) == insufficientPrivilege }

const insufficientPrivilege = "42501"

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// at turns the zero time into NULL, which the statements read as the
// database's clock.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// orZero turns NULL into the zero time.
func orZero[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}

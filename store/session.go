package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session holds the settings of the program's own connections. They apply
// whatever the server, the database, the role or the URL say, since the
// program's promises rest on them.
type session struct{ names, values []string }

func (s *session) set(name, value string) {
	if i := slices.Index(s.names, name); i >= 0 {
		s.values[i] = value
		return
	}
	s.names, s.values = append(s.names, name), append(s.values, value)
}

// baseSession returns the settings of every connection.
func baseSession() *session {
	s := &session{}
	for _, p := range [][2]string{
		{"synchronous_commit", "on"},                        // remote_apply, which promises more, stays
		{"default_transaction_isolation", "read committed"}, // each statement must see the changes for which its locks waited
		{"default_transaction_deferrable", "off"},
		{"search_path", "pg_catalog, public"},
		{"row_security", "on"},
		{"IntervalStyle", "postgres"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"array_nulls", "on"},
		{"transform_null_equals", "off"},
		{"quote_all_identifiers", "off"},       // the schema's shape is compared as text
		{"session_replication_role", "origin"}, // else the triggers that keep the promises do not run; set only where it differs, since that needs a right
		{"idle_session_timeout", "0"},
		{"transaction_timeout", "0"}, // PostgreSQL 17
	} {
		s.set(p[0], p[1])
	}
	return s
}

// daemonSession adds the settings for which the daemon's statements are written.
func daemonSession(statementTimeout time.Duration) *session {
	s := baseSession()
	s.set("statement_timeout", strconv.FormatInt(statementTimeout.Milliseconds(), 10))
	s.set("lock_timeout", "5000")
	// A daemon that is frozen or cut off in the middle of a transaction must not
	// keep its locks, some of them on campaigns, for longer than others need to
	// find it dead.
	s.set("idle_in_transaction_session_timeout", "10000")
	// Parameterised statements are planned once, for any value. Their form
	// alone must lead to the right plan, whatever the statistics say.
	s.set("plan_cache_mode", "force_generic_plan")
	// A plan that was made while a table was empty would read the whole table,
	// or a whole range before its LIMIT, and would stay when the table has
	// grown. So an index is always used, and in its order.
	s.set("enable_seqscan", "off")
	s.set("enable_bitmapscan", "off")
	s.set("enable_indexscan", "on")
	s.set("enable_indexonlyscan", "on")
	s.set("enable_nestloop", "on")
	for _, p := range []string{"enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_material", "enable_sort"} {
		s.set(p, "on")
	}
	for _, p := range []string{"from_collapse_limit", "join_collapse_limit"} {
		s.set(p, "8")
	}
	s.set("jit", "off") // short statements: compiling costs more than it saves
	return s
}

// trackedParams are the parameters that may be given when a connection starts.
// PgBouncer refuses all others, and sets these on any server connection that it
// uses.
var trackedParams = []string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"}

// configure gives a connection its settings: at the start those that every
// pooler takes, and the rest by start once the connection is made. Settings of
// the URL are applied in the same way; the program's settings override them.
func (s *session) configure(c *pgx.ConnConfig, application string) {
	for name, value := range c.RuntimeParams {
		if name == "options" || slices.ContainsFunc(trackedParams, func(t string) bool { return strings.EqualFold(t, name) }) {
			continue
		}
		delete(c.RuntimeParams, name)
		if !slices.Contains(s.names, name) {
			s.set(name, value)
		}
	}
	for name := range c.RuntimeParams { // names as the URL spells them
		if name != "options" {
			delete(c.RuntimeParams, name)
		}
	}
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.RuntimeParams["DateStyle"] = "ISO, MDY"
	c.RuntimeParams["TimeZone"] = "UTC"
	c.RuntimeParams["standard_conforming_strings"] = "on"
	c.RuntimeParams["application_name"] = application
	onlyPrimary(c)
}

// start sets in one round trip the settings that are set once a connection is made.
func (s *session) start(ctx context.Context, c *pgx.Conn, more ...string) error {
	names, values := slices.Clone(s.names), slices.Clone(s.values)
	for i := 0; i < len(more); i += 2 {
		names, values = append(names, more[i]), append(values, more[i+1])
	}
	if major(c) < 17 {
		i := slices.Index(names, "transaction_timeout")
		names, values = slices.Delete(names, i, i+1), slices.Delete(values, i, i+1)
	}
	_, err := c.Exec(ctx, `
		SELECT set_config(name, CASE WHEN name = 'synchronous_commit' AND current_setting(name) = 'remote_apply' THEN 'remote_apply' ELSE value END, false)
		  FROM unnest($1::text[], $2::text[]) AS u (name, value)
		 WHERE name <> 'session_replication_role' OR current_setting(name) <> value`, pgx.QueryExecModeExec, names, values)
	if err != nil {
		return fmt.Errorf("set the session's parameters: %w", err)
	}
	registerUTC(c)
	return nil
}

// major returns the server's version without its minor part; 0 where the server
// states none.
func major(c *pgx.Conn) int { return number(c.PgConn().ParameterStatus("server_version")) }

// onlyPrimary has a connection string with several hosts lead to the host that
// takes writes, unless it says otherwise.
func onlyPrimary(c *pgx.ConnConfig) {
	if c.ValidateConnect != nil || os.Getenv("PGTARGETSESSIONATTRS") != "" || strings.Contains(c.ConnString(), "target_session_attrs") {
		return
	}
	for _, f := range c.Fallbacks { // a single host has fallbacks too: with TLS and without
		if f.Host != c.Host || f.Port != c.Port {
			c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
			return
		}
	}
}

// ErrSharedSessions says that a pooler gives each transaction another server
// connection, so that a session's settings, prepared statements and LISTEN do
// not last.
var ErrSharedSessions = errors.New("a pooler in transaction mode stands before the database, where sessions do not keep their settings; " +
	"set pool_mode = session for this database (PgBouncer: [databases] push = … pool_mode=session), or point database.url at PostgreSQL itself")

// CheckSessions returns nil if the database's sessions are this program's own.
// The error is ErrSharedSessions, or says that the database cannot be asked.
func (s *Store) CheckSessions(ctx context.Context) error {
	shared, err := s.shared(ctx)
	if err == nil && shared {
		return ErrSharedSessions
	}
	return err
}

// probes is how many connections are used to find out what a pooler does.
const probes = 4

// shared finds out whether a pooler shares sessions between clients. Every pooler
// makes up the process id that a client sees, so that id proves nothing. A pooler
// that shares sessions gives the server connection that ours had to the other
// connections here, which keep a transaction open.
func (s *Store) shared(ctx context.Context) (bool, error) {
	cfg := s.pool.Config().ConnConfig
	ours, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	defer closeProbe(ctx, ours)
	pid, err := backend(ctx, ours)
	switch {
	case isStatementPooling(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("ask for the server's process: %w", err)
	case pid == ours.PgConn().PID():
		return false, nil
	}
	for range probes {
		other, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return false, fmt.Errorf("connect: %w", err)
		}
		defer closeProbe(ctx, other)
		if _, err := other.Exec(ctx, `BEGIN`, pgx.QueryExecModeSimpleProtocol); err != nil {
			if isStatementPooling(err) {
				return true, nil
			}
			return false, fmt.Errorf("begin: %w", err)
		}
		theirs, err := backend(ctx, other)
		if err != nil {
			return false, fmt.Errorf("ask for the server's process: %w", err)
		}
		if theirs == pid {
			return true, nil
		}
	}
	again, err := backend(ctx, ours)
	if err != nil {
		return false, fmt.Errorf("ask for the server's process: %w", err)
	}
	return again != pid, nil
}

func backend(ctx context.Context, c *pgx.Conn) (pid uint32, err error) {
	var n int32
	err = c.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&n)
	return uint32(n), err
}

func closeProbe(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = c.Close(ctx)
}

func isStatementPooling(err error) bool {
	return err != nil && strings.Contains(err.Error(), "statement pooling")
}

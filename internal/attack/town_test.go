package attack_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainWaiting(m) }

const (
	denied  = "42501" // insufficient_privilege
	refused = "23514" // check_violation
)

// A town is a database with two apps and people who share it: mei may write for
// app a and li for app b; olga is an admin, rita a reader, pusher a daemon, eve
// has a login and nothing else; desk is a front, which may act for mei.
type town struct {
	db    *pgtest.DB
	names map[string]string // a person to the login
	a, b  int64             // the campaign of each app
}

var people = map[string]string{
	"olga": "scheduler_admin", "pusher": "scheduler_daemon", "mei": "scheduler_author", "li": "scheduler_author",
	"rita": "scheduler_reader", "eve": "", "desk": "scheduler_front",
}

// newTown makes a town whose schema belongs to scheduler_owner, as
// docs/security.md has it.
func newTown(t *testing.T) *town {
	t.Helper()
	return settle(t, owned.New(t))
}

// owned is a database whose schema belongs to its owner alone.
var owned = pgtest.NewTemplate(func(t testing.TB, db *pgtest.DB) {
	t.Helper()
	if _, err := db.Exec(t.Context(), `SELECT scheduler.set_owner()`); err != nil {
		t.Fatal(err)
	}
})

// newOldTown makes one whose schema belongs to the login that migrated.
func newOldTown(t *testing.T) *town {
	t.Helper()
	return settle(t, pgtest.New(t))
}

func settle(t *testing.T, db *pgtest.DB) *town {
	t.Helper()
	c := &town{db: db, names: map[string]string{}}
	for person, role := range people {
		options := `LOGIN PASSWORD 'secret'`
		if person == "desk" {
			options += ` NOINHERIT`
		}
		login := c.db.Role(t, person, options)
		c.names[person] = login
		if role != "" {
			c.exec(t, fmt.Sprintf(`GRANT %s TO %s`, role, login))
		}
	}
	c.exec(t, fmt.Sprintf(`GRANT %s TO %s`, c.names["mei"], c.names["desk"]))
	c.exec(t, `INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'webhook'), ('b', 'webhook')`)
	c.exec(t, fmt.Sprintf(`SELECT scheduler.grant_app('a', '', '%s'), scheduler.grant_app('b', '', '%s')`, c.names["mei"], c.names["li"]))
	const insert = `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content) VALUES ('c', '%[1]s', 'webhook', 1, '{"fixedTime": 4102444800000}') RETURNING id`
	c.scan(t, &c.a, fmt.Sprintf(insert, "a"))
	c.scan(t, &c.b, fmt.Sprintf(insert, "b"))
	c.exec(t, fmt.Sprintf(`
		INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (%[1]d, 'ta'), (%[2]d, 'tb');
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT id, app_no, id, 1, 1, 'scheduled', 'unknown', '1999-01-01', '1999-01-01', 1, 1, 0, 1, 'lost' FROM scheduler.campaigns WHERE id IN (%[1]d, %[2]d);
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
		SELECT id + 100, app_no, id, 1, 1, 'scheduled', 'missed', '1999-01-02', 0, 0, 0, 0, 'late' FROM scheduler.campaigns WHERE id IN (%[1]d, %[2]d)`, c.a, c.b))
	return c
}

func (c *town) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := c.db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (c *town) scan(t *testing.T, to any, sql string) {
	t.Helper()
	if err := c.db.QueryRow(t.Context(), sql).Scan(to); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (c *town) list(t *testing.T, sql string, args ...any) []string {
	t.Helper()
	rows, _ := c.db.Query(t.Context(), sql, args...)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (c *town) url(t *testing.T, person string) string {
	t.Helper()
	return c.db.URLAs(t, c.names[person], "secret")
}

// as connects as somebody.
func (c *town) as(t *testing.T, person string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.url(t, person))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// state runs statements and takes them back; it returns the SQLSTATE, empty
// where it went.
func state(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), sql)
	if err == nil {
		return ""
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatal(err)
	}
	return pg.Code
}

package app_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// login makes a role that is a member of another and returns the database's URL
// for it.
func login(t *testing.T, db *pgtest.DB, member string) (name, dsn string) {
	t.Helper()
	name = db.Role(t, member, `LOGIN PASSWORD 'secret' IN ROLE `+member)
	return name, db.URLAs(t, name, "secret")
}

// startDaemon runs a daemon with the sandbox on the database, until the test ends.
func startDaemon(t *testing.T, dsn string) {
	t.Helper()
	c := config.Default()
	c.Database.URL = config.Secret(dsn)
	c.DataDir = t.TempDir()
	c.Admin.Listen, c.Sandbox.Listen = "127.0.0.1:0", "127.0.0.1:0"
	c.Sandbox.Journal = c.DataDir + "/sandbox.ndjson"
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := app.New(t.Context(), app.Options{
		Config: &c, Log: log, Version: "test", Adapters: []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.Start()
	t.Cleanup(func() {
		if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// authorsDay is what an author does in a day: a small push, a stored audience of
// two calls, an audience view, one that was not granted, a call with a quota, a campaign that the adapter
// refuses, and two that are paused and cancelled.
const authorsDay = `
WITH new AS (
	INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, audience_view, request) VALUES
	('inline', 'sandbox-mpaas', 'default', 'mpaas.push_multiple', NULL,
	 '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome", "targetMsgs": [{"target": "user-1"}]}'),
	('stored', 'sandbox-mpaas', 'default', 'mpaas.push_multiple', NULL, '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome"}'),
	('viewed', 'sandbox-mpaas', 'default', 'mpaas.push_multiple', 'everybody', '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome"}'),
	('ungranted', 'sandbox-mpaas', 'default', 'mpaas.push_multiple', 'nobody', '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome"}'),
	('refused', 'sandbox-mpaas', 'default', 'mpaas.push_multiple', NULL, '{"deliveryTypo": 3}')
	RETURNING id, name
)
INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 'user-' || n FROM new, generate_series(1, 150) n WHERE name = 'stored'`

const authorsPlans = `
INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
SELECT name, 'sandbox-mpaas', 'default', 'mpaas.push_multiple', 1, '{"fixedTime": 4102444800000}',
       '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome", "targetMsgs": [{"target": "user-1"}]}'
  FROM (VALUES ('paused'), ('cancelled')) v (name)`

// TestDaemonRoleIsEnough runs the whole daemon as a login that has no more than
// scheduler_daemon, for an author who has no more than scheduler_author.
func TestDaemonRoleIsEnough(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	_, daemon := login(t, db, "scheduler_daemon")
	author, authors := login(t, db, "scheduler_author")
	startDaemon(t, daemon)
	for _, sql := range []string{
		`SELECT scheduler.grant_app('sandbox-mpaas', 'default', '` + author + `')`,
		`CREATE TABLE public.members AS SELECT 'member-' || n AS id FROM generate_series(1, 30) n`,
		`CREATE VIEW audience.everybody AS SELECT id AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params FROM public.members`,
		`GRANT SELECT ON audience.everybody TO scheduler_daemon`,
		`CREATE VIEW audience.nobody AS SELECT * FROM audience.everybody`,
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}

	conn, err := pgx.Connect(t.Context(), authors)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{authorsDay, authorsPlans} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	await(t, conn, 2, `SELECT count(*) FROM scheduler.upcoming`)
	for _, sql := range []string{
		`UPDATE scheduler.campaigns SET status = 'paused' WHERE name = 'paused'`,
		`UPDATE scheduler.campaigns SET status = 'cancelled' WHERE name = 'cancelled'`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	await(t, conn, 7, `SELECT count(*) FROM scheduler.campaigns WHERE status <> 'active'`)

	got := map[string]string{}
	rows, _ := conn.Query(t.Context(), `SELECT c.name, concat_ws(' ', c.status, t.status, t.deliveries, t.reason) FROM scheduler.campaigns c LEFT JOIN scheduler.tasks t ON t.campaign_id = c.id`)
	var name, outcome string
	if _, err := pgx.ForEachRow(rows, []any{&name, &outcome}, func() error { got[name] = outcome; return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"inline": "finished succeeded 1", "stored": "finished succeeded 2", "viewed": "finished succeeded 1",
		"refused": "rejected",
		"ungranted": "finished failed 0 audience view nobody: permission denied for view nobody (SQLSTATE 42501); " +
			`the daemon needs: GRANT SELECT ON audience."nobody" TO scheduler_daemon`, "paused": "paused", "cancelled": "cancelled cancelled 0 campaign cancelled",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("campaigns (-want +got):\n%s", diff)
	}
}

// await asks until the answer is want, for at most half a minute.
func await(t *testing.T, conn *pgx.Conn, want int64, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var got int64
	for got != want {
		if err := conn.QueryRow(ctx, query).Scan(&got); err != nil {
			t.Fatalf("%s: %d, want %d: %v", query, got, want, err)
		}
		<-tick.C
	}
}

package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// What authors write and what becomes of it: the rules of scheduler.campaigns.

// surface is a database with an app for each provider.
func surface(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	run(t, db, `INSERT INTO scheduler.apps (app_id, workspace_id, provider, time_zone) VALUES
		('shop', 'test', 'mpaas', 'Europe/Berlin'), ('life', '', 'alipay', 'Asia/Shanghai'), ('hook', '', 'webhook', 'UTC')`)
	return db
}

func run(t *testing.T, db *pgtest.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// one returns the one value of a query.
func one[T any](t *testing.T, db *pgtest.DB, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// loop is the content of a daily loop at noon from today for the given days.
func loop(days int) string {
	now := time.Now()
	return fmt.Sprintf(`{"startTime": %d, "endTime": %d, "circleType": 1, "time": "12:00:00"}`,
		now.UnixMilli(), now.AddDate(0, 0, days).UnixMilli())
}

// campaign inserts a good webhook campaign with a daily loop and returns its id.
func campaign(t *testing.T, db *pgtest.DB) int64 {
	t.Helper()
	return one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		VALUES ('weekly', 'hook', 'webhook', 2, $1) RETURNING id`, loop(10))
}

// refused returns what the database says against a statement, and fails unless
// it is a violation of a rule.
func refused(t *testing.T, db *pgtest.DB, sql string, args ...any) *pgconn.PgError {
	t.Helper()
	_, err := db.Exec(t.Context(), sql, args...)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != "23514" {
		t.Fatalf("%s: got %v, want SQLSTATE 23514", sql, err)
	}
	return pg
}

func TestInsertRefusesBadCampaigns(t *testing.T) {
	t.Parallel()
	db := surface(t)
	const good = "name, app_id, channel"
	for _, c := range []struct {
		name, columns, values, message, detail, hint string
	}{
		{"unknown app", good, `'n', 'nobody', 'webhook'`, "app_id: must be an app in scheduler.apps", "app_id = 'nobody', workspace_id ''", "add the app"},
		{"app of another workspace", good, `'n', 'shop', 'mpaas.push_multiple'`, "app_id: must be an app", "'shop', workspace_id ''", ""},
		{"null app", good, `'n', NULL, 'webhook'`, "app_id: must be an app", "app_id = NULL", ""},
		{"empty name", good, `'', 'hook', 'webhook'`, "name: must not be empty", "name = ''", "taskName"},
		{"unknown channel", good, `'n', 'hook', 'mpaas.push'`, "channel: must be a known channel", "channel = 'mpaas.push'", "use one of alipay.group_send"},
		{"null channel", good, `'n', 'hook', NULL`, "channel: must be a known channel", "channel = NULL", ""},
		{"another provider's channel", good, `'n', 'hook', 'alipay.label_send'`, "channel: must be one of the app's provider, webhook", "'alipay.label_send'", "use one of webhook"},
		{"request that is no object", good + ", request", `'n', 'hook', 'webhook', '[1]'`, "request: must be a JSON object", "request = [1]", ""},
		{"misfire policy", good + ", misfire_policy", `'n', 'hook', 'webhook', 'some'`, "misfire_policy: must be latest, all or skip", "'some'", ""},
		{"zero window", good + ", catch_up_window", `'n', 'hook', 'webhook', '0'`, "catch_up_window: must be longer than zero", "catch_up_window = 0 s", "interval"},
		{"negative window", good + ", catch_up_window", `'n', 'hook', 'webhook', '-1 hour'`, "catch_up_window: must be longer than zero", "", ""},
		{"endless window", good + ", catch_up_window", `'n', 'hook', 'webhook', '200 years'`, "at most 36525 days", "", ""},
		{"status of the daemon's", good + ", status", `'n', 'hook', 'webhook', 'finished'`, "status: must be active or paused in an INSERT", "'finished'", "leave it out"},
		{"view with a schema", good + ", audience_view", `'n', 'hook', 'webhook', 'public.v'`, "audience_view: must be the bare name of a view", "'public.v'", "CREATE VIEW"},
		{"zone", good + ", time_zone", `'n', 'hook', 'webhook', 'CEST'`, "time_zone: must be an IANA time zone", "time_zone = CEST", ""},
		{"fixed time long past", good + ", strategy_type, strategy_content", `'n', 'hook', 'webhook', 1, '{"fixedTime": 1600000000000}'`, "fixedTime: must not be further in the past", "fixedTime = 1600000000000", "it means 2020-09-13"},
		{
			"everything at once", "name, app_id, channel, misfire_policy, catch_up_window, strategy_type, strategy_content", `'', 'nobody', 'x', 'y', '0', 2, '{"circleType": 4, "tme": "12:00:00"}'`,
			"app_id: must be an app in scheduler.apps, together with workspace_id; name: must not be empty; channel: must be a known channel; " +
				"misfire_policy: must be latest, all or skip; catch_up_window: must be longer than zero and at most 36525 days; " +
				"tme: is not a key of StrategyContent; startTime: is required for strategy type 2 (loop); endTime: is required for strategy type 2 (loop); " +
				"circleType: must be 1 (daily), 2 (weekly) or 3 (monthly); time: is required for strategy type 2 (loop)",
			"circleType = 4", "tme: did you mean time?",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := refused(t, db, fmt.Sprintf(`INSERT INTO scheduler.campaigns (%s) VALUES (%s)`, c.columns, c.values))
			if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Hint, c.hint) {
				t.Errorf("got\n%s\n%s\n%s\nwant\n%s\n%s\n%s", got.Message, got.Detail, got.Hint, c.message, c.detail, c.hint)
			}
			if got.SchemaName != "scheduler" || got.TableName != "campaigns" {
				t.Errorf("names table %s.%s", got.SchemaName, got.TableName)
			}
		})
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_changes`); n != 0 {
		t.Errorf("%d changes left by refused rows", n)
	}
}

func TestInsertMaterialisesDefaults(t *testing.T) {
	t.Parallel()
	db := surface(t)
	run(t, db, `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone,
		misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, status)
		VALUES ('explicit nulls', 'life', NULL, 'alipay.label_send', NULL, 'null', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
	run(t, db, `INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel) VALUES ('left out', 'shop', 'test', 'mpaas.push_multiple')`)
	type row struct {
		Name, Workspace      string
		Type                 int
		Content              *string
		Request, Zone        string
		Misfire, Window      string
		ShortMonth, Gap      string
		Resend               bool
		Status               string
		Revision             int
		By, UpdatedBy        string
		InsertedOnceAndAlike bool
	}
	rows, _ := db.Query(t.Context(), `SELECT name, workspace_id, strategy_type, strategy_content::text, request::text, time_zone, misfire_policy,
		catch_up_window::text, short_month_policy, dst_gap_policy, resend_unknown, status, revision, created_by, updated_by,
		created_at = updated_at AND abs(extract(epoch FROM written_at - created_at)) < 5 FROM scheduler.campaigns ORDER BY id`)
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	me := one[string](t, db, `SELECT current_user::text`)
	want := []row{
		{"explicit nulls", "", 0, nil, "{}", "Asia/Shanghai", "latest", "01:00:00", "skip", "shift", false, "active", 1, me, me, true},
		{"left out", "test", 0, nil, "{}", "Europe/Berlin", "latest", "01:00:00", "skip", "shift", false, "active", 1, me, me, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// An author cannot write what is the scheduler's to keep.
func TestInsertKeepsItsOwnColumns(t *testing.T) {
	t.Parallel()
	db := surface(t)
	run(t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, revision, created_by, created_at, written_at, app_no, status_reason, updated_at)
		VALUES ('forged', 'hook', 'webhook', 7, 'somebody', '2000-01-01', '2000-01-01', 99, 'because', '2000-01-01')`)
	if !one[bool](t, db, `SELECT revision = 1 AND created_by = current_user AND created_at > now() - interval '1 minute' AND status_reason IS NULL
		AND written_at > now() - interval '1 minute' AND app_no = (SELECT app_no FROM scheduler.apps WHERE app_id = 'hook') FROM scheduler.campaigns`) {
		t.Error("the author's values were kept")
	}
}

func TestContentInAStringIsStoredAsAnObject(t *testing.T) {
	t.Parallel()
	db := surface(t)
	at := time.Now().Add(time.Hour).UnixMilli()
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		VALUES ('n', 'hook', 'webhook', 1, to_jsonb($1::text)) RETURNING id`, fmt.Sprintf(`{"fixedTime": %d}`, at))
	if got := one[int64](t, db, `SELECT (strategy_content ->> 'fixedTime')::bigint FROM scheduler.campaigns WHERE id = $1`, id); got != at {
		t.Errorf("fixedTime %d, want %d", got, at)
	}
}

func TestWarningsReachTheAuthor(t *testing.T) {
	t.Parallel()
	db := surface(t)
	var notices []string
	config, err := pgx.ParseConfig(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	content := strings.TrimSuffix(loop(3), "}") + `, "circleValue": [1], "fixedTime": "x"}`
	if _, err := conn.Exec(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		VALUES ('n', 'hook', 'webhook', 2, $1)`, content); err != nil {
		t.Fatal(err)
	}
	want := []string{"fixedTime: is ignored: it belongs to strategy type 1 (fixed time)", "circleValue: is ignored: a daily loop pushes on every day"}
	if diff := cmp.Diff(want, notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

func TestUpdateRules(t *testing.T) {
	t.Parallel()
	db := surface(t)
	for _, c := range []struct{ name, set, message string }{
		{"another app", `app_id = 'shop', workspace_id = 'test', channel = 'mpaas.push_simple'`, "id, app_id and workspace_id of a campaign cannot change"},
		{"another id", `id = id + 1000`, "id, app_id and workspace_id of a campaign cannot change"},
		{"finished by hand", `status = 'finished'`, "status: must be active, paused or cancelled"},
		{"rejected by hand", `status = 'rejected'`, "status: must be active, paused or cancelled"},
		{"unknown status", `status = 'stopped'`, "status: must be active, paused or cancelled"},
		{"zero window", `catch_up_window = '0'`, "catch_up_window: must be longer than zero"},
		{"endless window", `catch_up_window = '1000000 years'`, "catch_up_window: must be longer than zero and at most 36525 days"},
		{"window and strategy", `catch_up_window = '0', strategy_content = '{}'`, "catch_up_window: must be longer than zero and at most 36525 days; startTime"},
		{"bad strategy", `strategy_content = '{}'`, "circleType: is required"},
		{"bad zone", `time_zone = 'Nowhere'`, "time_zone: must be an IANA"},
		{"channel", `channel = 'mpaas.push_simple'`, "channel: must be one of the app's provider"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			id := campaign(t, db)
			got := refused(t, db, `UPDATE scheduler.campaigns SET `+c.set+` WHERE id = $1`, id)
			if !strings.Contains(got.Message, c.message) {
				t.Errorf("got %q, want %q", got.Message, c.message)
			}
			if r := one[int](t, db, `SELECT revision FROM scheduler.campaigns WHERE id = $1`, id); r != 1 {
				t.Errorf("revision %d after a refused change", r)
			}
		})
	}
}

func TestUpdateRaisesTheRevision(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	for _, c := range []struct {
		set  string
		want int
	}{
		{`request = '{"a": 1}'`, 2},
		{`request = '{"a": 1}'`, 2}, // says the same
		{`status = 'paused'`, 3},
		{`status = 'active'`, 4},
		{`name = 'other', resend_unknown = true`, 5},
		{`catch_up_window = '2 hours'`, 6},
		{`catch_up_window = '120 minutes'`, 6},
		{`revision = 100, created_by = 'somebody'`, 6},
		{`catch_up_window = NULL`, 7},
		{`strategy_content = strategy_content || '{"time": "13:00:00"}'`, 8},
		{`status = 'cancelled'`, 9},
	} {
		run(t, db, `UPDATE scheduler.campaigns SET `+c.set+` WHERE id = $1`, id)
		if got := one[int](t, db, `SELECT revision FROM scheduler.campaigns WHERE id = $1`, id); got != c.want {
			t.Errorf("after %s: revision %d, want %d", c.set, got, c.want)
		}
	}
	if !one[bool](t, db, `SELECT created_by = current_user FROM scheduler.campaigns WHERE id = $1`, id) {
		t.Error("created_by was overwritten")
	}
	actions := one[[]string](t, db, `SELECT array_agg(action || ' ' || revision || CASE WHEN strategy_ended THEN ' ended' ELSE '' END ORDER BY id)
		FROM scheduler.campaign_history WHERE campaign_id = $1`, id)
	want := []string{"update 1", "pause 2", "resume 3", "update 4", "update 5", "update 6", "update 7 ended", "cancel 8 ended"}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if !one[bool](t, db, `SELECT bool_and(changed_by = current_user AND before ->> 'name' IS NOT NULL) FROM scheduler.campaign_history WHERE campaign_id = $1`, id) {
		t.Error("the audit does not name the author")
	}
}

// asDaemon runs a statement as the engine does.
func asDaemon(t *testing.T, db *pgtest.DB, sql string, args ...any) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL scheduler.daemon = 'on'`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatusTransitions(t *testing.T) {
	t.Parallel()
	db := surface(t)
	const refuse = ""
	for _, c := range []struct{ from, set, want string }{
		{"active", `status = 'paused'`, "paused"},
		{"paused", `status = 'active'`, "active"},
		{"paused", `request = '{"a": 1}'`, "paused"},
		{"active", `status = 'cancelled'`, "cancelled"},
		{"paused", `status = 'cancelled'`, "cancelled"},
		{"cancelled", `status = 'active'`, refuse},
		{"cancelled", `status = 'paused'`, refuse},
		{"cancelled", `request = '{"a": 1}'`, refuse},
		{"cancelled", `status = 'cancelled'`, "cancelled"},
		{"finished", `status = 'active'`, refuse},
		{"finished", `status = 'paused'`, refuse},
		{"finished", `status = 'cancelled'`, "cancelled"},
		{"finished", `strategy_content = strategy_content || '{"time": "13:00:00"}'`, "active"},
		{"rejected", `status = 'active'`, refuse},
		{"rejected", `status = 'cancelled'`, "cancelled"},
		{"rejected", `request = '{"a": 1}'`, "active"},
		{"rejected", `request = '{"a": 1}', status = 'active'`, "active"},
		{"rejected", `request = '{"a": 1}', status = 'paused'`, "paused"},
	} {
		t.Run(c.from+" "+c.set, func(t *testing.T) {
			t.Parallel()
			id := campaign(t, db)
			switch c.from {
			case "finished", "rejected":
				asDaemon(t, db, `UPDATE scheduler.campaigns SET status = $2, status_reason = CASE WHEN $2 = 'rejected' THEN 'why' END WHERE id = $1`, id, c.from)
			default:
				run(t, db, `UPDATE scheduler.campaigns SET status = $2 WHERE id = $1`, id, c.from)
			}
			update := `UPDATE scheduler.campaigns SET ` + c.set + ` WHERE id = $1`
			if c.want == refuse {
				if got := refused(t, db, update, id); !strings.HasPrefix(got.Message, "status: ") {
					t.Errorf("message %q", got.Message)
				}
				return
			}
			run(t, db, update, id)
			if got := one[string](t, db, `SELECT status || coalesce(' ' || status_reason, '') FROM scheduler.campaigns WHERE id = $1`, id); got != c.want {
				t.Errorf("status %q, want %q", got, c.want)
			}
		})
	}
}

// backdate makes a campaign look as if it had been written long ago.
func backdate(t *testing.T, db *pgtest.DB, id int64) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`) // no triggers
		if err != nil {
			return err
		}
		start := time.Date(2021, 3, 1, 0, 0, 0, 0, time.UTC)
		_, err = tx.Exec(t.Context(), `UPDATE scheduler.campaigns SET written_at = $2, strategy_content = strategy_content || $3 WHERE id = $1`,
			id, start, fmt.Sprintf(`{"startTime": %d, "endTime": %d}`, start.UnixMilli(), start.AddDate(0, 0, 30).UnixMilli()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateThatLeavesTheStrategyAloneIsNotJudgedByToday(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	backdate(t, db, id)
	run(t, db, `UPDATE scheduler.campaigns SET request = '{"a": 1}' WHERE id = $1`, id)
	if !one[bool](t, db, `SELECT written_at < '2022-01-01' FROM scheduler.campaigns WHERE id = $1`, id) {
		t.Error("written_at moved")
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'paused' WHERE id = $1`, id)
	got := refused(t, db, `UPDATE scheduler.campaigns SET time_zone = 'Asia/Tokyo' WHERE id = $1`, id)
	if !strings.Contains(got.Message, "startTime: must not lie before today") {
		t.Errorf("a changed strategy is judged by today, got %q", got.Message)
	}
}

func TestBulkInserts(t *testing.T) {
	t.Parallel()
	db := surface(t)
	run(t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
		SELECT 'n' || g, 'hook', 'webhook', 2, $1 FROM generate_series(1, 1000) g`, loop(5))
	columns := []string{"name", "app_id", "channel", "strategy_type", "strategy_content"}
	n, err := db.CopyFrom(t.Context(), pgx.Identifier{"scheduler", "campaigns"}, columns,
		pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
			return []any{fmt.Sprint("c", i), "hook", "webhook", int16(2), []byte(loop(5))}, nil
		}))
	if err != nil || n != 1000 {
		t.Fatalf("copied %d: %v", n, err)
	}
	if got := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_changes c JOIN scheduler.campaigns k ON k.id = c.campaign_id AND k.app_no = c.app_no`); got != 2000 {
		t.Errorf("%d changes for the planner, want 2000", got)
	}
	_, err = db.CopyFrom(t.Context(), pgx.Identifier{"scheduler", "campaigns"}, columns,
		pgx.CopyFromRows([][]any{{"good", "hook", "webhook", int16(2), []byte(loop(5))}, {"bad", "hook", "webhook", int16(2), []byte(loop(200))}}))
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "23514" || !strings.Contains(pg.Message, "endTime: must lie at most 180 days") {
		t.Errorf("COPY of a bad row: %v", err)
	}
}

func TestEverythingIsDocumented(t *testing.T) {
	t.Parallel()
	db := surface(t)
	rows, _ := db.Query(t.Context(), `
		SELECT c.relname || coalesce('.' || a.attname, '')
		  FROM pg_class c
		  LEFT JOIN LATERAL (SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
		                     UNION ALL SELECT NULL, 0) a ON true
		 WHERE c.relnamespace IN ('scheduler'::regnamespace) AND c.relkind IN ('r', 'v', 'm', 'p')
		   AND c.relname <> 'schema_migrations' -- golang-migrate's
		   AND coalesce(col_description(c.oid, a.attnum), CASE WHEN a.attnum = 0 THEN obj_description(c.oid, 'pg_class') END, '') = ''
		UNION ALL
		SELECT p.proname || '()' FROM pg_proc p WHERE p.pronamespace = 'scheduler'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
		 ORDER BY 1`)
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Errorf("without a comment: %s", strings.Join(missing, ", "))
	}
}

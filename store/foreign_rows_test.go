package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What authors are told of other people's rows, however they ask: nothing.

// listener is a connection of the role that keeps the server's notices.
func (p people) listener(t *testing.T, role string, notices *[]string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(p.urlOf(t, role))
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *notices = append(*notices, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// authorsColumns are all columns of all relations that authors may read, from the
// catalog, so that what a later migration makes is among them.
func (p people) authorsColumns(t *testing.T) map[string][]string {
	t.Helper()
	rows, err := p.db.Query(t.Context(), `
		SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname)
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		 WHERE n.nspname IN ('scheduler', 'audience') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
		   AND has_column_privilege('scheduler_author', c.oid, a.attnum, 'SELECT') ORDER BY 1, a.attnum`)
	if err != nil {
		t.Fatal(err)
	}
	columns := map[string][]string{}
	var relation, column string
	if _, err := pgx.ForEachRow(rows, []any{&relation, &column}, func() error {
		columns[relation] = append(columns[relation], column)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return columns
}

// shared are relations that belong to no app.
var shared = []string{"scheduler.channels", "scheduler.time_zones"}

// TestNoExpressionSeesAForeignRow puts a cheap function that tells what it is
// shown into an author's condition, for every column that an author may read. It
// must be shown what the author can select, as often, and nothing else.
func TestNoExpressionSeesAForeignRow(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, fmt.Sprintf(`CREATE SCHEMA authors AUTHORIZATION %s`, p.names["author"]))
	p.exec(t, `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota) SELECT app_no, 'webhook', now(), 5 FROM scheduler.apps;
		INSERT INTO scheduler.app_quotas (app_no, channel, weekly_quota) SELECT app_no, 'webhook', 5 FROM scheduler.apps;
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, reason)
		SELECT id + 30, app_no, id, 1, 1, 'scheduled', 'missed', '1999-01-05', 0, 0, 0, 0, 'why ' || app_id FROM scheduler.campaigns;
		SELECT scheduler.grant_app('theirs', '', '`+p.names["stranger"]+`')`)
	p.exec(t, `ANALYZE`)
	var notices []string
	conn := p.listener(t, "author", &notices)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`CREATE FUNCTION authors.tell(word text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
		BEGIN RAISE NOTICE 'shown %', word; RETURN true; END $$`)
	columns := p.authorsColumns(t)
	if len(columns["scheduler.deliveries"]) == 0 || len(columns["scheduler.campaign_targets"]) == 0 {
		t.Fatalf("authors read %v", columns)
	}
	for _, plan := range []string{`SET enable_seqscan = on`, `SET enable_seqscan = off`} {
		exec(plan)
		for relation, names := range columns {
			if slices.Contains(shared, relation) {
				continue
			}
			for _, column := range names {
				selected := func() []string {
					rows, _ := conn.Query(t.Context(), fmt.Sprintf(`SELECT 'shown ' || coalesce(%s::text, '<NULL>') FROM %s`, column, relation))
					values, err := pgx.CollectRows(rows, pgx.RowTo[string])
					if err != nil {
						t.Fatal(err)
					}
					slices.Sort(values)
					return values
				}
				want := selected()
				notices = nil
				exec(fmt.Sprintf(`SELECT FROM %s WHERE authors.tell(%s::text)`, relation, column))
				got := slices.Clone(notices)
				slices.Sort(got)
				if !slices.Equal(want, got) && !slices.Equal(want, selected()) { // a clock: it is another at each moment
					got, want = make([]string, len(got)), make([]string, len(want))
				}
				if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
					t.Errorf("%s.%s, %s (-selected +shown):\n%s", relation, column, plan, diff)
				}
			}
		}
	}
}

// TestFailingCastTellsNoForeignTarget is the statement that was found.
func TestFailingCastTellsNoForeignTarget(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, `INSERT INTO scheduler.slice_targets (slice_id, targets)
		SELECT id, ARRAY[CASE campaign_id WHEN 1000002 THEN 'btarget-54' ELSE '7' END] FROM scheduler.slices`)
	if _, state := try(t, p.connect(t, "author"), `SELECT 1 FROM scheduler.deliveries WHERE targets[1]::int = 1`); state != "" {
		t.Errorf("SQLSTATE %s: the target of another app was cast", state)
	}
}

// told is all that an author hears of a statement's failure, with what the
// statement itself names taken out.
func told(t *testing.T, conn *pgx.Conn, sql string, names ...string) string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '3s'`); err != nil {
		t.Fatal(err)
	}
	tag, err := tx.Exec(t.Context(), sql)
	text := fmt.Sprintf("%d rows", tag.RowsAffected())
	if err != nil {
		pg, ok := err.(*pgconn.PgError) //nolint:errorlint // the driver's own error, as it comes
		if !ok {
			t.Fatal(err)
		}
		text = strings.Join([]string{pg.Code, pg.Message, pg.Detail, pg.Hint, pg.SchemaName, pg.TableName, pg.ColumnName, pg.ConstraintName, pg.Where}, "\n")
	}
	for _, name := range names {
		text = strings.ReplaceAll(text, name, "X")
	}
	return text
}

// TestNotYoursIsNotThere compares what an author is told of somebody else's
// campaign or app with what they are told of none: it must be the same text, and
// a refusal, whatever the form of the statement, and whatever other people's
// transactions hold.
func TestNotYoursIsNotThere(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, `UPDATE scheduler.apps SET time_zone = 'Pacific/Kiritimati' WHERE app_id = 'theirs'`)
	p.exec(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'theirs', 'webhook', 'token')`)
	// Somebody holds the foreign rows, and has written others that are not committed.
	holder := p.connect(t, "admin")
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{
		`UPDATE scheduler.campaigns SET name = 'held' WHERE id = 1000002`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000002, 'uncommitted')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'theirs', 'webhook', 'uncommitted')`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	version := one[int](t, p.db, `SELECT current_setting('server_version_num')::int`)
	conn := p.connect(t, "author")
	for _, sql := range []string{
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'b')`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'not a target')`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'uncommitted')`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'b') ON CONFLICT DO NOTHING`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'uncommitted') ON CONFLICT DO NOTHING`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'b') ON CONFLICT (campaign_id, target) DO NOTHING`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'b') ON CONFLICT (campaign_id, target) DO UPDATE SET msg_key = 'x'`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, 'b') RETURNING target`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, repeat('x', 5000))`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (ID, '')`,
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 'c' FROM scheduler.campaigns UNION ALL SELECT ID, 'b'`,
		`WITH c AS (INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'mine', 'webhook') RETURNING id)
		 INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 'x' FROM c UNION ALL SELECT ID, 'b'`,
		`MERGE INTO scheduler.campaign_targets t USING (VALUES (ID::bigint, 'b')) v (c, target) ON t.campaign_id = v.c AND t.target = v.target
		 WHEN NOT MATCHED THEN INSERT (campaign_id, target) VALUES (v.c, v.target)`,
		`COPY scheduler.campaign_targets (campaign_id, target) FROM STDIN -- ID`,
		`UPDATE scheduler.campaign_targets SET campaign_id = ID, target = 'b'`,
		`UPDATE scheduler.campaign_targets SET campaign_id = ID, target = 'uncommitted'`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'APP', 'webhook')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'APP', 'webhook') ON CONFLICT DO NOTHING`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'APP', 'mpaas.push_simple')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel) VALUES ('n', 'APP', 'webhook.nothing')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, request) VALUES ('', 'APP', 'webhook', '[]')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'APP', 'webhook', 'token')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'APP', 'webhook', 'token') ON CONFLICT DO NOTHING`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'APP', 'webhook', 'uncommitted') ON CONFLICT DO NOTHING`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'APP', 'webhook', 'token')
		 ON CONFLICT (app_id, workspace_id, client_token) DO UPDATE SET name = 'x'`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content) SELECT 'n', 'APP', 'webhook', 2,
		 jsonb_build_object('startTime', scheduler.unix_ms(now() - interval '14 hours'), 'endTime', scheduler.unix_ms(now() + interval '90 days'), 'circleType', 1, 'time', '12:00:00')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content) SELECT 'n', 'APP', 'webhook', 2,
		 jsonb_build_object('startTime', scheduler.unix_ms(now()), 'endTime', scheduler.unix_ms(now() + interval '180 days'), 'circleType', 1, 'time', '12:00:00')`,
		`INSERT INTO scheduler.campaigns (name, app_id, channel, time_zone, strategy_type, strategy_content) VALUES ('n', 'APP', 'webhook', 'UTC', 2, '{"startTime": 1}')`,
		`UPDATE scheduler.campaigns SET app_id = 'APP' WHERE id = 1000001`,
		`INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (ID, 'n', 'mine', 'webhook')`,
		`INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (ID, 'n', 'mine', 'webhook') ON CONFLICT DO NOTHING`,
	} {
		if strings.HasPrefix(sql, "MERGE") && version < 150000 {
			continue
		}
		ask := func(id, app string) string {
			return told(t, conn, strings.ReplaceAll(strings.ReplaceAll(sql, "ID", id), "APP", app), id, app)
		}
		theirs, nobodys := ask("1000002", "theirs"), ask("1234567", "nobody")
		if diff := cmp.Diff(nobodys, theirs); diff != "" {
			t.Errorf("%s (-there is none +not yours):\n%s", sql, diff)
		}
		if strings.HasSuffix(theirs, "rows") {
			t.Errorf("%s: %s, want a refusal", sql, theirs)
		}
		if strings.HasPrefix(theirs, "55P03") {
			t.Errorf("%s: waits for another's lock", sql)
		}
	}
}

// TestAuthorsSeeTheirOwnGrantsOnly looks who else may use an app.
func TestAuthorsSeeTheirOwnGrantsOnly(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, fmt.Sprintf(`SELECT scheduler.grant_app('mine', '', '%[1]s'), scheduler.grant_app('theirs', '', '%[1]s')`, p.names["stranger"]))
	for role, want := range map[string]int64{"author": 1, "reader": 3, "admin": 3, "daemon": 3} {
		if rows, state := try(t, p.connect(t, role), `SELECT FROM scheduler.app_grants`); rows != want || state != "" {
			t.Errorf("%s sees %d grants (SQLSTATE %q), want %d", role, rows, state, want)
		}
	}
}

// TestReadingIsNotWriting: who may read every app may not write to one that was
// not granted.
func TestReadingIsNotWriting(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, fmt.Sprintf(`GRANT scheduler_reader TO %s`, p.names["author"]))
	conn := p.connect(t, "author")
	for sql, want := range map[string]string{
		fmt.Sprintf(insertCampaign, "theirs"):                                                     "23514",
		`INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000002, 'new')`:    denied,
		`UPDATE scheduler.campaign_targets SET campaign_id = 1000002 WHERE campaign_id = 1000001`: denied,
	} {
		if _, state := try(t, conn, sql); state != want {
			t.Errorf("%s: SQLSTATE %q, want %q", sql, state, want)
		}
	}
	for _, sql := range []string{`UPDATE scheduler.campaigns SET status = 'paused' WHERE id = 1000002`, `UPDATE scheduler.campaign_targets SET msg_key = 'x' WHERE campaign_id = 1000002`} {
		if rows, state := try(t, conn, sql); rows != 0 || state != "" {
			t.Errorf("%s: %d rows, SQLSTATE %q; want none", sql, rows, state)
		}
	}
	if rows, _ := try(t, conn, `SELECT FROM scheduler.campaigns`); rows != 2 {
		t.Errorf("a reader sees %d campaigns, want 2", rows)
	}
}

// TestCampaignAndTargetsInOneStatement: the policy sees the campaign that the
// same statement has written.
func TestCampaignAndTargetsInOneStatement(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	rows, state := try(t, p.connect(t, "author"), `WITH c AS (`+fmt.Sprintf(insertCampaign, "mine")+` RETURNING id)
		INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 'user-' || n FROM c, generate_series(1, 1000) n ON CONFLICT DO NOTHING`)
	if rows != 1000 || state != "" {
		t.Errorf("%d rows, SQLSTATE %q; want 1000", rows, state)
	}
}

// TestForgedSettingOpensNoApp writes what the look-up of an app keeps: a row for
// somebody else's app must not come in, nor tell whether its token is taken.
func TestForgedSettingOpensNoApp(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, `INSERT INTO scheduler.campaigns (name, app_id, channel, client_token) VALUES ('n', 'theirs', 'webhook', 'token');
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('m', 'mpaas')`)
	mine := one[string](t, p.db, `SELECT app_no::text FROM scheduler.apps WHERE app_id = 'mine'`)
	theirs := one[string](t, p.db, `SELECT app_no::text FROM scheduler.apps WHERE app_id = 'theirs'`)
	for _, c := range []struct{ role, key, app, zone, provider, channel, name, token string }{
		{"author", `theirs\n`, mine, "UTC", "webhook", "webhook", "theirs", "token"},
		{"author", `theirs\n`, mine, "UTC", "webhook", "webhook", "theirs", "free"},
		{"author", `theirs\n`, theirs, "UTC", "webhook", "webhook", "theirs", "free"},
		{"author", `mine\n`, theirs, "UTC", "webhook", "webhook", "mine", "free"},
		{"author", `mine\n`, mine, "UTC", "mpaas", "mpaas.push_simple", "mine", "free"},
		{"admin", `mine\n`, theirs, "UTC", "webhook", "webhook", "mine", "free"},
	} {
		sql := fmt.Sprintf(`INSERT INTO scheduler.campaigns (name, app_id, channel, client_token)
			SELECT 'n', CASE WHEN set_config('scheduler.loading', E'%s', true) || set_config('scheduler.loading_app', '%s', true)
			  || set_config('scheduler.loading_zone', '%s', true) || set_config('scheduler.loading_provider', '%s', true) <> '' THEN '%s' END, '%s', '%s' ON CONFLICT DO NOTHING`,
			c.key, c.app, c.zone, c.provider, c.name, c.channel, c.token)
		if _, state := try(t, p.connect(t, c.role), sql); state != denied && state != "23514" {
			t.Errorf("%+v: SQLSTATE %q, want a refusal", c, state)
		}
	}
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

const denied = "42501" // insufficient_privilege, row-level security included

// people are a database with two apps, and somebody of each role. The author is
// granted the app "mine" and not the app "theirs", which has one campaign each.
type people struct {
	db    *pgtest.DB
	names map[string]string // role to the login that has it
}

func newPeople(t *testing.T) people {
	t.Helper()
	p := people{db: pgtest.New(t), names: map[string]string{}}
	for _, role := range []string{"admin", "daemon", "author", "reader", "stranger"} {
		name := p.db.Role(t, role, `LOGIN PASSWORD 'secret'`)
		p.names[role] = name
		if role != "stranger" {
			p.exec(t, fmt.Sprintf(`GRANT scheduler_%s TO %s`, role, name))
		}
	}
	p.exec(t, `
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('mine', 'webhook'), ('theirs', 'webhook');
		INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('open', 'UTC', '{1,2,3,4,5,6,7}');
		INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', '2027-01-01');
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, strategy_content)
		SELECT n, app_id, app_id, 'webhook', 1, '{"fixedTime": 4102444800000}' FROM (VALUES (1000001, 'mine'), (1000002, 'theirs')) v (n, app_id);
		INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000001, 'a'), (1000002, 'b');
		INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT app_no, 1, id, 1, 'scheduled', 'epoch', 'epoch' FROM scheduler.campaigns;
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT id, app_no, id, 1, 1, 'scheduled', 'unknown', '1999-01-01', '1999-01-01', 1, 1, 0, 1, 'lost' FROM scheduler.campaigns;
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
		SELECT id + 10, app_no, id, 1, 'scheduled', '1999-01-02', '1999-01-02', 1, 1 FROM scheduler.campaigns;
		INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at)
		SELECT id + 10, 1, app_no, id, '1999-01-02' FROM scheduler.campaigns;
		INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
		SELECT 1, array_agg(id + 20), array_agg(app_no), array_agg(id), array_agg(1), array_agg('scheduled'::scheduler.task_origin), array_agg(timestamptz '1999-01-03')
		  FROM scheduler.campaigns;
		UPDATE scheduler.campaigns SET name = name || '!';
		CREATE TABLE public.members (name text);
		CREATE VIEW audience.members AS SELECT name AS target, NULL::jsonb AS template_key_value, NULL::jsonb AS extended_params FROM public.members;
		GRANT SELECT ON audience.members TO scheduler_daemon;`)
	p.exec(t, fmt.Sprintf(`SELECT scheduler.grant_app('mine', '', '%s')`, p.names["author"]))
	return p
}

func (p people) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := p.db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// urlOf is the database's URL for the login that has the role.
func (p people) urlOf(t *testing.T, role string) string {
	t.Helper()
	return p.db.URLAs(t, p.names[role], "secret")
}

func (p people) connect(t *testing.T, role string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.urlOf(t, role))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// try runs a statement and takes it back; it returns the rows it touched or
// showed, or its SQLSTATE.
func try(t *testing.T, conn *pgx.Conn, sql string) (rows int64, state string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	tag, err := tx.Exec(t.Context(), sql)
	if err != nil {
		pg, ok := err.(*pgconn.PgError) //nolint:errorlint // the driver's own error, as it comes
		if !ok {
			t.Fatal(err)
		}
		return 0, pg.Code
	}
	return tag.RowsAffected(), ""
}

const insertCampaign = `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content)
	VALUES ('new', '%s', 'webhook', 1, '{"fixedTime": 4102444800000}')`

// TestRoles connects as each role and tries what it is for and what it must not.
func TestRoles(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	mine, theirs := fmt.Sprintf(insertCampaign, "mine"), fmt.Sprintf(insertCampaign, "theirs")
	type trial struct {
		sql   string
		state string // "" : it must work
		rows  int64
	}
	trials := map[string][]trial{
		"author": {
			{sql: `SELECT FROM scheduler.campaigns`, rows: 1},
			{sql: `SELECT FROM scheduler.campaign_targets`, rows: 1},
			{sql: `SELECT FROM scheduler.campaign_history`, rows: 1},
			{sql: `SELECT FROM scheduler.apps`, rows: 1},
			{sql: `SELECT FROM scheduler.tasks`, rows: 4},
			{sql: `SELECT FROM scheduler.tasks WHERE app_id = 'theirs' OR campaign LIKE 'theirs%'`, rows: 0},
			{sql: `SELECT FROM scheduler.deliveries`, rows: 3},
			{sql: `SELECT FROM scheduler.upcoming`, rows: 1},
			{sql: `SELECT FROM scheduler.unresolved`, rows: 1},
			{sql: `SELECT FROM scheduler.app_usage`, rows: 1},
			{sql: mine, rows: 1},
			{sql: mine + ` RETURNING id`, rows: 1},
			{sql: `WITH new AS (` + mine + ` RETURNING id) INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 'x' FROM new`, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET name = 'x'`, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET times = '{09:00:00}'`, rows: 1},
			{sql: `SELECT FROM scheduler.calendars`, rows: 1},
			{sql: `SELECT FROM scheduler.calendar_days`, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET calendar = 'open'`, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET calendar_closed = '{}'`, state: denied},
			{sql: `INSERT INTO scheduler.calendars (name) VALUES ('mine')`, state: denied},
			{sql: `INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', '2027-01-02')`, state: denied},
			{sql: `UPDATE scheduler.calendar_days SET open = true`, state: denied},
			{sql: `SELECT scheduler.delete_calendar('open')`, state: denied},
			{sql: `SELECT scheduler.delete_calendar_days('open', '{2027-01-01}')`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET status = 'paused'`, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET status = 'cancelled'`, rows: 1},
			{sql: `SELECT scheduler.delete_campaign(id) FROM scheduler.campaigns`, rows: 1},
			{sql: `DELETE FROM scheduler.campaigns`, state: denied}, // who may delete from a table may lock it
			{sql: `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000001, 'c')`, rows: 1},
			{sql: `UPDATE scheduler.campaign_targets SET msg_key = 'x'`, rows: 1},
			{sql: `SELECT scheduler.delete_targets(1000001, '{a}')`, rows: 1},
			{sql: `SELECT * FROM scheduler.strategy_problems(1::smallint, '{}', 'UTC', 'skip', 'shift', '1 hour', now())`, rows: 1},

			{sql: theirs, state: "23514"}, // an app that the author cannot see
			{sql: `UPDATE scheduler.campaigns SET app_id = 'theirs'`, state: "23514"},                                  // an app cannot change
			{sql: `UPDATE scheduler.campaigns SET name = 'x' WHERE id = 1000002`, rows: 0},                             // no such row for the author
			{sql: `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000002, 'c')`, state: denied}, // nor for its targets
			{sql: `UPDATE scheduler.campaign_targets SET campaign_id = 1000002`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET status = 'finished'`, state: "23514"},
			{sql: `SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'finished'`, state: "23514"}, // to say so does not make one a daemon
			{sql: `SET LOCAL ROLE scheduler_daemon`, state: denied},
			{sql: `INSERT INTO scheduler.campaigns (id, name, app_id, channel) VALUES (7, 'x', 'mine', 'webhook')`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET revision = 9`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET created_by = 'x'`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET app_no = 2`, state: denied},
			{sql: `TRUNCATE scheduler.campaigns CASCADE`, state: denied},
			{sql: `UPDATE scheduler.apps SET pending_limit = 1000000`, state: denied},
			{sql: `INSERT INTO scheduler.app_grants (app_no, role) SELECT 2, current_user`, state: denied},
			{sql: `SELECT scheduler.grant_app('mine', '', current_user)`, state: denied},
			{sql: `SELECT FROM scheduler.pending_tasks`, state: denied},
			{sql: `DELETE FROM scheduler.pending_tasks`, state: denied},
			{sql: `SELECT FROM scheduler.claims`, state: denied},
			{sql: `SELECT FROM scheduler.claimed_tasks`, state: denied},
			{sql: `SELECT FROM scheduler.running_tasks`, state: denied},
			{sql: `SELECT FROM scheduler.slices`, state: denied},
			{sql: `SELECT FROM scheduler.decided_tasks`, state: denied},
			{sql: `DELETE FROM scheduler.campaign_history`, state: denied},
			{sql: `DELETE FROM scheduler.tasks`, state: "55000"},
			{sql: `SELECT FROM scheduler.daemons`, state: denied},
			{sql: `SELECT FROM scheduler.quota_uses`, state: denied},
			{sql: `SELECT FROM scheduler.held`, state: denied},
			{sql: `SELECT FROM scheduler.rulings`, state: denied},
			{sql: `SELECT FROM scheduler.hold`, state: denied},
			{sql: `SELECT scheduler.database_place()`, state: denied},
			{sql: `SELECT scheduler.trigger_campaign(1000001)`, state: denied},
			{sql: `SELECT scheduler.resolve_task(1000001, true)`, state: denied},
			{sql: `SELECT scheduler.release_hold()`, state: denied},
			{sql: `SELECT scheduler.hold_pushes('all of it')`, state: denied},
			{sql: `SELECT scheduler.set_schema_version(1)`, state: denied},
			{sql: `SELECT FROM audience.members`, state: denied},
			{sql: `CREATE VIEW audience.mine AS SELECT 'x' AS target`, state: denied}, // its functions would run as the daemon
			{sql: `CREATE TABLE scheduler.x ()`, state: denied},
			{sql: `CREATE TRIGGER x AFTER INSERT ON scheduler.campaigns EXECUTE FUNCTION scheduler.campaigns_inserted()`, state: denied},
			// A trigger of one's own on rows of one's own making must not do the owner's work.
			{sql: `CREATE TEMP TABLE forged (LIKE scheduler.campaigns);
			       CREATE TRIGGER x AFTER DELETE ON forged FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_deleted()`, state: denied},
			{sql: `SELECT scheduler.withdraw_tasks(c, 'x', false, true) FROM scheduler.campaigns c`, state: denied},
		},
		"reader": {
			{sql: `SELECT FROM scheduler.campaigns`, rows: 2},
			{sql: `SELECT FROM scheduler.campaign_targets`, rows: 2},
			{sql: `SELECT FROM scheduler.tasks`, rows: 8},
			{sql: `SELECT FROM scheduler.deliveries`, rows: 6},
			{sql: `SELECT FROM scheduler.app_usage`, rows: 2},
			{sql: `SELECT FROM scheduler.pending_tasks`, rows: 2},
			{sql: `SELECT FROM scheduler.decided_tasks`, rows: 2},

			{sql: mine, state: denied},
			{sql: `UPDATE scheduler.campaigns SET status = 'paused'`, state: denied},
			{sql: `DELETE FROM scheduler.campaigns`, state: denied},
			{sql: `DELETE FROM scheduler.campaign_targets`, state: denied},
			{sql: `DELETE FROM scheduler.pending_tasks`, state: denied},
			{sql: `SELECT FROM scheduler.campaigns FOR SHARE`, state: denied}, // a lock would hold the daemon up
			{sql: `LOCK TABLE scheduler.campaigns IN SHARE MODE`, state: denied},
			{sql: `SELECT nextval('scheduler.task_ids')`, state: denied},
			{sql: `SELECT scheduler.trigger_campaign(1000001)`, state: denied},
			{sql: `SELECT scheduler.resolve_task(1000001, true)`, state: denied},
			{sql: `INSERT INTO scheduler.app_grants (app_no, role) SELECT 2, current_user`, state: denied},
			{sql: `SELECT FROM audience.members`, state: denied},
			{sql: `SELECT FROM public.members`, state: denied},
		},
		"daemon": {
			{sql: `SELECT FROM scheduler.campaigns`, rows: 2},
			{sql: `SELECT FROM scheduler.campaigns FOR SHARE`, rows: 2},
			{sql: `SELECT FROM scheduler.tasks`, rows: 8},
			{sql: `SELECT FROM audience.members`, rows: 0},
			{sql: `DELETE FROM scheduler.pending_tasks`, rows: 2},
			{sql: `SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'finished'`, rows: 2},
			{sql: `SELECT FROM scheduler.calendar_days`, rows: 1},
			{sql: `INSERT INTO scheduler.calendars (name) VALUES ('mine')`, state: denied},
			{sql: `UPDATE scheduler.calendar_days SET open = true`, state: denied},
			{sql: `DELETE FROM scheduler.calendar_days`, state: denied},
			{sql: `SELECT scheduler.delete_calendar('open')`, state: denied},

			{sql: `UPDATE scheduler.campaigns SET status = 'paused'`, state: denied}, // the engine sets what is the engine's, and nothing else
			{sql: `SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'cancelled'`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET status = 'finished'`, state: "23514"},
			{sql: mine, state: denied},
			{sql: `UPDATE scheduler.campaigns SET request = '{}'`, state: denied},
			{sql: `DELETE FROM scheduler.campaigns`, state: denied},
			{sql: `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES (1000001, 'c')`, state: denied},
			{sql: `DELETE FROM scheduler.campaign_targets`, state: denied},
			{sql: `DELETE FROM scheduler.campaign_history`, state: denied},
			{sql: `INSERT INTO scheduler.app_grants (app_no, role) SELECT 2, current_user`, state: denied},
			{sql: `SELECT FROM public.members`, state: denied}, // only what a view in audience shows
			{sql: `CREATE VIEW audience.mine AS SELECT 'x' AS target`, state: denied},
			{sql: `CREATE TABLE scheduler.x ()`, state: denied},
			{sql: `SELECT scheduler.set_schema_version(1)`, state: denied},
			{sql: `TRUNCATE scheduler.decided_tasks`, state: denied},
			{sql: `DELETE FROM scheduler.rulings`, state: denied},
			{sql: `UPDATE scheduler.rulings SET note = 'x'`, state: denied},
			{sql: `INSERT INTO scheduler.triggered_tasks (task_id, campaign_id, triggered_by) VALUES (1, 1, 'x')`, state: denied},
			{sql: `SELECT FROM scheduler.held`, rows: 0},
			{sql: `SELECT FROM scheduler.database_place()`, rows: 1},
		},
		"admin": {
			{sql: `SELECT FROM scheduler.campaigns`, rows: 2},
			{sql: mine, rows: 1},
			{sql: theirs, rows: 1},
			{sql: `UPDATE scheduler.campaigns SET status = 'paused'`, rows: 2},
			{sql: `SELECT scheduler.delete_campaign(1000002)`, rows: 1},
			{sql: `DELETE FROM scheduler.campaigns WHERE id = 1000002`, state: denied},
			{sql: `INSERT INTO scheduler.apps (app_id, provider) VALUES ('third', 'webhook')`, rows: 1},
			{sql: `UPDATE scheduler.apps SET pending_limit = 50`, rows: 2},
			{sql: `SELECT scheduler.grant_app('theirs', '', 'scheduler_author')`, rows: 1},
			{sql: `SELECT scheduler.grant_app('theirs', '', 'nobody_of_this_name')`, state: "42704"},
			{sql: `SELECT scheduler.grant_app('nothing', '', 'scheduler_author')`, state: "P0002"},
			{sql: `SELECT scheduler.revoke_app('mine', '', '` + p.names["author"] + `')`, rows: 1},
			{sql: `CREATE VIEW audience.third AS SELECT 'x' AS target; GRANT SELECT ON audience.third TO scheduler_daemon`},
			{sql: `SELECT scheduler.trigger_campaign(1000002)`, rows: 1},
			{sql: `SELECT scheduler.trigger_campaign(1)`, state: "P0002"},
			{sql: `SELECT scheduler.resolve_task(1000001, true)`, rows: 1},
			{sql: `SELECT scheduler.resolve_task(1000001, false, true)`, rows: 1},
			{sql: `SELECT scheduler.resolve_task(1000001, true, true)`, state: "22023"},
			{sql: `SELECT scheduler.hold_pushes('too many'), scheduler.hold_skips_overdue(), scheduler.skip_overdue(1), scheduler.release_hold()`, rows: 1},

			{sql: `INSERT INTO scheduler.calendars (name, time_zone) VALUES ('mine', 'UTC')`, rows: 1},
			{sql: `UPDATE scheduler.calendars SET open_weekdays = '{1}'`, rows: 1},
			{sql: `INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', '2027-01-01') ON CONFLICT (calendar, day) DO UPDATE SET open = excluded.open`, rows: 1},
			{sql: `SELECT scheduler.delete_calendar('open')`, rows: 1},
			{sql: `SELECT scheduler.delete_calendar_days('open', '{2027-01-01}')`, rows: 1},
			{sql: `UPDATE scheduler.calendars SET updated_by = 'x'`, state: denied},
			{sql: `DELETE FROM scheduler.calendars`, state: denied},
			{sql: `UPDATE scheduler.campaigns SET calendar_closed = '{}'`, state: denied},
			{sql: `DELETE FROM scheduler.decided_tasks`, state: denied},
			{sql: `DELETE FROM scheduler.pending_tasks`, state: denied},
			{sql: `DELETE FROM scheduler.campaign_history`, state: denied},
			{sql: `UPDATE scheduler.hold SET released_by = 'x'`, state: denied},
			{sql: `UPDATE scheduler.rulings SET note = 'x'`, state: denied},
			{sql: `DELETE FROM scheduler.triggered_tasks`, state: denied},
			{sql: `SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'finished'`, state: "23514"},
			{sql: `SELECT scheduler.set_schema_version(1)`, state: denied},
		},
		"stranger": {
			{sql: `SELECT FROM scheduler.campaigns`, state: denied},
			{sql: `SELECT FROM scheduler.tasks`, state: denied},
			{sql: `SELECT FROM scheduler.time_zones`, state: denied},
			{sql: `SELECT scheduler.is_daemon()`, state: denied},
			{sql: `SELECT FROM audience.members`, state: denied},
			{sql: mine, state: denied},
		},
	}
	for role, list := range trials {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			conn := p.connect(t, role)
			for _, c := range list {
				rows, state := try(t, conn, c.sql)
				if state != c.state || (state == "" && rows != c.rows) {
					t.Errorf("%s\n  SQLSTATE %q and %d rows, want %q and %d", c.sql, state, rows, c.state, c.rows)
				}
			}
		})
	}
}

// TestOperatorNeedsNoMoreThanAdmin does an operator's work as a login that has
// no more than scheduler_admin, and looks who the audits say it was.
func TestOperatorNeedsNoMoreThanAdmin(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, `UPDATE scheduler.hold SET held_since = now(), reason = 'restored'`)
	s, err := store.Open(t.Context(), store.Config{URL: p.urlOf(t, "admin") + "&role=scheduler_admin", MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	task, _, err := s.Trigger(t.Context(), 1000001, "ann")
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Resolve(t.Context(), store.Ruling{TaskID: 1000001, Sent: true}); err != nil {
		t.Error(err)
	}
	// The pending task of each app from 1970, and the deliveries of their running ones.
	held, skipped, err := s.Release(t.Context(), true)
	if err != nil || !held || skipped != (store.Skipped{Missed: 5}) {
		t.Errorf("released %v, %d skipped, %v; want 5", held, skipped, err)
	}
	if _, err := s.SetCampaignStatus(t.Context(), 1000002, "paused"); err != nil {
		t.Error(err)
	}
	if _, err := s.Verify(t.Context(), store.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	for audit, query := range map[string]string{
		"rulings":         `SELECT ruled_by FROM scheduler.rulings`,
		"triggered_tasks": fmt.Sprintf(`SELECT triggered_by FROM scheduler.triggered_tasks WHERE task_id = %d AND operator = 'ann'`, task),
		"hold":            `SELECT released_by FROM scheduler.hold`,
	} {
		var who string
		if err := p.db.QueryRow(t.Context(), query).Scan(&who); err != nil || who != p.names["admin"] {
			t.Errorf("%s: %q, %v; want %q", audit, who, err, p.names["admin"])
		}
	}
}

// TestForeignAppNamesTheGrant looks what an author is told whose app was not
// granted: there is no such app, or an admin has to do something.
func TestForeignAppNamesTheGrant(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	_, err := p.connect(t, "author").Exec(t.Context(), fmt.Sprintf(insertCampaign, "theirs"))
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if want := fmt.Sprintf("SELECT scheduler.grant_app('theirs', '', '%s');", p.names["author"]); !ok || !strings.Contains(pg.Hint, want) {
		t.Errorf("%v, want a hint with %q", err, want)
	}
	s, err := store.Open(t.Context(), store.Config{URL: p.urlOf(t, "author"), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CheckSchema(t.Context()); !errors.Is(err, store.ErrMayNotRead) {
		t.Errorf("an author's commands: %v", err)
	}
}

// TestLeakyFunctionSeesNoForeignRow puts a function that tells what it is shown
// into an author's WHERE: it must be shown rows of the author's apps only.
func TestLeakyFunctionSeesNoForeignRow(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	p.exec(t, fmt.Sprintf(`CREATE SCHEMA authors AUTHORIZATION %s`, p.names["author"]))
	conn := p.connect(t, "author")
	_, err := conn.Exec(t.Context(), `
		CREATE FUNCTION authors.tell(word text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
		BEGIN IF word LIKE 'theirs%' THEN RAISE 'shown %', word; END IF; RETURN true; END $$`)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`SELECT FROM scheduler.campaigns WHERE authors.tell(name)`,
		`SELECT FROM scheduler.apps WHERE authors.tell(app_id)`,
		`SELECT FROM scheduler.tasks WHERE authors.tell(campaign) AND authors.tell(app_id)`,
		`SELECT FROM scheduler.upcoming WHERE authors.tell(campaign)`,
		`SELECT FROM scheduler.unresolved WHERE authors.tell(campaign)`,
		`SELECT FROM scheduler.missed WHERE authors.tell(campaign)`,
		`SELECT FROM scheduler.app_usage WHERE authors.tell(app_id)`,
		`SELECT FROM scheduler.quota_usage WHERE authors.tell(app_id)`,
	} {
		if _, state := try(t, conn, sql); state != "" {
			t.Errorf("%s: a row of another app was shown (SQLSTATE %s)", sql, state)
		}
	}
}

// TestTemporaryTypesDoNoOwnersWork gives types the names that functions with
// their owner's rights use: a check of an author's own must not run with those.
func TestTemporaryTypesDoNoOwnersWork(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	conn := p.connect(t, "author")
	for _, name := range []string{"text", "timestamptz", "jsonb", "name"} {
		_, err := conn.Exec(t.Context(), fmt.Sprintf(`
			CREATE FUNCTION pg_temp.tell(value pg_catalog.%[1]s) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN IF current_user <> session_user THEN RAISE 'runs as %%', current_user; END IF; RETURN true; END $$;
			CREATE DOMAIN pg_temp.%[1]s AS pg_catalog.%[1]s CHECK (pg_temp.tell(VALUE))`, name))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		fmt.Sprintf(insertCampaign, "mine"),
		`UPDATE scheduler.campaigns SET name = 'x'`,
		`UPDATE scheduler.campaigns SET strategy_content = '{"fixedTime": 4102444900000}'`,
		`UPDATE scheduler.campaigns SET status = 'paused'`,
		`UPDATE scheduler.campaigns SET status = 'cancelled'`,
		`SELECT scheduler.delete_campaign(id) FROM scheduler.campaigns`,
	} {
		if _, state := try(t, conn, sql); state != "" {
			t.Errorf("%s: an author's function ran with the owner's rights (SQLSTATE %s)", sql, state)
		}
	}
}

// TestTemporaryObjectsComeLast holds every function to come to the rule behind
// it: pg_temp is searched before all that a search_path names, unless it is named.
func TestTemporaryObjectsComeLast(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	rows, err := db.Query(t.Context(), `
		SELECT p.oid::regprocedure::text FROM pg_proc p LEFT JOIN LATERAL unnest(p.proconfig) s (setting) ON s.setting LIKE 'search_path=%'
		 WHERE p.pronamespace = 'scheduler'::regnamespace AND (p.prosecdef OR s.setting IS NOT NULL) AND s.setting NOT LIKE '%, pg_temp' IS NOT FALSE`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("the search_path of %s does not end with pg_temp", f)
	}
}

// TestPublicHasNothing looks for rights that everybody has, after all migrations.
func TestPublicHasNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	rows, err := db.Query(t.Context(), `
		SELECT 'schema ' || nspname FROM pg_namespace n, aclexplode(nspacl) x WHERE nspname IN ('scheduler', 'audience') AND x.grantee = 0
		UNION ALL
		SELECT 'function ' || p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) x
		 WHERE p.pronamespace = 'scheduler'::regnamespace AND x.grantee = 0
		UNION ALL
		SELECT 'relation ' || c.oid::regclass FROM pg_class c, aclexplode(relacl) x
		 WHERE c.relnamespace = 'scheduler'::regnamespace AND x.grantee = 0`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("PUBLIC has rights on %s", f)
	}
}

// TestAuthorsCannotCallOwnersFunctions holds every function to come to the rule:
// what runs with its owner's rights is none for authors and readers, but for
// those that ask whose the campaign is, or tell only of what the transaction itself
// has written.
func TestAuthorsCannotCallOwnersFunctions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	rows, err := db.Query(t.Context(), `
		SELECT p.oid::regprocedure::text FROM pg_proc p, (VALUES ('scheduler_author'), ('scheduler_reader')) r (role)
		 WHERE p.pronamespace = 'scheduler'::regnamespace AND (p.prosecdef OR p.prorettype = 'trigger'::regtype)
		   AND has_function_privilege(r.role, p.oid, 'EXECUTE')
		   AND NOT (r.role = 'scheduler_author' AND (p.prosrc LIKE '%scheduler.may_write(%' OR p.prosrc LIKE '%c.xmin = pg_current_xact_id()::xid%'))`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("authors or readers may call %s", f)
	}
}

// TestDaemonPolicyCostsNothing looks at the plan of a daemon's statement: no
// trace of row-level security may be in it.
func TestDaemonPolicyCostsNothing(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	rows, err := p.connect(t, "daemon").Query(t.Context(), `EXPLAIN (COSTS OFF) SELECT * FROM scheduler.campaigns c JOIN scheduler.campaign_targets t ON t.campaign_id = c.id WHERE c.id = 1`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range plan {
		if regexp.MustCompile(`InitPlan|SubPlan|visible_apps`).MatchString(line) {
			t.Errorf("the plan asks for rights: %s", line)
		}
	}
}

// TestDaemonWritesZoneRules keeps the table from those of which the daemon has no
// more than SELECT: it writes this one itself, with its own rights.
func TestDaemonWritesZoneRules(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	if _, err := p.connect(t, "daemon").Exec(t.Context(), `INSERT INTO scheduler.zone_rules (time_zone, rules, daemon, campaigns) VALUES ('UTC', 'x', 'd', 0)`); err != nil {
		t.Error(err)
	}
}

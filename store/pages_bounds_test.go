package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

const (
	pendingApps = 40
	pendingEach = 500
)

// newManyPending has apps with pending tasks each, one a minute from half an hour ago on,
// in a row: app 1 has what is due first. Some of those that are due wait for a quota, or
// for the end of quiet hours. Their ids are not in the order of their time.
func newManyPending(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	run(t, db, fmt.Sprintf(`
		SET session_replication_role = replica;
		INSERT INTO scheduler.channels (channel, provider, max_targets, weekly_quota) VALUES ('alipay.label_send', 'alipay', 0, 5), ('webhook', 'webhook', 100, 0)
			ON CONFLICT (channel) DO UPDATE SET weekly_quota = excluded.weekly_quota;
		INSERT INTO scheduler.apps (app_id, workspace_id, provider, pending_limit) SELECT 'a' || g, 'w' || g %% 2, CASE WHEN g %% 2 = 0 THEN 'alipay' ELSE 'webhook' END, 1000 FROM generate_series(1, %[1]d) g;
		INSERT INTO scheduler.campaigns (id, name, app_id, workspace_id, channel, strategy_type, time_zone, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT a.app_no, 'c', a.app_id, a.workspace_id, CASE a.provider WHEN 'alipay' THEN 'alipay.label_send' ELSE 'webhook' END, 0, 'UTC', a.app_no, now(), 'me', 'me', now(), now() FROM scheduler.apps a;
		INSERT INTO scheduler.pending_tasks (id, app_no, slot, campaign_id, revision, origin, due_at, ready_at, waits_for)
		SELECT (n * 7919) %% 1000003, a.app_no, k + 1, a.app_no, 1, 'scheduled', x.due, CASE WHEN x.waits THEN x.t + CASE WHEN k %% 2 = 0 THEN interval '7 hours' ELSE interval '40 seconds' END ELSE x.due END,
		       CASE WHEN x.waits THEN CASE WHEN k %% 2 = 0 THEN 'the end of quiet hours' ELSE 'quota' END END
		  FROM scheduler.apps a CROSS JOIN generate_series(0, %[2]d - 1) k
		 CROSS JOIN LATERAL (SELECT (row_number() OVER ())) y (z)
		 CROSS JOIN LATERAL (SELECT a.app_no * %[2]d + k AS n) m
		 CROSS JOIN LATERAL (SELECT now() AS t, now() - interval '30 minutes' + (k * %[1]d + a.app_no) * interval '3 seconds' AS due,
		                            a.provider = 'alipay' AND k %% 3 = 0 AND now() - interval '30 minutes' + (k * %[1]d + a.app_no) * interval '3 seconds' < now() AS waits) x;
		SET session_replication_role = origin;
		ALTER TABLE scheduler.pending_tasks SET (autovacuum_enabled = false);
		ANALYZE`, pendingApps, pendingEach))
	return db
}

// Whatever a page asks of pending tasks, it gets what is stored, those that wait for a
// quota where they are due.
func TestPendingTasksOfPages(t *testing.T) {
	t.Parallel()
	db := newManyPending(t)
	admin, author := db.Role(t, "admin", `LOGIN PASSWORD 'secret' IN ROLE scheduler_admin`), db.Role(t, "author", `LOGIN PASSWORD 'secret' IN ROLE scheduler_author`)
	run(t, db, fmt.Sprintf(`SELECT scheduler.grant_app(app_id, workspace_id, '%s') FROM scheduler.apps WHERE app_no <= 6`, author))
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	for _, who := range []string{admin, author} {
		s := opened(t, db.URLAs(t, who, "secret"))
		mine := `true`
		if who == author {
			mine = `app_no <= 6`
		}
		ids := func(where, order string, limit int, args ...any) []int64 {
			t.Helper()
			rows, _ := db.Query(t.Context(), fmt.Sprintf(`SELECT p.id FROM scheduler.pending_tasks p JOIN scheduler.apps a USING (app_no) WHERE %s AND %s ORDER BY %s LIMIT %d`, mine, where, order, limit), args...)
			out, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		for range 12 {
			f := store.Filter{Limit: 1 + random.IntN(60)}
			const where = `($1 IN ('', app_id) AND $2 IN ('', workspace_id) AND due_at >= $3 AND due_at < $4)`
			since, until := time.Unix(0, 0), time.Now().AddDate(1, 0, 0)
			if random.IntN(2) == 0 {
				f.AppID = fmt.Sprint("a", 1+random.IntN(8))
			}
			if random.IntN(3) == 0 {
				f.WorkspaceID = fmt.Sprint("w", random.IntN(2))
			}
			if random.IntN(2) == 0 {
				since = time.Now().Add(time.Duration(random.IntN(60)-30) * time.Minute).Truncate(time.Microsecond)
				f.Since = since
			}
			if random.IntN(2) == 0 {
				until = time.Now().Add(time.Duration(random.IntN(90)-20) * time.Minute).Truncate(time.Microsecond)
				f.Until = until
			}
			list, err := s.ListUpcoming(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			got := []int64{}
			for _, r := range list {
				got = append(got, r.TaskID)
			}
			if diff := cmp.Diff(ids(where, "due_at, id", f.Limit, f.AppID, f.WorkspaceID, since, until), got); diff != "" {
				t.Errorf("%s, %+v: next (-want +got):\n%s", who, f, diff)
			}
			f.Statuses = []string{"pending"}
			first := ids(where, "due_at DESC, id DESC", 2*f.Limit, f.AppID, f.WorkspaceID, since, until)
			got = pageOf(t, s, f, store.TaskCursor{})
			if diff := cmp.Diff(first[:min(len(first), f.Limit)], got); diff != "" {
				t.Errorf("%s, %+v: latest (-want +got):\n%s", who, f, diff)
			}
			if len(got) == f.Limit {
				last := one[time.Time](t, db, `SELECT due_at FROM scheduler.pending_tasks WHERE id = $1`, got[len(got)-1])
				if diff := cmp.Diff(first[f.Limit:], pageOf(t, s, f, store.TaskCursor{DueAt: last, ID: got[len(got)-1]})); diff != "" {
					t.Errorf("%s, %+v: the page after that (-want +got):\n%s", who, f, diff)
				}
			}
			if since.Unix() > 0 && until.After(since) {
				days, err := s.CountDays(t.Context(), time.Now(), []time.Time{since, until}, store.Filter{AppID: f.AppID, WorkspaceID: f.WorkspaceID})
				counted := int64(0)
				for _, d := range days {
					counted += d.Tasks
				}
				if want := len(ids(where, "id", 1_000_000, f.AppID, f.WorkspaceID, since, until)); err != nil || counted != int64(want) {
					t.Errorf("%s, %+v: %d are counted, want %d (%v)", who, f, counted, want, err)
				}
			}
		}
		overdue := func() int64 { // one more every few seconds
			return int64(len(ids(`due_at < now() - interval '1 minute' AND waits_for IS NULL`, "id", 1000)))
		}
		least := overdue()
		a, err := s.Attention(t.Context())
		if most := overdue(); err != nil || a.Overdue < least || a.Overdue > most || least == 0 {
			t.Errorf("%s: %d are overdue, want %d to %d (%v)", who, a.Overdue, least, most, err)
		}
	}
}

// pageOf returns the ids of a page of tasks, which has to be the whole of it.
func pageOf(t *testing.T, s *store.Store, f store.Filter, after store.TaskCursor) []int64 {
	t.Helper()
	page, err := s.PageTasks(t.Context(), f, after)
	if err != nil || !page.DownTo.IsZero() {
		t.Fatalf("down to %v: %v", page.DownTo, err)
	}
	out := []int64{}
	for _, r := range page.Rows {
		out = append(out, r.ID)
	}
	return out
}

// What pages ask of pending tasks reads as many of them as there are apps, and as many
// as it shows, and none of the others.
func TestPendingPagesReadFewRows(t *testing.T) {
	t.Parallel()
	db := newManyPending(t)
	run(t, db, `SELECT scheduler.hold_pushes('so', '')`)
	week := []time.Time{time.Now().AddDate(0, 1, 0), time.Now().AddDate(0, 1, 1), time.Now().AddDate(0, 1, 2)}
	due := int64(30 * 60 / 3) // those that are due, of all apps
	for name, c := range map[string]struct {
		most int64
		read func(ctx context.Context, s *store.Store) error
	}{
		"the next 20": {2000 + due, func(ctx context.Context, s *store.Store) error {
			_, err := s.ListUpcoming(ctx, store.Filter{Limit: 20})
			return err
		}},
		"a week ahead": {1000 + due, func(ctx context.Context, s *store.Store) error {
			_, err := s.CountDays(ctx, time.Now(), week, store.Filter{})
			return err
		}},
		"the latest 50": {6000 + due, func(ctx context.Context, s *store.Store) error {
			_, err := s.PageTasks(ctx, store.Filter{Limit: 50}, store.TaskCursor{})
			return err
		}},
		"what is overdue": {1000 + due, func(ctx context.Context, s *store.Store) error {
			_, err := s.Attention(ctx)
			return err
		}},
		"how full an app is": {3 * pendingEach, func(ctx context.Context, s *store.Store) error {
			_, _, err := s.AppFills(ctx, "a3", 50)
			return err
		}},
	} {
		s, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		before := rowsRead(t, db)["pending_tasks"]
		if err := c.read(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Close()
		awaitEnd(t, db)
		if n := rowsRead(t, db)["pending_tasks"] - before; n > c.most {
			t.Errorf("%s: %d of %d pending tasks were read, want at most %d", name, n, pendingApps*pendingEach, c.most)
		}
	}
}

// How full apps are is counted for those that can be the fullest, and it is said where
// another may be.
func TestAppFillsLookAtTheFullest(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `
		SET session_replication_role = replica;
		INSERT INTO scheduler.apps (app_id, provider, pending_limit) SELECT 'a' || to_char(g, 'FM000'), 'webhook', 100 FROM generate_series(1, 300) g;
		INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT a.app_no, k, a.app_no * 1000 + k, 1, 'scheduled', now(), now() FROM scheduler.apps a, generate_series(1, 100) k WHERE k <= a.app_no % 60;
		SET session_replication_role = origin; ANALYZE`)
	s := opened(t, db.URL)
	for _, id := range []string{"", "a059", "nobody"} {
		rows, _ := db.Query(t.Context(), `SELECT app_id, workspace_id, pending_limit::bigint, pending FROM scheduler.app_usage WHERE $1 IN ('', app_id) ORDER BY pending DESC, app_id LIMIT 20`, id)
		want, err := pgx.CollectRows(rows, pgx.RowToStructByPos[store.AppFill])
		if err != nil {
			t.Fatal(err)
		}
		got, more, err := s.AppFills(t.Context(), id, 20)
		if err != nil || more {
			t.Fatalf("more is %v: %v", more, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", id, diff)
		}
	}
	// High slots with little in them: nobody knows whether the others are fuller.
	run(t, db, `SET session_replication_role = replica; UPDATE scheduler.pending_tasks p SET slot = 100 WHERE slot = 1 AND app_no <= 250; SET session_replication_role = origin`)
	if got, more, err := s.AppFills(t.Context(), "", 100); err != nil || !more || len(got) != 100 {
		t.Errorf("%d apps, more is %v: %v", len(got), more, err)
	}
}

// A search looks through 100,000 campaigns, says how far it came, and goes on from there.
// So it is with a status, and within an app.
func TestSearchOfCampaignsIsBounded(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `
		SET session_replication_role = replica;
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'webhook'), ('b', 'webhook');
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, time_zone, status, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT n, CASE WHEN n = 7 THEN 'needle' ELSE 'c' END, CASE WHEN n % 50 = 0 THEN 'b' ELSE 'a' END, 'webhook', 0, 'UTC', CASE WHEN n = 7 THEN 'paused' ELSE 'finished' END, 1 + (n % 50 = 0)::integer,
		       now(), 'me', 'me', now(), now() FROM generate_series(1, 105000) n;
		SET session_replication_role = origin; ANALYZE`)
	s := opened(t, db.URL)
	for name, c := range map[string]struct {
		text   string
		filter store.Filter
		downTo int64
	}{
		"a name":                    {"NEEDLE", store.Filter{}, 5001},
		"a status":                  {"", store.Filter{Statuses: []string{"paused"}}, 5001},
		"a status of an app":        {"", store.Filter{AppID: "a", Statuses: []string{"paused"}}, 2960},
		"a name of a small app":     {"nothing", store.Filter{AppID: "b"}, 0},
		"the newest":                {"", store.Filter{Limit: 3}, 0},
		"the newest of a small one": {"", store.Filter{AppID: "b", Limit: 3}, 0},
	} {
		found, downTo, err := s.FindCampaigns(t.Context(), c.text, c.filter, 0)
		if err != nil || downTo != c.downTo || c.downTo > 0 && len(found) > 0 || len(found) != c.filter.Limit {
			t.Errorf("%s: %d campaigns, down to %d, want %d (%v)", name, len(found), downTo, c.downTo, err)
			continue
		}
		if c.downTo == 0 {
			continue
		}
		if found, downTo, err = s.FindCampaigns(t.Context(), c.text, c.filter, downTo); err != nil || downTo != 0 || len(found) != 1 || found[0].ID != 7 {
			t.Errorf("%s, further back: %d campaigns, down to %d (%v)", name, len(found), downTo, err)
		}
	}
}

// A forecast looks at the newest campaigns, at so many of them, and says that there are
// more.
func TestForecastReadsTheNewest(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	run(t, db, `
		SET session_replication_role = replica;
		INSERT INTO scheduler.channels (channel, provider, max_targets, weekly_quota) VALUES ('webhook', 'webhook', 100, 2) ON CONFLICT (channel) DO UPDATE SET weekly_quota = 2;
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'webhook'), ('b', 'webhook'), ('c', 'webhook');
		INSERT INTO scheduler.app_quotas SELECT app_no, 'webhook', CASE app_id WHEN 'a' THEN 3 ELSE 0 END FROM scheduler.apps WHERE app_id IN ('a', 'b');
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, strategy_content, time_zone, status, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT n, 'c', a.app_id, 'webhook', 1, '{"fixedTime": 4102444800000}', 'UTC', CASE WHEN n > 20990 OR n <= 5 THEN 'active' ELSE 'finished' END, a.app_no,
		       now(), 'me', 'me', now(), now() FROM generate_series(1, 21000) n JOIN scheduler.apps a ON a.app_id = CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END;
		INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT 21000, g::text FROM generate_series(1, 250) g;
		SET session_replication_role = origin; ANALYZE`)
	author := db.Role(t, "author", `LOGIN PASSWORD 'secret' IN ROLE scheduler_author`)
	run(t, db, fmt.Sprintf(`SELECT scheduler.grant_app('b', '', '%s')`, author))
	all, mine := opened(t, db.URL), opened(t, db.URLAs(t, author, "secret"))
	for name, c := range map[string]struct {
		s       *store.Store
		filter  store.ForecastFilter
		ids     []int64
		apps    int
		partial bool
	}{
		"all apps":  {all, store.ForecastFilter{Campaigns: 50}, []int64{20991, 20992, 20993, 20994, 20995, 20996, 20997, 20998, 20999, 21000}, 2, true},
		"a few":     {all, store.ForecastFilter{Campaigns: 3}, []int64{20998, 20999, 21000}, 2, true},
		"one app":   {all, store.ForecastFilter{AppID: "b", Campaigns: 50}, []int64{1, 3, 5, 20991, 20993, 20995, 20997, 20999}, 1, false},
		"no such":   {all, store.ForecastFilter{AppID: "c", Campaigns: 50}, []int64{}, 1, false},
		"an author": {mine, store.ForecastFilter{Campaigns: 50}, []int64{1, 3, 5, 20991, 20993, 20995, 20997, 20999}, 1, false},
	} {
		c.filter.Until = time.Now().AddDate(0, 0, 14)
		rows, err := c.s.ForecastRows(t.Context(), c.filter)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids := []int64{}
		for _, k := range rows.Campaigns {
			ids = append(ids, k.ID)
			if want := map[string]int{"a": 3, "b": 0}[k.AppID]; k.Quota != want {
				t.Errorf("%s: campaign %d has the quota %d, want %d", name, k.ID, k.Quota, want)
			}
		}
		if diff := cmp.Diff(c.ids, ids); diff != "" || rows.Partial != c.partial || len(rows.Apps) != c.apps {
			t.Errorf("%s: %d apps, partial %v (-want +got):\n%s", name, len(rows.Apps), rows.Partial, diff)
		}
		if i := slices.Index(ids, 21000); i >= 0 && rows.Campaigns[i].Targets != 250 {
			t.Errorf("%s: %d targets", name, rows.Campaigns[i].Targets)
		}
	}
}

// A page that would look for too long ends where it came to, and says so.
func TestPageEndsWhereItTakesTooLong(t *testing.T) {
	t.Parallel()
	_, s := newManyTasks(t)
	now, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	downTo, err := s.PageSteps(t.Context(), store.Filter{Statuses: []string{"succeeded"}}, time.Minute, func(tx pgx.Tx, _ string, _ []any) (int, error) {
		if steps++; steps <= 2 || steps == 4 {
			return 0, nil
		}
		_, err := tx.Exec(t.Context(), `SELECT pg_sleep(60)`)
		return 0, err
	})
	// 2 s and 2 minutes; then 2 hours take too long, and from there 8 minutes do not.
	if back := now.Sub(downTo); err != nil || steps != 5 || back < 479*time.Second || back > 9*time.Minute {
		t.Errorf("looked back %v: %v", back, err)
	}
	// From there it goes on.
	page, err := s.PageTasks(t.Context(), store.Filter{Limit: 20, Statuses: []string{"succeeded"}}, store.TaskCursor{DueAt: downTo})
	if err != nil || len(page.Rows) != 20 || page.Rows[0].DueAt.After(downTo) || downTo.Sub(page.Rows[0].DueAt) > 3*time.Second {
		t.Errorf("%d tasks further back: %v", len(page.Rows), err)
	}
}

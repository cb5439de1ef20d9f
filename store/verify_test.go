package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// loopContent is a daily loop between two days.
func loopContent(first, last time.Time, clock string) []byte {
	return fmt.Appendf(nil, `{"startTime":%d,"endTime":%d,"circleType":1,"time":"%s"}`, first.UnixMilli(), last.UnixMilli(), clock)
}

// A record is a database in which everything is as it was promised: what a test
// damages. Its moment is noon of 10 January 2027 in UTC.
type record struct {
	*testing.T
	db *pgtest.DB
}

var noon = time.Date(2027, 1, 10, 12, 0, 0, 0, time.UTC)

// newRecord writes one app and five campaigns: 1 ran daily at 9 for four days,
// and pushes tomorrow; 2 was cancelled on the 9th; 3 is paused, its occurrence
// of this morning still in the window; 4 was fixed, and deleted; 5 immediate.
func newRecord(t *testing.T) record {
	t.Helper()
	r := record{t, pgtest.New(t)}
	r.exec(`INSERT INTO scheduler.apps (app_id, provider, time_zone, pending_limit) VALUES ('a', 'alipay', 'UTC', 2)`)
	loop := `'{"startTime":1799280000000,"endTime":1799971200000,"circleType":1,"time":"09:00:00"}'` // 7 to 15 January
	columns := `id, name, app_id, channel, strategy_type, strategy_content, time_zone, catch_up_window, status, app_no, written_at, created_by, updated_by, created_at, updated_at`
	r.exec(`INSERT INTO scheduler.campaigns (` + columns + `)
		SELECT c.id, 'campaign ' || c.id, 'a', 'alipay.label_send', c.kind, c.content::jsonb, 'UTC', c.catch_up::interval, c.status, 1, c.at, 'me', 'me', c.at, c.at
		  FROM (VALUES (1, 2, ` + loop + `, '1 hour', 'active', '2027-01-07 00:00Z'::timestamptz),
		               (2, 2, ` + loop + `, '1 hour', 'cancelled', '2027-01-07 00:00Z'),
		               (3, 2, ` + loop + `, '6 hours', 'paused', '2027-01-10 00:00Z'),
		               (4, 1, '{"fixedTime":1799366400000}', '1 hour', 'active', '2027-01-07 00:00Z'),
		               (5, 0, NULL, '1 hour', 'finished', '2027-01-08 10:00:00.123456Z')) AS c (id, kind, content, catch_up, status, at)`)
	r.exec(`INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
		SELECT c.id, 1, 1, CASE c.id WHEN 2 THEN 'cancel' ELSE 'delete' END, true, 'me', '2027-01-09 12:00Z', to_jsonb(c) || '{"status": "active"}'
		  FROM scheduler.campaigns c WHERE c.id IN (2, 4)`)
	r.exec(`DELETE FROM scheduler.campaigns WHERE id = 4`)
	for _, d := range []struct {
		campaign int
		due      string
		status   string
	}{
		{1, "2027-01-07 09:00Z", "succeeded"},
		{1, "2027-01-08 09:00Z", "missed"},
		{1, "2027-01-09 09:00Z", "succeeded"},
		{1, "2027-01-10 09:00Z", "succeeded"},
		{2, "2027-01-07 09:00Z", "succeeded"},
		{2, "2027-01-08 09:00Z", "succeeded"},
		{2, "2027-01-09 09:00Z", "unknown"},
		{2, "2027-01-10 09:00Z", "cancelled"}, // it was pending when its campaign was cancelled
		{4, "2027-01-08 00:00Z", "failed"},
		{5, "2027-01-08 10:00:00.123456Z", "succeeded"},
	} {
		r.decide(d.campaign, d.due, d.status)
	}
	r.pend(1, "2027-01-11 09:00Z", 1)
	r.exec(`INSERT INTO scheduler.daemons (name, version, leased_until) VALUES ('d', '1', '2027-01-10 12:00:10Z')`)
	return r
}

// exec runs SQL as it stands, with no trigger in its way.
func (r record) exec(sql string, args ...any) {
	r.Helper()
	conn, err := r.db.Acquire(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(r.Context(), `SET session_replication_role = replica`); err != nil {
		r.Fatal(err)
	}
	if _, err := conn.Exec(r.Context(), sql, args...); err != nil {
		r.Fatalf("%v in %s", err, sql)
	}
}

func (r record) decide(campaign int, due, status string) {
	r.Helper()
	r.exec(`INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, decided_at,
		attempts, slices, accepted, target_count, reason)
		VALUES (nextval('scheduler.task_ids'), 1, $1, 1, 1, 'scheduled', $3::text::scheduler.decision, $2::text::timestamptz, $2::text::timestamptz, $2::text::timestamptz,
			1, 1, ($3 = 'succeeded')::integer, 0, 'so')`, campaign, due, status)
}

func (r record) pend(campaign int, due string, slot int) {
	r.Helper()
	r.exec(`INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		VALUES (1, $3, $1, 1, 'scheduled', $2::text::timestamptz, $2::text::timestamptz)`, campaign, due, slot)
}

// findings verifies and returns what was found, a line each.
func (r record) findings(o store.VerifyOptions) []string {
	r.Helper()
	s, err := store.Open(r.Context(), store.Config{URL: r.db.URL, MaxConns: 1})
	if err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	o.Now, o.Grace = noon, time.Minute
	v, err := s.Verify(r.Context(), o)
	if err != nil {
		r.Fatal(err)
	}
	var total int64
	for _, n := range v.Counts {
		total += n
	}
	if total < int64(len(v.Findings)) {
		r.Errorf("counted %v, listed %d", v.Counts, len(v.Findings))
	}
	lines := []string{}
	for _, f := range v.Findings {
		line := f.Kind + ": " + f.Detail
		if f.CampaignID != 0 {
			line = fmt.Sprintf("%s %d: %s", f.Kind, f.CampaignID, f.Detail)
		}
		if !f.DueAt.IsZero() {
			line = f.DueAt.Format("02 15:04 ") + line
		}
		lines = append(lines, line)
	}
	return lines
}

func TestVerifyFindsNothingInAGoodRecord(t *testing.T) {
	t.Parallel()
	r := newRecord(t)
	if diff := cmp.Diff([]string{}, r.findings(store.VerifyOptions{})); diff != "" {
		t.Error(diff)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	const claim = `INSERT INTO scheduler.claims (daemon_id, claimed_at, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
		VALUES (%d, '2027-01-10 09:00Z', '{%d}', '{1}', '{%d}', '{1}', '{scheduled}', '{%s}')`
	for _, c := range []struct {
		name   string
		damage string
		want   []string
	}{
		{
			"a decision lost", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-09 09:00Z'`,
			[]string{"09 09:00 undecided 1: no task and no decision"},
		},
		{
			"a decision of a cancelled campaign lost", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 2 AND due_at = '2027-01-08 09:00Z'`,
			[]string{"08 09:00 undecided 2: no decision, though its campaign changed at 2027-01-09 12:00:00+00"},
		},
		{
			"the decision of a deleted campaign lost", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 4`,
			[]string{"08 00:00 undecided 4: no decision, though its campaign changed at 2027-01-09 12:00:00+00"},
		},
		{
			"the decision of an immediate campaign lost", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 5`,
			[]string{"08 10:00 undecided 5: no task and no decision"},
		},
		{
			"a paused campaign forgotten", `UPDATE scheduler.campaigns SET catch_up_window = '2 hours' WHERE id = 3`,
			[]string{"10 09:00 undecided 3: no task and no decision"},
		},
		{
			"a decided task pending again", `INSERT INTO scheduler.pending_tasks (id, app_no, slot, campaign_id, revision, origin, due_at, ready_at)
				VALUES (900, 1, 2, 1, 1, 'scheduled', '2027-01-10 09:00Z', '2027-01-10 11:59Z'); UPDATE scheduler.decided_tasks SET id = 800 WHERE campaign_id = 1;
				UPDATE scheduler.campaigns SET catch_up_window = '6 hours'`,
			[]string{"10 09:00 twice 1: decided as task 800, pending as task 900"},
		},
		{
			"a task claimed twice", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z';` +
				fmt.Sprintf(claim, 1, 900, 1, "2027-01-10 09:00Z") + `;` + fmt.Sprintf(claim, 1, 900, 1, "2027-01-10 09:00Z"),
			[]string{"10 09:00 twice 1: claimed as task 900, claimed as task 900"},
		},
		{
			"pushed at a wrong time", `UPDATE scheduler.decided_tasks SET due_at = '2027-01-09 09:00:01Z' WHERE campaign_id = 1 AND due_at = '2027-01-09 09:00Z'`,
			[]string{"09 09:00 stray 1: decided as succeeded, but no occurrence of its campaign", "09 09:00 undecided 1: no task and no decision"},
		},
		{
			"pushed after the cancel", `UPDATE scheduler.decided_tasks SET status = 'failed' WHERE campaign_id = 2 AND due_at = '2027-01-10 09:00Z'`,
			[]string{"10 09:00 stray 2: decided as failed, begun at 2027-01-10 09:00:00+00, but its strategy ended at 2027-01-09 12:00:00+00"},
		},
		{
			"pushed for a campaign that never was", `UPDATE scheduler.decided_tasks SET campaign_id = 99 WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z'`,
			[]string{"10 09:00 stray 99: decided as succeeded, but no occurrence of its campaign", "10 09:00 undecided 1: no task and no decision"},
		},
		{
			"pending at a wrong time", `UPDATE scheduler.pending_tasks SET due_at = '2027-01-11 08:00Z'`,
			[]string{"11 08:00 stray 1: pending, but no occurrence of its campaign"},
		},
		{
			"pending after its window", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z';
				UPDATE scheduler.pending_tasks SET due_at = '2027-01-10 09:00Z'`,
			[]string{"10 09:00 undecided 1: still pending, though its catch-up window closed at 2027-01-10 10:00:00+00"},
		},
		{
			"pending though paused", `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
				VALUES (1, 2, 3, 1, 'scheduled', '2027-01-11 09:00Z', '2027-01-11 09:00Z')`,
			[]string{"11 09:00 forbidden 3: pending, but its campaign is paused"},
		},
		{
			"passed over in a full app", `UPDATE scheduler.apps SET pending_limit = 1; UPDATE scheduler.campaigns SET catch_up_window = '6 hours';
				DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z'`,
			[]string{"10 09:00 undecided 1: no task and no decision"},
		},
		{
			"resumed just now", `UPDATE scheduler.campaigns SET status = 'active', updated_at = '2027-01-10 11:59:30Z' WHERE id = 3`,
			[]string{},
		},
		{
			"resumed and forgotten", `UPDATE scheduler.campaigns SET status = 'active', updated_at = '2027-01-10 11:58:30Z' WHERE id = 3`,
			[]string{"10 09:00 undecided 3: no task and no decision"},
		},
		{
			"undecided, but held", `UPDATE scheduler.hold SET held_since = '2027-01-10 08:00Z', reason = 'a copy';
				DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z'; UPDATE scheduler.pending_tasks SET due_at = '2027-01-10 09:00Z'`,
			[]string{},
		},
		{
			"waiting for a full app", `UPDATE scheduler.apps SET pending_limit = 1; UPDATE scheduler.campaigns SET catch_up_window = '48 hours';
				UPDATE scheduler.pending_tasks SET due_at = '2027-01-09 09:00Z', waits_for = 'quota';
				DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at >= '2027-01-09 09:00Z'`,
			[]string{},
		},
		{
			"over the cap", `UPDATE scheduler.apps SET pending_limit = 1; INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
				VALUES (1, 2, 1, 1, 'scheduled', '2027-01-12 09:00Z', '2027-01-12 09:00Z')`,
			[]string{"over_cap: 2 tasks pending, the limit is 1", "12 09:00 slot 1: slot 2, the limit is 1"},
		},
		{
			"over the quota", `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
				SELECT 1, 'alipay.label_send', '2027-01-01 00:00Z'::timestamptz + n * interval '33 hours', 5 FROM generate_series(0, 5) n`,
			[]string{"over_quota: 6 calls on alipay.label_send in the 7 days up to 2027-01-07 21:00:00+00, booked under a quota of 5"},
		},
		{
			"a quota that was lowered since", `INSERT INTO scheduler.app_quotas (app_no, channel, weekly_quota) VALUES (1, 'alipay.label_send', 2);
				INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
				SELECT 1, 'alipay.label_send', '2027-01-01 00:00Z'::timestamptz + n * interval '33 hours', 5 + n / 5 FROM generate_series(0, 5) n`,
			[]string{},
		},
		{
			"a quota used to its end", `INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
				SELECT 1, 'alipay.label_send', '2027-01-01 00:00Z'::timestamptz + n * interval '168 hours' / 5, 5 FROM generate_series(0, 5) n`,
			[]string{},
		},
		{
			"a claim of nobody", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z';` + fmt.Sprintf(claim, 7, 900, 1, "2027-01-10 09:00Z"),
			[]string{"10 09:00 ownerless 1: claim 1 of a daemon that is not known, 7"},
		},
		{
			"a claim of a dead daemon", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z';
				UPDATE scheduler.daemons SET ended_at = '2027-01-10 11:00Z';` + fmt.Sprintf(claim, 1, 900, 1, "2027-01-10 09:00Z"),
			[]string{"10 09:00 ownerless 1: claim 1 of daemon 1 (d), gone since 2027-01-10 11:00:00+00"},
		},
		{
			"a delivery without its task", `INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at) VALUES (900, 1, 1, 1, now())`,
			[]string{"ownerless 1: delivery 1 is waiting, but its task is not running"},
		},
		{
			"a task without deliveries", `DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at = '2027-01-10 09:00Z';
				INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
				VALUES (900, 1, 1, 1, 'scheduled', '2027-01-10 09:00Z', '2027-01-10 09:00Z', 1, 1)`,
			[]string{"10 09:00 undecided 1: running without a delivery that could still end"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRecord(t)
			r.exec(c.damage)
			if diff := cmp.Diff(c.want, r.findings(store.VerifyOptions{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestVerifySince(t *testing.T) {
	t.Parallel()
	r := newRecord(t)
	r.exec(`DELETE FROM scheduler.decided_tasks WHERE due_at < '2027-01-09 09:00Z'`)
	if got := r.findings(store.VerifyOptions{Since: time.Date(2027, 1, 9, 9, 0, 0, 0, time.UTC)}); len(got) > 0 {
		t.Errorf("found what is older: %q", got)
	}
	if got := r.findings(store.VerifyOptions{Since: time.Date(2027, 1, 8, 9, 0, 0, 0, time.UTC)}); len(got) != 3 {
		t.Errorf("found %q, want the three of the 8th that are due from nine", got)
	}
}

func TestVerifyListsOnlySoMany(t *testing.T) {
	t.Parallel()
	r := newRecord(t)
	r.exec(`DELETE FROM scheduler.decided_tasks`)
	if got := r.findings(store.VerifyOptions{Limit: 3}); len(got) != 3 {
		t.Errorf("listed %q, want 3", got)
	}
}

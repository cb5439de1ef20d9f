package store_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

func TestSkipOccurrenceRefuses(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, time_zone)
		SELECT 'loop', app_id, channel, 2, $1::jsonb, 'UTC' FROM scheduler.campaigns WHERE id = $2 RETURNING id`, loop(9), campaign(t, db))
	dues := occurrencesOf(t, db, id)
	pend(t, db, id, 1, dues[1])
	for _, tt := range []struct {
		name, want string
		id         int64
		due        time.Time
	}{
		{"no campaign", "there is no such campaign", 999, dues[1]},
		{"past", "is past", id, dues[1].AddDate(-1, 0, 0)},
		{"no occurrence", "is no occurrence", id, dues[1].Add(time.Second)},
	} {
		if _, err := s.SkipOccurrence(t.Context(), tt.id, tt.due, "", false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, want := range []bool{true, false} { // the second time it is so already
		if changed, err := s.SkipOccurrence(t.Context(), id, dues[1], "holiday", false); err != nil || changed != want {
			t.Errorf("skip: %v, %v", changed, err)
		}
	}
	got := one[string](t, db, `SELECT status || ', ' || reason FROM scheduler.tasks WHERE campaign_id = $1 AND due_at = $2`, id, dues[1])
	if want := "cancelled, skipped by postgres: holiday"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, id)
	for _, back := range []bool{false, true} {
		due := dues[2]
		if back {
			due = dues[1]
		}
		if _, err := s.SkipOccurrence(t.Context(), id, due, "", back); err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("of a cancelled campaign, back %v: %v", back, err)
		}
	}
}

func occurrencesOf(t *testing.T, db *pgtest.DB, id int64) []time.Time {
	t.Helper()
	rows, _ := db.Query(t.Context(), `SELECT scheduler.occurrences($1, now(), 'infinity')`, id)
	dues, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil || len(dues) < 4 {
		t.Fatalf("%d occurrences, %v", len(dues), err)
	}
	return dues
}

// What has begun is not skipped, whichever place it is in.
func TestSkipOccurrenceThatHasBegun(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, time_zone)
		SELECT 'loop', app_id, channel, 2, $1::jsonb, 'UTC' FROM scheduler.campaigns WHERE id = $2 RETURNING id`, loop(9), campaign(t, db))
	due := occurrencesOf(t, db, id)[1]
	for place, sql := range map[string]string{
		"claims": `INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
			SELECT 1, ARRAY[-1], ARRAY[app_no], ARRAY[id], ARRAY[1], ARRAY['scheduled'::scheduler.task_origin], ARRAY[$2::timestamptz] FROM scheduler.campaigns WHERE id = $1`,
		"running_tasks": `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
			SELECT -2, app_no, id, 1, 'scheduled', $2, now(), 1, 1 FROM scheduler.campaigns WHERE id = $1`,
	} {
		run(t, db, sql, id, due)
		if _, err := s.SkipOccurrence(t.Context(), id, due, "", false); err == nil || !strings.Contains(err.Error(), "is running already") {
			t.Errorf("%s: %v", place, err)
		}
		run(t, db, `DELETE FROM scheduler.`+place)
	}
	if changed, err := s.SkipOccurrence(t.Context(), id, due, "", false); err != nil || !changed {
		t.Errorf("before it begins: %v, %v", changed, err)
	}
}

// Authors skip in the apps granted to them, and the audit names them.
func TestSkipOccurrenceByRole(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	author, reader := p.connect(t, "author"), p.connect(t, "reader")
	const due = `to_timestamp(4102444800)`
	p.exec(t, `DELETE FROM scheduler.pending_tasks`)
	for _, tt := range []struct {
		who  string
		conn *pgx.Conn
		sql  string
		want string
	}{
		{"author", author, `SELECT scheduler.skip_occurrence(1000002, %s, 'x')`, "P0002"},
		{"author", author, `INSERT INTO scheduler.skipped_occurrences (campaign_id, due_at) VALUES (1000002, %s)`, denied},
		{"reader", reader, `SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, denied},
		{"author", author, `SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, ""},
	} {
		if _, state := try(t, tt.conn, fmt.Sprintf(tt.sql, due)); state != tt.want {
			t.Errorf("%s: %s: %q, want %q", tt.who, tt.sql, state, tt.want)
		}
	}
	if _, err := author.Exec(t.Context(), fmt.Sprintf(`SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, due)); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, p.db, `SELECT skipped_by FROM scheduler.skipped_occurrences`); got != p.names["author"] {
		t.Errorf("skipped by %s", got)
	}
	if _, err := author.Exec(t.Context(), `UPDATE scheduler.skipped_occurrences SET restored_note = 'x'`); err == nil {
		t.Error("an audit was changed")
	}
	if _, err := author.Exec(t.Context(), fmt.Sprintf(`SELECT scheduler.unskip_occurrence(1000001, %s, 'y')`, due)); err != nil {
		t.Error(err)
	}
	if got := one[string](t, p.db, `SELECT restored_by || ' ' || restored_note FROM scheduler.skipped_occurrences`); got != p.names["author"]+" y" {
		t.Errorf("restored by %s", got)
	}
}

// newUnknown writes two tasks of unknown outcome: 501, one call that keeps its
// delivery in its own row, of campaign 1, and 502 with four deliveries
// (accepted, unknown, failed, unknown) that are in the quota, of campaign 5.
func newUnknown(t *testing.T) (record, *store.Store) {
	t.Helper()
	r := newRecord(t)
	r.exec(`UPDATE scheduler.decided_tasks SET id = 501, status = 'unknown', accepted = 0, attempts = 2, targets = '{ann}', target_count = 1
		WHERE campaign_id = 1 AND due_at = '2027-01-09 09:00Z'`)
	r.exec(`UPDATE scheduler.decided_tasks SET id = 502, status = 'unknown', slices = 4, accepted = 1, attempts = 4 WHERE campaign_id = 5`)
	r.exec(`INSERT INTO scheduler.slices (id, task_id, slice_no, app_no, campaign_id, status, ready_at, attempts, reason, finished_at)
		OVERRIDING SYSTEM VALUE
		SELECT 600 + n, 502, n, 1, 5, s::scheduler.slice_status, now(), 1, 'so', now()
		  FROM unnest('{accepted,unknown,failed,unknown}'::text[]) WITH ORDINALITY AS u (s, n)`)
	r.exec(`INSERT INTO scheduler.quota_uses (app_no, channel, slice_id, used_at, weekly_quota) SELECT 1, 'alipay.label_send', 600 + n, now(), 5 FROM unnest('{1,2,4}'::int[]) n`)
	s, err := store.Open(t.Context(), store.Config{URL: r.db.URL, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return r, s
}

// line reads one text.
func (r record) line(query string) string {
	r.Helper()
	var text string
	if err := r.db.QueryRow(r.Context(), query).Scan(&text); err != nil {
		r.Fatalf("%v in %s", err, query)
	}
	return text
}

func TestResolveRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		ruling store.Ruling
		want   store.Ruled
		slices string // of task 502
		quota  string
	}{
		{
			"one call sent",
			store.Ruling{TaskID: 501, Sent: true},
			store.Ruled{Status: "succeeded", Reason: "ruled sent"},
			"accepted unknown failed unknown", "601 602 604",
		},
		{
			"one call not sent",
			store.Ruling{TaskID: 501, Note: "support says no", Operator: "ann"},
			store.Ruled{Status: "failed", Reason: "ruled not sent by ann: support says no"},
			"accepted unknown failed unknown", "601 602 604",
		},
		{
			"some sent",
			store.Ruling{TaskID: 502, Sent: true, Operator: "ann"},
			store.Ruled{Status: "failed", Reason: "3 of 4 deliveries accepted; ruled sent by ann"},
			"accepted accepted failed accepted", "601 602 604",
		},
		{
			"some not sent",
			store.Ruling{TaskID: 502},
			store.Ruled{Status: "failed", Reason: "1 of 4 deliveries accepted; ruled not sent"},
			"accepted failed failed failed", "601",
		},
		{
			"some sent again",
			store.Ruling{TaskID: 502, Resend: true},
			store.Ruled{Status: "running", Reason: "sent again by ruling"},
			"accepted waiting failed waiting", "601",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, s := newUnknown(t)
			got, err := s.Resolve(t.Context(), c.ruling)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got := r.line(`SELECT string_agg(status::text, ' ' ORDER BY slice_no) FROM scheduler.slices WHERE task_id = 502`); got != c.slices {
				t.Errorf("deliveries %s, want %s", got, c.slices)
			}
			if got := r.line(`SELECT string_agg(slice_id::text, ' ' ORDER BY slice_id) FROM scheduler.quota_uses`); got != c.quota {
				t.Errorf("quota used by %s, want %s", got, c.quota)
			}
			status := r.line(`SELECT status FROM scheduler.tasks WHERE id = ` + strconv.FormatInt(c.ruling.TaskID, 10))
			if status != c.want.Status {
				t.Errorf("the task is %s, want %s", status, c.want.Status)
			}
		})
	}
}

func TestResolveKeepsTheAudit(t *testing.T) {
	t.Parallel()
	r, s := newUnknown(t)
	if _, err := s.Resolve(t.Context(), store.Ruling{TaskID: 501, Note: "checked", Operator: "ann"}); err != nil {
		t.Fatal(err)
	}
	got := r.line(`SELECT concat_ws('|', task_id, campaign_id, ruling, resend, note, previous_status, previous_reason, ruled_by = session_user, operator, ruled_at <= now())
		FROM scheduler.rulings`)
	if want := "501|1|not_sent|f|checked|unknown|so|t|ann|t"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// One call is made again as a delivery of its own: with its targets, as the
// third attempt, inside a window that begins now.
func TestResolveResendsOneCall(t *testing.T) {
	t.Parallel()
	r, s := newUnknown(t)
	if _, err := s.Resolve(t.Context(), store.Ruling{TaskID: 501, Resend: true}); err != nil {
		t.Fatal(err)
	}
	got := r.line(`SELECT concat_ws('|', r.due_at AT TIME ZONE 'UTC', r.window_from BETWEEN now() - interval '1 minute' AND now(), r.slices, r.targets, x.status, x.attempts, t.targets)
		FROM scheduler.running_tasks r JOIN scheduler.slices x ON x.task_id = r.id JOIN scheduler.slice_targets t ON t.slice_id = x.id`)
	if want := "2027-01-09 09:00:00|t|1|1|waiting|2|{ann}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := r.line(`SELECT count(*)::text FROM scheduler.decided_tasks WHERE id = 501`); n != "0" {
		t.Error("the task is still decided")
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before string
		ruling       store.Ruling
		want         string
	}{
		{"no task", ``, store.Ruling{TaskID: 999}, store.ErrNoTask.Error()},
		{"decided", ``, store.Ruling{TaskID: 503}, "this one is missed"},
		{"paused", `UPDATE scheduler.campaigns SET status = 'paused'`, store.Ruling{TaskID: 501, Resend: true}, "resume it first"},
		{"cancelled", `UPDATE scheduler.campaigns SET status = 'cancelled'`, store.Ruling{TaskID: 501, Resend: true}, "its campaign is cancelled"},
		{"deleted", `DELETE FROM scheduler.campaigns`, store.Ruling{TaskID: 501, Resend: true}, "its campaign is deleted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, s := newUnknown(t)
			r.exec(`UPDATE scheduler.decided_tasks SET id = 503 WHERE campaign_id = 1 AND status = 'missed'`)
			if c.before != "" {
				r.exec(c.before)
			}
			_, err := s.Resolve(t.Context(), c.ruling)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if n := r.line(`SELECT count(*)::text FROM scheduler.rulings`); n != "0" {
				t.Error("a refused ruling is in the audit")
			}
			if n := r.line(`SELECT count(*)::text FROM scheduler.decided_tasks WHERE id = 501 AND status = 'unknown'`); n != "1" {
				t.Error("a refused ruling changed the task")
			}
		})
	}
}

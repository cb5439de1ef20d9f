package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// timeless is the content of a daily loop for the given days, without a time.
func timeless(days int) string {
	now := time.Now()
	return fmt.Sprintf(`{"startTime": %d, "endTime": %d, "circleType": 1}`, now.UnixMilli(), now.AddDate(0, 0, days).UnixMilli())
}

// severalTimes inserts a good webhook campaign with times and returns its id.
func severalTimes(t *testing.T, db *pgtest.DB, times string) int64 {
	t.Helper()
	return one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, times)
		VALUES ('several', 'hook', 'webhook', 2, $1, $2::text::text[]) RETURNING id`, timeless(10), times)
}

func TestInsertRefusesBadTimes(t *testing.T) {
	t.Parallel()
	db := surface(t)
	hours := make([]string, 25)
	for i := range hours {
		hours[i] = fmt.Sprintf("%02d:%02d:00", i%24, i/24)
	}
	for _, c := range []struct{ name, times, message, detail, hint string }{
		{"no times of day", `{09:00,25:00:00}`, `times: must hold times of day from 00:00:00 to 23:59:59`, `times = "09:00"`, `times: write each time of day as "HH:mm:ss"`},
		{"twice", `{09:00:00,18:00:00,09:00:00}`, `times: must not hold a time twice`, `times = "09:00:00"`, `times: keep one of them`},
		{"too many", "{" + strings.Join(hours, ",") + "}", `times: must not hold more than 24 times`, `times = 25 times`, `times: write at most 24`},
		{"NULL", `{09:00:00,NULL}`, `times: must hold times of day`, `times = NULL`, `times: write each`},
		{"empty text", `{""}`, `times: must hold times of day`, `times = ""`, `times: write each`},
		{"none, and no time", `{}`, `time: is required for strategy type 2 (loop)`, `time = `, `time: write the time of day`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, sql := range []string{
				`INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, times) VALUES ('n', 'hook', 'webhook', 2, $1, $2::text::text[])`,
				`WITH c AS (SELECT $1::jsonb) INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, times, dst_gap_policy)
					SELECT 'n', 'hook', 'webhook', 2, c.*, $2::text::text[], 'skip' FROM c`,
			} {
				got := refused(t, db, sql, timeless(9), c.times)
				if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Hint, c.hint) {
					t.Errorf("got\n%s\n%s\n%s\nwant\n%s\n%s\n%s", got.Message, got.Detail, got.Hint, c.message, c.detail, c.hint)
				}
			}
		})
	}
}

// The database keeps times in order; the order in which they are written is no
// change, and another set is one.
func TestTimesAreKeptInOrder(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := severalTimes(t, db, `{18:00:00,09:00:00,12:30:00}`)
	state := func() string {
		return one[string](t, db, `SELECT concat_ws(' ', revision, coalesce(times::text, 'NULL'), (SELECT count(*) FROM scheduler.campaign_history h WHERE h.campaign_id = c.id AND h.strategy_ended))
			FROM scheduler.campaigns c WHERE id = $1`, id)
	}
	for _, step := range []struct{ set, want string }{
		{`name = 'several'`, `1 {09:00:00,12:30:00,18:00:00} 0`},
		{`times = '{12:30:00,18:00:00,09:00:00}'`, `1 {09:00:00,12:30:00,18:00:00} 0`},
		{`times = '{20:00:00,08:00:00}'`, `2 {08:00:00,20:00:00} 1`},
		{`times = '[5:6]={21:00:00,07:00:00}'`, `3 {07:00:00,21:00:00} 2`},
		{`times = '{}', strategy_content = strategy_content || '{"time": "10:00:00"}'`, `4 NULL 3`},
	} {
		run(t, db, `UPDATE scheduler.campaigns SET `+step.set+` WHERE id = $1`, id)
		if got := state(); got != step.want {
			t.Errorf("after SET %s: %s, want %s", step.set, got, step.want)
		}
	}
	if got := one[string](t, db, `SELECT before ->> 'times' FROM scheduler.campaign_history WHERE campaign_id = $1 ORDER BY id LIMIT 1`, id); got != `["09:00:00", "12:30:00", "18:00:00"]` {
		t.Errorf("the history has %s", got)
	}
}

// Where both are given, times counts, and the author is told.
func TestTimesStandInPlaceOfTime(t *testing.T) {
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
	for _, kind := range []int{2, 0} {
		content := new(loop(3))
		if kind == 0 {
			content = nil
		}
		if _, err := conn.Exec(t.Context(), `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, times)
			VALUES ('n', 'hook', 'webhook', $1, $2, '{09:00:00,18:00:00}')`, kind, content); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"time: is ignored: the column times stands in its place", "times: is ignored: it belongs to strategy type 2 (loop)"}
	if diff := cmp.Diff(want, notices); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
	clocks := one[[]string](t, db, `SELECT array_agg(DISTINCT to_char(o AT TIME ZONE 'UTC', 'HH24:MI:SS')) FROM scheduler.occurrences((SELECT min(id) FROM scheduler.campaigns), now(), 'infinity') o`)
	if diff := cmp.Diff([]string{"09:00:00", "18:00:00"}, clocks); diff != "" {
		t.Errorf("times of day (-want +got):\n%s", diff)
	}
}

// Verify expects an occurrence at each of the times, also of a strategy that
// stood before.
func TestVerifyKnowsTimes(t *testing.T) {
	t.Parallel()
	r := newRecord(t)
	// Campaign 1 pushes at 08:00 too, since it was written; campaign 2 did until it was cancelled.
	r.exec(`UPDATE scheduler.campaigns SET times = '{08:00:00,09:00:00}' WHERE id = 1`)
	r.exec(`UPDATE scheduler.campaign_history SET before = before || '{"times": ["09:00:00", "10:00:00"]}' WHERE campaign_id = 2`)
	for _, d := range []struct {
		campaign int
		hour     string
	}{{1, "08:00Z"}, {2, "10:00Z"}} {
		r.decide(d.campaign, "2027-01-07 "+d.hour, "succeeded")
		r.decide(d.campaign, "2027-01-09 "+d.hour, "succeeded")
	}
	r.decide(1, "2027-01-10 08:00Z", "succeeded")
	r.exec(`UPDATE scheduler.pending_tasks SET due_at = '2027-01-11 08:00Z', ready_at = '2027-01-11 08:00Z'`)
	want := []string{
		"08 08:00 undecided 1: no task and no decision",
		"08 10:00 undecided 2: no decision, though its campaign changed at 2027-01-09 12:00:00+00",
	}
	if diff := cmp.Diff(want, r.findings(store.VerifyOptions{})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

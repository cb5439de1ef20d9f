package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// always inserts a calendar whose days are all open, in UTC, with closed days that many
// days from today.
func always(t *testing.T, db *pgtest.DB, name string, closed ...int) {
	t.Helper()
	run(t, db, `INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ($1, 'UTC', '{1,2,3,4,5,6,7}')`, name)
	run(t, db, `INSERT INTO scheduler.calendar_days (calendar, day, why) SELECT $1, (now() AT TIME ZONE 'UTC')::date + n, 'holiday ' || n FROM unnest($2::integer[]) n`, name, closed)
}

// days lists a campaign's occurrences as days from today, which is left out: it may end.
func days(t *testing.T, db *pgtest.DB, id int64) []int32 {
	t.Helper()
	return one[[]int32](t, db, `SELECT coalesce(array_agg((o AT TIME ZONE 'UTC')::date - (now() AT TIME ZONE 'UTC')::date ORDER BY o), '{}')
		FROM scheduler.occurrences($1, ((now() AT TIME ZONE 'UTC')::date + 1) AT TIME ZONE 'UTC', 'infinity') o`, id)
}

// named inserts a campaign with a calendar.
func named(t *testing.T, db *pgtest.DB, content, calendar, policy string) int64 {
	t.Helper()
	return one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, calendar, calendar_policy)
		VALUES ('c', 'hook', 'webhook', 2, $1, $2, nullif($3, '')) RETURNING id`, content, calendar, policy)
}

func TestInsertRefusesBadCalendars(t *testing.T) {
	t.Parallel()
	db := surface(t)
	always(t, db, "shut")
	run(t, db, `UPDATE scheduler.calendars SET open_weekdays = '{}'`)
	fixed := fmt.Sprintf(`{"fixedTime": %d}`, time.Now().AddDate(0, 0, 3).UnixMilli())
	for _, c := range []struct{ name, kind, content, calendar, policy, message, detail, hint string }{
		{"no such calendar", "2", loop(9), "open", "skip", "calendar: must be a calendar in scheduler.calendars", "calendar = 'open'", "calendar: use one of shut"},
		{"empty name", "2", loop(9), "''", "skip", "calendar: must be a calendar in scheduler.calendars", "calendar = ''", "calendar: use one of shut"},
		{"no such policy", "2", loop(9), "shut", "next", "calendar_policy: must be skip, next_open or previous_open", "calendar_policy = next", "calendar_policy: skip leaves out"},
		{"a policy alone", "2", loop(9), "NULL", "skip", "calendar_policy: must come with a calendar", "calendar_policy = skip", "calendar_policy: name a calendar"},
		{"a policy alone, at once", "0", "", "NULL", "skip", "calendar_policy: must come with a calendar", "calendar_policy = skip", "calendar_policy: name a calendar"},
		{"no day left", "2", loop(9), "shut", "skip", "strategy_content: must yield at least one occurrence", "strategy_content = ", "calendar shut closes days"},
		{"no day to move to", "2", loop(9), "shut", "next_open", "strategy_content: must yield at least one occurrence", "strategy_content = ", "calendar shut closes days"},
		{"fixed", "1", fixed, "shut", "", "fixedTime: must not lie on a day that the calendar closes", "fixedTime = ", "where calendar shut is closed"},
		{"fixed, no day to move to", "1", fixed, "shut", "previous_open", "fixedTime: must have an open day of the calendar within 31 days", "fixedTime = ", "calendar shut is closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := refused(t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, calendar, calendar_policy)
				SELECT 'n', 'hook', 'webhook', $1::text::smallint, nullif($2, '')::jsonb, CASE $3 WHEN 'NULL' THEN NULL WHEN '''''' THEN '' ELSE $3 END, nullif($4, '')`,
				c.kind, c.content, c.calendar, c.policy)
			if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Hint, c.hint) {
				t.Errorf("got\n%s\n%s\n%s\nwant\n%s\n%s\n%s", got.Message, got.Detail, got.Hint, c.message, c.detail, c.hint)
			}
		})
	}
}

// What an admin writes has bounds, and an error that says them.
func TestCalendarsAreJudged(t *testing.T) {
	t.Parallel()
	db := surface(t)
	always(t, db, "open", 3)
	named(t, db, loop(9), "open", "")
	named(t, db, loop(9), "open", "")
	for _, c := range []struct{ sql, state, message, hint string }{
		{`INSERT INTO scheduler.calendars (name) VALUES ('')`, "23514", "name: must have from 1 to 64 bytes", "name: give it a short name"},
		{`INSERT INTO scheduler.calendars (name) VALUES (repeat('x', 65))`, "23514", "name: must have from 1 to 64 bytes", ""},
		{`INSERT INTO scheduler.calendars (name) VALUES (E'a\nb')`, "23514", "name: must have from 1 to 64 bytes, no control", ""},
		{`INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('x', 'CET', '{0,1}')`, "23514", "time_zone: must be an IANA time zone", "open_weekdays: write the days"},
		{`INSERT INTO scheduler.calendars (name, open_weekdays) VALUES ('x', '{1,NULL}')`, "23514", "open_weekdays: must hold days from 1", ""},
		{`INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', '1969-12-31')`, "23514", "day: must be of the years 1970 to 2200", ""},
		{`INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', 'infinity')`, "23514", "day: must be of the years 1970 to 2200", ""},
		{`INSERT INTO scheduler.calendar_days (calendar, day, why) VALUES ('open', '2027-01-01', repeat('节', 67))`, "23514", "why: must have at most 200 bytes", ""},
		{`INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('none', '2027-01-01')`, "23503", "violates foreign key", ""},
		{`INSERT INTO scheduler.calendar_days (calendar, day) SELECT 'open', '2030-01-01'::date + n FROM generate_series(1, 5000) n`, "23514", "day: a calendar must not have more than 5000 days", "delete those of past years"},
		{`SELECT scheduler.delete_calendar('open')`, "23503", "calendar open cannot be deleted: 2 campaigns name it", "SELECT id, name FROM scheduler.campaigns WHERE calendar = 'open'"},
		{`UPDATE scheduler.calendars SET name = 'other'`, "23503", "calendar open cannot be renamed: 2 campaigns name it", ""},
		{`BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', '2027-01-01')`, "25000", "isolation level", ""},
		{`INSERT INTO scheduler.calendars (name) SELECT 'calendar ' || n FROM generate_series(1, 1001) n`, "23514", "name: there must not be more than 1000 calendars", ""},
	} {
		err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
			if sql, ok := strings.CutPrefix(c.sql, "BEGIN ISOLATION LEVEL REPEATABLE READ; "); ok {
				return pgx.BeginTxFunc(t.Context(), db.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), sql)
					return err
				})
			}
			_, err := tx.Exec(t.Context(), c.sql)
			return err
		})
		pg, ok := err.(*pgconn.PgError) //nolint:errorlint // the driver's own error, as it comes
		if !ok || pg.Code != c.state || !strings.Contains(pg.Message, c.message) || !strings.Contains(pg.Hint, c.hint) {
			t.Errorf("%s: %v, want %s %s", c.sql, err, c.state, c.message)
		}
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled'`)
	run(t, db, `UPDATE scheduler.calendars SET name = 'other', open_weekdays = '{7,1,1}'`)
	if got := one[string](t, db, `SELECT concat_ws(' ', k.name, k.open_weekdays, d.calendar) FROM scheduler.calendars k, scheduler.calendar_days d`); got != "other {1,7} other" {
		t.Errorf("the calendar is %s", got)
	}
	if !one[bool](t, db, `SELECT scheduler.delete_calendar('other')`) || one[int](t, db, `SELECT count(*) FROM scheduler.calendar_days`) != 0 {
		t.Error("it was not deleted with its days")
	}
}

// A change of a calendar is one of the strategy of each campaign that it touches, in the
// same transaction, and of no other.
func TestAChangedCalendarReplans(t *testing.T) {
	t.Parallel()
	db := surface(t)
	always(t, db, "open", 3)
	always(t, db, "other")
	skips := named(t, db, loop(6), "open", "")
	moves := named(t, db, loop(6), "open", "previous_open")
	short := named(t, db, loop(1), "open", "")
	cancelled := named(t, db, loop(6), "open", "")
	foreign := named(t, db, loop(6), "other", "")
	free := campaign(t, db)
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, cancelled)
	if diff := cmp.Diff([]int32{1, 2, 4, 5, 6}, days(t, db, skips)); diff != "" {
		t.Fatal(diff)
	}
	run(t, db, `INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT c.app_no, row_number() OVER (), c.id, c.revision, 'scheduled', o, o FROM scheduler.campaigns c, scheduler.occurrences(c.id, now(), now() + interval '2 days') o WHERE c.id = $1`, skips)
	run(t, db, `INSERT INTO scheduler.calendar_days (calendar, day) SELECT 'open', (now() AT TIME ZONE 'UTC')::date + n FROM unnest('{4,5}'::integer[]) n`)
	state := func(id int64) string {
		t.Helper()
		return one[string](t, db, `SELECT concat_ws(' ', c.status, c.revision, c.calendar_since > c.written_at, (SELECT string_agg(h.action || CASE WHEN h.strategy_ended THEN ' ended' ELSE '' END, ',' ORDER BY h.id)
			FROM scheduler.campaign_history h WHERE h.campaign_id = c.id), (SELECT count(*) FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id)) FROM scheduler.campaigns c WHERE c.id = $1`, id)
	}
	for id, want := range map[int64]string{skips: "active 2 t update ended 0", moves: "active 2 t update ended 0", short: "active 1 0", cancelled: "cancelled 2 cancel ended 0", foreign: "active 1 0", free: "active 1 0"} {
		if got := state(id); got != want {
			t.Errorf("campaign %d is %s, want %s", id, got, want)
		}
	}
	if diff := cmp.Diff([]int32{1, 2, 6}, days(t, db, skips)); diff != "" {
		t.Error(diff)
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.campaign_changes WHERE campaign_id = $1 AND rewind_to IS NOT NULL`, skips); n != 1 {
		t.Errorf("%d changes for the planner, want 1", n)
	}
	// The same again is no change; another word is none for campaigns.
	run(t, db, `INSERT INTO scheduler.calendar_days (calendar, day) SELECT calendar, day FROM scheduler.calendar_days ON CONFLICT (calendar, day) DO UPDATE SET open = false, why = 'so'`)
	run(t, db, `SELECT scheduler.delete_calendar_days('open', ARRAY['2027-01-01']::date[])`)
	if got := state(skips); got != "active 2 t update ended 0" {
		t.Errorf("after nothing has changed it is %s", got)
	}
	// Days that open bring a finished campaign back; what is closed leaves it without any.
	run(t, db, `UPDATE scheduler.calendars SET open_weekdays = '{}' WHERE name = 'open'`)
	if got := days(t, db, skips); len(got) != 0 {
		t.Errorf("all is closed, and there are occurrences on days %v", got)
	}
	run(t, db, `BEGIN; SET LOCAL scheduler.daemon = 'on'; UPDATE scheduler.campaigns SET status = 'finished' WHERE id = `+fmt.Sprint(skips)+`; COMMIT`)
	run(t, db, `UPDATE scheduler.calendars SET open_weekdays = '{1,2,3,4,5,6,7}' WHERE name = 'open'`)
	if got := state(skips); got != "active 4 t update ended,update ended,finish,update ended 0" {
		t.Errorf("it is %s", got)
	}
	if diff := cmp.Diff([]int32{1, 2, 6}, days(t, db, skips)); diff != "" {
		t.Error(diff)
	}
	// Its author's next strategy begins anew.
	run(t, db, `UPDATE scheduler.campaigns SET calendar_policy = 'next_open' WHERE id = $1`, skips)
	if got := one[bool](t, db, `SELECT calendar_since IS NULL AND revision = 5 FROM scheduler.campaigns WHERE id = $1`, skips); !got {
		t.Error("calendar_since stands after a new strategy")
	}
	run(t, db, `UPDATE scheduler.campaigns SET calendar_closed = '{}', calendar_since = now() + interval '1 day' WHERE id = $1`, skips)
	if got := one[bool](t, db, `SELECT calendar_since IS NULL AND revision = 5 AND calendar_closed <> '{}' FROM scheduler.campaigns WHERE id = $1`, skips); !got {
		t.Error("calendar_closed can be written by hand")
	}
}

// What has passed is not rewritten: a day that is closed after its push moves nothing.
func TestTheCalendarsPastStays(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	at := func(texts ...string) (out []time.Time) {
		for _, text := range texts {
			v, err := time.Parse("2006-01-02", text)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, v)
		}
		return out
	}
	for _, c := range []struct{ was, becomes, now, want []time.Time }{
		{at("2027-01-02", "2027-01-04"), at("2027-01-02", "2027-01-04"), at("2027-01-03"), at("2027-01-02", "2027-01-04")},
		{at("2027-01-02", "2027-01-04"), nil, at("2027-01-03"), at("2027-01-02", "2027-01-03")},
		{nil, at("2027-01-02", "2027-01-04"), at("2027-01-03"), at("2027-01-03", "2027-01-04")},
		{at("2027-01-01", "2027-01-02"), at("2027-01-05", "2027-01-06"), at("2027-01-03"), at("2027-01-01", "2027-01-02", "2027-01-05", "2027-01-06")},
		{at("2027-01-01", "2027-01-03"), at("2027-01-03", "2027-01-06"), at("2027-01-03"), at("2027-01-01", "2027-01-06")},
		{at("2027-01-03", "2027-01-04"), nil, at("2027-01-03"), nil},
	} {
		got := one[[]time.Time](t, db, `SELECT scheduler.closed_from($1, $2, $3)`, orNone(c.was), orNone(c.becomes), c.now[0])
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty(), cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%v becomes %v at %s (-want +got):\n%s", c.was, c.becomes, c.now[0], diff)
		}
	}
}

func orNone(list []time.Time) []time.Time {
	if list == nil {
		return []time.Time{}
	}
	return list
}

// What the database makes of a calendar agrees with a look at each day.
func TestClosedBetweenAgreesWithDays(t *testing.T) {
	t.Parallel()
	db := surface(t)
	rapid.Check(t, func(t *rapid.T) {
		near := time.Unix(rapid.Int64Range(1_000_000, 2_840_000_000).Draw(t, "near"), 0).UTC()
		c := strategytest.Calendars(t, near)
		from, until := near.AddDate(0, 0, -5), near.AddDate(0, 0, 190)
		err := pgx.BeginFunc(context.Background(), db.Pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('c', $1, $2)`, c.Zone, c.Weekdays); err != nil {
				return err
			}
			for day, open := range c.Days {
				if _, err := tx.Exec(t.Context(), `INSERT INTO scheduler.calendar_days (calendar, day, open) VALUES ('c', $1::text::date, $2)`, day, open); err != nil {
					return err
				}
			}
			var got []time.Time
			if err := tx.QueryRow(t.Context(), `SELECT scheduler.closed_between('c', $1::date, $2::date)`, from, until).Scan(&got); err != nil {
				return err
			}
			inside := func(edges []time.Time) (out []time.Time) {
				for _, at := range edges {
					if at.After(from.AddDate(0, 0, 2)) && at.Before(until.AddDate(0, 0, -2)) {
						out = append(out, at)
					}
				}
				return out
			}
			if diff := cmp.Diff(inside(c.Closed(t, from, until)), inside(got), cmpopts.EquateEmpty(), cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("%+v (-days +SQL):\n%s", c, diff)
			}
			return pgx.ErrTxClosed // take it back
		})
		if err != pgx.ErrTxClosed { //nolint:errorlint // our own, as it comes
			t.Fatal(err)
		}
	})
}

// A campaign that is written while its calendar changes has the changed one, whoever
// commits first.
func TestACampaignIsWrittenWhileItsCalendarChanges(t *testing.T) {
	t.Parallel()
	db := surface(t)
	always(t, db, "open")
	insert := `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, calendar) VALUES ('c', 'hook', 'webhook', 2, $1, 'open')`
	shut := func(day int) string {
		return fmt.Sprintf(`INSERT INTO scheduler.calendar_days (calendar, day) VALUES ('open', (now() AT TIME ZONE 'UTC')::date + %d)`, day)
	}
	for i, c := range []struct {
		first, second string
		args          [2][]any
	}{
		{insert, shut(2), [2][]any{{loop(4)}, nil}},
		{shut(3), insert, [2][]any{nil, {loop(4)}}},
	} {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), c.first, c.args[0]...); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := db.Exec(t.Context(), c.second, c.args[1]...)
			done <- err
		}()
		for one[int](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
			if err := t.Context().Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		id := one[int64](t, db, `SELECT max(id) FROM scheduler.campaigns`)
		if diff := cmp.Diff([][]int32{{1, 3, 4}, {1, 4}}[i], days(t, db, id)); diff != "" {
			t.Errorf("case %d (-want +got):\n%s", i, diff)
		}
	}
}

// Verify judges each version by what its calendar said then.
func TestVerifyKnowsCalendars(t *testing.T) {
	t.Parallel()
	r := newRecord(t)
	// Campaign 1 left out the 8th, and since the 9th at noon its calendar moves the 10th to the 11th.
	r.exec(`UPDATE scheduler.campaigns SET calendar = 'c', calendar_policy = 'next_open', calendar_since = '2027-01-09 12:00Z',
		calendar_closed = '{2027-01-08 00:00Z,2027-01-09 00:00Z,2027-01-10 00:00Z,2027-01-11 00:00Z}' WHERE id = 1`)
	r.exec(`INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
		SELECT 1, 1, 1, 'update', true, 'admin', '2027-01-09 12:00Z', to_jsonb(c) || '{"calendar_since": null, "calendar_policy": null, "calendar_closed": ["2027-01-08T00:00:00+00:00", "2027-01-09T08:00:00+08:00"]}'
		  FROM scheduler.campaigns c WHERE id = 1`)
	want := []string{
		"08 09:00 stray 1: decided as missed, but no occurrence of its campaign",
		"10 09:00 stray 1: decided as succeeded, begun at 2027-01-10 09:00:00+00, but its strategy ended at 2027-01-09 12:00:00+00",
	}
	if diff := cmp.Diff(want, r.findings(store.VerifyOptions{})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	r.exec(`DELETE FROM scheduler.decided_tasks WHERE campaign_id = 1 AND due_at IN ('2027-01-08 09:00Z', '2027-01-10 09:00Z', '2027-01-09 09:00Z')`)
	want = []string{"09 09:00 undecided 1: no decision, though its campaign changed at 2027-01-09 12:00:00+00"}
	if diff := cmp.Diff(want, r.findings(store.VerifyOptions{})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

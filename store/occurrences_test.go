package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// Verify's occurrences are package strategy's, though they share no code.
func TestOccurrencesAgreeWithStrategy(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	withCalendar := rapid.Custom(func(t *rapid.T) strategy.Spec {
		s, _ := strategytest.WithCalendar(t)
		return s
	})
	many := rapid.SliceOfN(rapid.OneOf(rapid.Custom(strategytest.Good), withCalendar), 30, 30)
	rapid.Check(t, func(t *rapid.T) {
		var specs []strategy.Spec
		var want [][]time.Time
		for _, spec := range many.Draw(t, "specs") {
			if s, _, err := strategy.Parse(spec); err == nil {
				specs, want = append(specs, spec), append(want, occurrences(s))
			}
		}
		got := occurrencesInSQL(t, db, specs)
		for i := range specs {
			compareOccurrences(t, specs[i], want[i], got[i])
		}
	})
}

// The clock changes that are hardest to get right.
func TestOccurrencesAtClockChanges(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	var specs []strategy.Spec
	var want [][]time.Time
	for _, c := range []struct{ zone, written, clock string }{
		{"Pacific/Apia", "2011-12-28T00:00:00Z", "12:00:00"}, // 30 December 2011 was left out
		{"Pacific/Apia", "2011-12-28T00:00:00Z", "00:00:00"},
		{"Pacific/Kwajalein", "1993-08-19T00:00:00Z", "23:59:59"},   // and here 21 August 1993
		{"Australia/Lord_Howe", "2026-09-30T00:00:00Z", "02:15:00"}, // half an hour
		{"Australia/Lord_Howe", "2026-04-01T00:00:00Z", "01:45:00"},
		{"Antarctica/Troll", "2026-03-25T00:00:00Z", "01:30:00"}, // two hours
		{"Antarctica/Troll", "2026-10-20T00:00:00Z", "02:30:00"},
		{"America/Havana", "2026-03-05T00:00:00Z", "00:00:00"}, // midnight
		{"America/Havana", "2026-10-28T00:00:00Z", "00:30:00"},
		{"Africa/Monrovia", "1972-01-05T00:00:00Z", "00:20:00"}, // 44 minutes and 30 seconds
		{"Europe/Dublin", "2026-10-20T00:00:00Z", "01:30:00"},   // winter is the daylight saving time
		{"Europe/Moscow", "2014-10-20T00:00:00Z", "01:30:00"},   // repeated, and both are standard time
	} {
		for _, gap := range []strategy.DSTGapPolicy{strategy.DSTGapShift, strategy.DSTGapSkip} {
			spec := daily(t, c.zone, c.written, c.clock)
			spec.DSTGap = gap
			s, _, err := strategy.Parse(spec)
			if err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			specs, want = append(specs, spec), append(want, occurrences(s))
		}
	}
	for i, got := range occurrencesInSQL(t, db, specs) {
		compareOccurrences(t, specs[i], want[i], got)
	}
}

func daily(t *testing.T, zone, written, clock string) strategy.Spec {
	t.Helper()
	at, err := time.Parse(time.RFC3339, written)
	if err != nil {
		t.Fatal(err)
	}
	spec := strategytest.Defaults()
	spec.Zone, spec.WrittenAt = zone, at
	spec.Content = loopContent(at, at.AddDate(0, 0, 12), clock)
	return spec
}

func compareOccurrences(t tester, spec strategy.Spec, want, got []time.Time) {
	t.Helper()
	if !slices.EqualFunc(want, got, time.Time.Equal) {
		t.Errorf("strategy %d in %s, policies %s and %s, times %v, calendar policy %q, closed %v since %s, written %s:\n%s\n(-Go +SQL)\n%s", spec.Type, spec.Zone, spec.ShortMonth, spec.DSTGap, spec.Times, spec.CalendarPolicy, spec.Closed, spec.Since,
			spec.WrittenAt.Format(time.RFC3339Nano), spec.Content, cmp.Diff(want, got))
	}
}

// closedText writes instants as an array of SQL.
func closedText(closed []time.Time) string {
	texts := make([]string, len(closed))
	for i, at := range closed {
		texts[i] = at.UTC().Format(time.RFC3339Nano)
	}
	return "{" + strings.Join(texts, ",") + "}"
}

func occurrences(s strategy.Schedule) []time.Time {
	var all []time.Time
	for t := s.Next(time.Time{}); !t.IsZero(); t = s.Next(t) {
		all = append(all, t)
	}
	return all
}

func occurrencesInSQL(t tester, db *pgtest.DB, specs []strategy.Spec) [][]time.Time {
	t.Helper()
	n := len(specs)
	types, contents, zones := make([]int16, n), make([]string, n), make([]string, n)
	months, gaps, times, written := make([]string, n), make([]string, n), make([]*string, n), make([]time.Time, n)
	policies, closed, since := make([]*string, n), make([]*string, n), make([]*time.Time, n)
	for i, s := range specs {
		types[i], contents[i], zones[i] = int16(s.Type), string(s.Content), s.Zone
		months[i], gaps[i], written[i] = string(s.ShortMonth), string(s.DSTGap), s.WrittenAt
		if len(s.Times) > 0 {
			list := "{" + strings.Join(s.Times, ",") + "}"
			times[i] = &list
		}
		if s.Calendar == "" {
			continue
		}
		edges := closedText(s.Closed)
		closed[i] = &edges
		if s.CalendarPolicy != "" {
			policies[i] = (*string)(&specs[i].CalendarPolicy)
		}
		if !s.Since.IsZero() {
			since[i] = &specs[i].Since
		}
	}
	out := make([][]time.Time, n)
	err := pgx.BeginFunc(context.Background(), db.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), `
			WITH version AS (
				SELECT u.*, u.list::text[] AS times, u.edges::timestamptz[] AS calendar_closed, '-infinity'::date AS first_day, 'infinity'::date AS last_day
				  FROM unnest($1::smallint[], $2::jsonb[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::timestamptz[])
				       WITH ORDINALITY AS u (strategy_type, content, zone, short_month_policy, dst_gap_policy, written_at, list, calendar_policy, edges, calendar_since, n)
			)
			SELECT DISTINCT n, due_at FROM (`+store.OccurrencesSQL+`) o ORDER BY n, due_at`, types, contents, zones, months, gaps, written, times, policies, closed, since)
		if err != nil {
			return err
		}
		var i int64
		var due time.Time
		_, err = pgx.ForEachRow(rows, []any{&i, &due}, func() error { out[i-1] = append(out[i-1], due); return nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What skip_occurrence and the API take for an occurrence is what package
// strategy does.
func TestCampaignOccurrencesAgreeWithStrategy(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	rapid.Check(t, func(r *rapid.T) {
		spec := strategytest.Good(r)
		s, _, err := strategy.Parse(spec)
		if err != nil {
			return
		}
		var got []time.Time
		err = pgx.BeginFunc(context.Background(), db.Pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`) // no triggers: the spec's day is not today
			if err == nil {
				_, err = tx.Exec(t.Context(), `
					UPDATE scheduler.campaigns SET strategy_type = $2, strategy_content = $3, time_zone = $4, short_month_policy = $5, dst_gap_policy = $6, written_at = $7, times = $8
					 WHERE id = $1`, id, int16(spec.Type), orNull(spec.Content), spec.Zone, string(spec.ShortMonth), string(spec.DSTGap), spec.WrittenAt, spec.Times)
			}
			if err != nil {
				return err
			}
			rows, _ := tx.Query(t.Context(), `SELECT scheduler.occurrences($1, '-infinity', 'infinity')`, id)
			got, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
			return err
		})
		if err != nil {
			r.Fatal(err)
		}
		compareOccurrences(r, spec, occurrences(s), got)
	})
}

func orNull(content []byte) *string {
	if len(content) == 0 {
		return nil
	}
	text := string(content)
	return &text
}

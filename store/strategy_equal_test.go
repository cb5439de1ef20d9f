package store_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// The database and package strategy judge alike, to the letter.

// A tester is a *testing.T or a *rapid.T.
type tester interface {
	rapid.TB
	Context() context.Context
}

func TestStrategyCasesInSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, c := range strategytest.Cases(t, "../strategy/testdata") {
		if !c.Spec.Since.IsZero() {
			continue // the database does not judge a row again when its calendar changes
		}
		spec, ok := asStored(t, db.Pool, c.Spec)
		if !ok {
			if !strings.Contains(c.Want, "problem ") {
				t.Errorf("%s: jsonb refuses what the table of cases accepts", c.Name)
			}
			continue
		}
		got := sameJudgement(t, db.Pool, spec)
		if want := rules(c.Want); !c.TextOnly && got != want {
			t.Errorf("%s (-table +SQL):\n%s", c.Name, cmp.Diff(want, got))
		}
	}
}

func TestStrategySQLAgreesWithGo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	many := rapid.SliceOfN(rapid.Custom(strategytest.Any), 30, 30)
	rapid.Check(t, func(t *rapid.T) {
		for _, spec := range many.Draw(t, "specs") {
			stored, ok := asStored(t, db.Pool, spec)
			if ok {
				sameJudgement(t, db.Pool, stored)
				continue
			}
			if _, _, err := strategy.Parse(spec); err == nil {
				t.Fatalf("jsonb refuses what Parse accepts: %s", spec.Content)
			}
		}
	})
}

// FuzzStrategySQLAgreesWithGo is guided by what package strategy does with the
// content. Run it for a while with
// -run '^$' -fuzz FuzzStrategySQL -fuzztime 10m -fuzzminimizetime 10x -parallel 1.
func FuzzStrategySQLAgreesWithGo(f *testing.F) {
	for _, c := range strategytest.Cases(f, "../strategy/testdata") {
		f.Add(int(c.Spec.Type), string(c.Spec.Content), c.Spec.Zone)
	}
	db := pgtest.New(f)
	f.Fuzz(func(t *testing.T, kind int, content, zone string) {
		spec := strategytest.Defaults()
		spec.Type, spec.Content, spec.Zone = strategy.Type(kind), []byte(content), zone
		if int(int16(kind)) != kind || !utf8.ValidString(zone) || strings.ContainsRune(zone, 0) {
			t.Skip("no such value gets into a column")
		}
		if strings.Trim(content, " \t\r\n") == "" {
			spec.Content = nil // a text of nothing is none
		}
		stored, ok := asStored(t, db.Pool, spec)
		if ok {
			sameJudgement(t, db.Pool, stored)
		} else if _, _, err := strategy.Parse(spec); err == nil {
			t.Errorf("jsonb refuses what Parse accepts: %s", content)
		}
	})
}

// asStored returns the Spec with its content as it comes back from a jsonb
// column, and false when it cannot go into one.
func asStored(t tester, pool *pgxpool.Pool, spec strategy.Spec) (strategy.Spec, bool) {
	t.Helper()
	if len(spec.Content) == 0 {
		return spec, true
	}
	err := pool.QueryRow(t.Context(), `SELECT $1::text::jsonb::text`, string(spec.Content)).Scan(&spec.Content)
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		return spec, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return spec, true
}

// sameJudgement compares every field of every problem and warning, and returns
// the rules that were broken.
func sameJudgement(t tester, pool *pgxpool.Pool, spec strategy.Spec) string {
	t.Helper()
	_, warnings, err := strategy.Parse(spec)
	var problems strategy.Problems
	errors.As(err, &problems)
	want := strategytest.Judgement(warnings, problems)
	got := judgeInSQL(t, pool, spec)
	if got != want {
		t.Errorf("strategy %d in %q, policies %q and %q, times %q, window %s, written %s:\n%s\n(-Go +SQL)\n%s", spec.Type, spec.Zone, spec.ShortMonth,
			spec.DSTGap, spec.Times, spec.CatchUpWindow, spec.WrittenAt.Format(time.RFC3339Nano), spec.Content, cmp.Diff(want, got))
	}
	return rules(got)
}

func judgeInSQL(t tester, pool *pgxpool.Pool, spec strategy.Spec) string {
	t.Helper()
	var content *string
	if len(spec.Content) > 0 {
		text := string(spec.Content)
		content = &text
	}
	arguments := []any{
		int16(spec.Type), content, spec.Zone, string(spec.ShortMonth), string(spec.DSTGap), spec.CatchUpWindow, spec.WrittenAt, spec.Times,
		spec.Calendar, string(spec.CalendarPolicy), closedText(spec.Closed),
	}
	problems := collect[strategy.Problem](t, pool, `SELECT field, message, value, hint
		FROM scheduler.strategy_problems($1, $2::text::jsonb, $3, $4, $5, $6, $7, $8, nullif($9, ''), nullif($10, ''), $11::text::timestamptz[])`, arguments)
	warnings := collect[strategy.Warning](t, pool, `SELECT field, message
		FROM scheduler.strategy_warnings($1, $2::text::jsonb, $3, $4, $5, $6, $7, $8, nullif($9, ''), nullif($10, ''), $11::text::timestamptz[])`, arguments)
	// It is asked of known zones only: of another one its plan may be an error.
	if slices.ContainsFunc(problems, func(p strategy.Problem) bool { return p.Field == "time_zone" }) {
		return strategytest.Judgement(warnings, problems)
	}
	var plain bool
	if err := pool.QueryRow(t.Context(), `SELECT coalesce(scheduler.strategy_is_plain($1, $2::text::jsonb, $3, $5) AND $4 = 'shift', false)
		FROM scheduler.time_zones WHERE name = $3 UNION ALL SELECT false LIMIT 1`,
		int16(spec.Type), content, spec.Zone, string(spec.DSTGap), spec.WrittenAt).Scan(&plain); err != nil {
		t.Fatal(err)
	}
	if plain && len(spec.Times) == 0 && spec.Calendar == "" && spec.CalendarPolicy == "" && spec.CatchUpWindow >= time.Second && spec.CatchUpWindow <= 30*24*time.Hour && (spec.ShortMonth == "skip" || spec.ShortMonth == "last_day") && len(problems)+len(warnings) > 0 {
		t.Errorf("strategy_is_plain takes what strategy_verdict does not: %s\n%s", spec.Content, strategytest.Judgement(warnings, problems))
	}
	return strategytest.Judgement(warnings, problems)
}

func collect[T any](t tester, pool *pgxpool.Pool, query string, arguments []any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), query, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// rules keeps the lines that name a field and its rule, in order of the alphabet:
// jsonb does not keep how values were written, nor the order of the keys.
func rules(judgement string) string {
	var lines []string
	for line := range strings.Lines(judgement) {
		if strings.HasPrefix(line, "problem ") || strings.HasPrefix(line, "warning ") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Every name that PostgreSQL knows, in any spelling, is a zone to both or to
// neither, and its local days are the same.
func TestStrategyZonesInSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, name := range spellings(t, db.Pool) {
		for _, at := range []time.Time{time.Date(2026, 1, 15, 16, 0, 0, 0, time.UTC), time.Date(2026, 7, 15, 22, 30, 0, 0, time.UTC)} {
			want := dayInGo(name, at)
			var got *time.Time
			if err := db.Pool.QueryRow(t.Context(), `SELECT scheduler.day_in_zone($1, $2)`, at, name).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("day of %s in %s (-Go +SQL):\n%s", at, name, diff)
			}
		}
	}
}

// dayInGo is nil when package strategy refuses the zone.
func dayInGo(name string, at time.Time) *time.Time {
	spec := strategytest.Defaults()
	spec.Type, spec.Zone = strategy.Now, name
	if _, _, err := strategy.Parse(spec); err != nil {
		return nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	year, month, day := at.In(zone).Date()
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	return &date
}

// spellings lists whatever PostgreSQL would take for a zone, and then some.
func spellings(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT name FROM pg_timezone_names UNION SELECT upper(name) FROM pg_timezone_names WHERE name LIKE 'Asia/S%'
		UNION SELECT abbrev FROM pg_timezone_abbrevs WHERE abbrev LIKE 'C%'
		UNION VALUES (''), ('Local'), ('local'), ('+08:00'), ('UTC+8'), ('Asia/Foo8'), ('../UTC'), ('Asia/'), ('right/UTC')`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestStrategyObject(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for content, want := range map[string]string{
		`{"time": 1}`:           `{"time": 1}`,
		`"{\"time\":1}"`:        `{"time": 1}`,
		`" {\"a\":[1e3]} \n"`:   `{"a": [1000]}`,
		`"[]"`:                  `"[]"`,
		`"{"`:                   `"{"`,
		`"{\"a\":\"\\u0000\"}"`: `"{\"a\":\"\\u0000\"}"`,
		`"{\"a\":1e400000}"`:    `"{\"a\":1e400000}"`,
		`"\"{}\""`:              `"\"{}\""`,
		`null`:                  `null`,
		`7`:                     `7`,
	} {
		var got string
		if err := db.Pool.QueryRow(t.Context(), `SELECT scheduler.strategy_object($1::text::jsonb)::text`, content).Scan(&got); err != nil {
			t.Errorf("%s: %v", content, err)
		} else if got != want {
			t.Errorf("strategy_object(%s) = %s, want %s", content, got, want)
		}
	}
}

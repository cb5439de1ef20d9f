package docs_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// The ready year says what its notice says, and can be run again; so can the template.
func TestReadyCalendars(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	s := openSession(t, db.URL)
	for _, file := range []string{"../deploy/calendars/china-2026.sql", "../deploy/calendars/template.sql", "../deploy/calendars/china-2026.sql"} {
		if said := s.run(t, read(t, file)); said != "" {
			t.Fatalf("%s: %s", file, said)
		}
	}
	days := func(open bool) []string {
		rows, _ := db.Query(t.Context(), `SELECT to_char(day, 'MM-DD') FROM scheduler.calendar_days WHERE calendar = 'china' AND open = $1 ORDER BY day`, open)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	// As the notice of 4 November 2025 has them.
	closed := slices.Concat(
		[]string{"01-01", "01-02", "01-03"},
		[]string{"02-15", "02-16", "02-17", "02-18", "02-19", "02-20", "02-21", "02-22", "02-23"},
		[]string{"04-04", "04-05", "04-06"},
		[]string{"05-01", "05-02", "05-03", "05-04", "05-05"},
		[]string{"06-19", "06-20", "06-21"},
		[]string{"09-25", "09-26", "09-27"},
		[]string{"10-01", "10-02", "10-03", "10-04", "10-05", "10-06", "10-07"},
	)
	if diff := cmp.Diff(closed, days(false)); diff != "" {
		t.Errorf("holidays (-notice +file):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"01-04", "02-14", "02-28", "05-09", "09-20", "10-10"}, days(true)); diff != "" {
		t.Errorf("make-up workdays (-notice +file):\n%s", diff)
	}
	// A make-up workday is on a weekend, and a holiday that is no weekend is one.
	var wrong int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM scheduler.calendar_days WHERE open AND extract(isodow FROM day) < 6`).Scan(&wrong); err != nil || wrong != 0 {
		t.Errorf("%d make-up workdays are weekdays, %v", wrong, err)
	}
}

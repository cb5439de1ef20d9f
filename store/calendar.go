package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// CalendarSays holds the parts of a calendar that a campaign's row keeps.
type CalendarSays struct {
	Name   string      // empty: there is none
	Policy string      // empty: skip
	Closed []time.Time // closed from the first until the second, from the third until the fourth, and so on
	Since  time.Time   // when Closed last changed with the calendar; zero: never
}

// calendarColumns are CalendarSays' fields in order, of a row named c.
const calendarColumns = `coalesce(c.calendar, ''), coalesce(c.calendar_policy, ''), c.calendar_closed, c.calendar_since`

// timeOrZero scans a time that may be NULL.
type timeOrZero time.Time

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (t *timeOrZero) ScanTimestamptz(v pgtype.Timestamptz) error {
	*t = timeOrZero(v.Time)
	return nil
}

// A Calendar is a row of scheduler.calendars.
type Calendar struct {
	Name         string
	TimeZone     string
	OpenWeekdays []int16 // 1 Monday to 7 Sunday
	UpdatedBy    string
	UpdatedAt    time.Time
	Days         int64     // in calendar_days
	LastDay      time.Time // of them, at midnight UTC; zero: there is none
	Campaigns    int64     // that name it and are not cancelled, as far as the login sees them
}

// A CalendarDay is a row of scheduler.calendar_days.
type CalendarDay struct {
	Day  time.Time // midnight UTC
	Open bool
	Why  string // empty: no reason was given
}

// ErrNoCalendar says that there is no calendar with the name.
var ErrNoCalendar = errors.New("there is no such calendar")

// Calendars lists the calendars by name.
func (s *Store) Calendars(ctx context.Context) ([]Calendar, error) {
	return s.calendars(ctx, "")
}

// Calendar returns a calendar with its days from one date to another, both included.
// The error may be ErrNoCalendar.
func (s *Store) Calendar(ctx context.Context, name string, from, until time.Time) (Calendar, []CalendarDay, error) {
	some, err := s.calendars(ctx, name)
	switch {
	case err != nil:
		return Calendar{}, nil, err
	case len(some) == 0 || name == "":
		return Calendar{}, nil, fmt.Errorf("calendar %q: %w", name, ErrNoCalendar)
	}
	days, err := readRows(ctx, s, "read the days of a calendar", pgx.RowToStructByPos[CalendarDay], `
		SELECT d.day, d.open, coalesce(d.why, '') FROM scheduler.calendar_days d
		 WHERE d.calendar = $1 AND d.day BETWEEN $2::date AND $3::date ORDER BY d.day`, name, from, until)
	return some[0], days, err
}

func (s *Store) calendars(ctx context.Context, name string) ([]Calendar, error) {
	return readRows(ctx, s, "read calendars", func(row pgx.CollectableRow) (c Calendar, err error) {
		var last pgtype.Date
		err = row.Scan(&c.Name, &c.TimeZone, &c.OpenWeekdays, &c.UpdatedBy, &c.UpdatedAt, &c.Days, &last, &c.Campaigns)
		c.LastDay = last.Time
		return c, err
	}, `
		SELECT k.name, k.time_zone, k.open_weekdays, k.updated_by, k.updated_at, count(d.day), max(d.day),
		       (SELECT count(*) FROM scheduler.campaigns c WHERE c.calendar = k.name AND c.status <> 'cancelled')
		  FROM scheduler.calendars k LEFT JOIN scheduler.calendar_days d ON d.calendar = k.name
		 WHERE $1 = '' OR k.name = $1
		 GROUP BY k.name ORDER BY k.name`, name)
}

// A NamedDay is a day that is listed in a calendar.
type NamedDay struct {
	CalendarDay
	Calendar string
}

// NamedDays lists the days of all calendars from one date to another, both
// included, and at most most of them.
func (s *Store) NamedDays(ctx context.Context, from, until time.Time, most int) ([]NamedDay, error) {
	return readRows(ctx, s, "read the days of calendars", func(row pgx.CollectableRow) (d NamedDay, err error) {
		err = row.Scan(&d.Day, &d.Open, &d.Why, &d.Calendar)
		return d, err
	}, `
		SELECT d.day, d.open, coalesce(d.why, ''), d.calendar FROM scheduler.calendars k JOIN scheduler.calendar_days d ON d.calendar = k.name
		 WHERE d.day BETWEEN $1::date AND $2::date ORDER BY d.day, d.calendar LIMIT $3`, from, until, most)
}

// CalendarClosed returns when a calendar is closed from one instant to another, and
// two days more, as a campaign's row would have it. The error may be ErrNoCalendar.
func (s *Store) CalendarClosed(ctx context.Context, name string, from, until time.Time) ([]time.Time, error) {
	some, err := readRows(ctx, s, "read when a calendar is closed", pgx.RowTo[[]time.Time], `
		SELECT c.closed FROM scheduler.closed_between($1, ($2::timestamptz AT TIME ZONE 'UTC')::date - 3, ($3::timestamptz AT TIME ZONE 'UTC')::date + 3) AS c (closed)
		 WHERE c.closed IS NOT NULL`, name, from, until)
	switch {
	case err != nil:
		return nil, err
	case len(some) == 0:
		return nil, fmt.Errorf("calendar %q: %w", name, ErrNoCalendar)
	}
	return some[0], nil
}

// A CalendarChange is the result of WriteCalendarDays.
type CalendarChange struct {
	Created                   bool // the calendar
	Added, Changed, Unchanged []CalendarDay
	Replanned                 int64 // campaigns whose occurrences may have changed
	OpenWeekdays              []int16
	TimeZone                  string
}

// WriteCalendarDays adds and changes days of a calendar in one transaction. It makes
// the calendar where there is none, with zone and weekdays; where these are empty, the
// database's defaults apply. Other days of the calendar stay. With dry nothing is
// written.
func (s *Store) WriteCalendarDays(ctx context.Context, name, zone string, weekdays []int16, days []CalendarDay, dry bool) (out CalendarChange, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO scheduler.calendars (name, time_zone, open_weekdays)
			VALUES ($1, coalesce(nullif($2, ''), 'Asia/Shanghai'), coalesce($3::smallint[], '{1,2,3,4,5}')) ON CONFLICT DO NOTHING`, name, zone, weekdays)
		if err != nil {
			return err
		}
		out.Created = tag.RowsAffected() == 1
		// A change of the calendar's days locks this row; this SELECT does not.
		err = tx.QueryRow(ctx, `SELECT time_zone, open_weekdays FROM scheduler.calendars WHERE name = $1`, name).Scan(&out.TimeZone, &out.OpenWeekdays)
		if err != nil {
			return err
		}
		if err := out.compare(ctx, tx, name, days); err != nil {
			return err
		}
		write := slices.Concat(out.Added, out.Changed)
		dates, open, why := make([]time.Time, len(write)), make([]bool, len(write)), make([]string, len(write))
		for i, d := range write {
			dates[i], open[i], why[i] = d.Day, d.Open, d.Why
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO scheduler.calendar_days (calendar, day, open, why)
			SELECT $1, u.day, u.open, nullif(u.why, '') FROM unnest($2::date[], $3::boolean[], $4::text[]) AS u (day, open, why)
			    ON CONFLICT (calendar, day) DO UPDATE SET open = excluded.open, why = excluded.why`, name, dates, open, why)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT count(*) FROM scheduler.campaigns c WHERE c.calendar = $1 AND c.xmin = pg_current_xact_id()::xid`, name).Scan(&out.Replanned)
		if err == nil && dry {
			err = errJudged
		}
		return err
	})
	if err != nil && !errors.Is(err, errJudged) {
		return CalendarChange{}, fmt.Errorf("write days of calendar %s: %w", name, refusal(err, ErrNoCalendar))
	}
	return out, nil
}

// compare sorts the days into new, changed and unchanged ones.
func (c *CalendarChange) compare(ctx context.Context, tx pgx.Tx, name string, days []CalendarDay) error {
	rows, _ := tx.Query(ctx, `SELECT d.day, d.open, coalesce(d.why, '') FROM scheduler.calendar_days d WHERE d.calendar = $1`, name)
	stand, err := pgx.CollectRows(rows, pgx.RowToStructByPos[CalendarDay])
	if err != nil {
		return err
	}
	was := make(map[time.Time]CalendarDay, len(stand))
	for _, d := range stand {
		was[d.Day.UTC()] = d
	}
	for _, d := range days {
		switch old, ok := was[d.Day.UTC()]; {
		case !ok:
			c.Added = append(c.Added, d)
		case old.Open != d.Open || old.Why != d.Why:
			c.Changed = append(c.Changed, d)
		default:
			c.Unchanged = append(c.Unchanged, d)
		}
	}
	return nil
}

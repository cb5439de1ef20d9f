package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A closedPart is what a campaign's calendar moves and leaves out, as a page shows it.
type closedPart struct {
	Calendar, Zone string // of the campaign
	List           []forecast.Closed
	More           int
}

// closedRows is how many of them a page shows.
const closedRows = 20

// closedPart reads what the calendar of a schedule does to what is to come.
func (c *Console) closedPart(x *exchange, calendar, zone string, s strategy.Schedule) (closedPart, error) {
	p := closedPart{Calendar: calendar, Zone: zone}
	if calendar == "" {
		return p, nil
	}
	var err error
	p.List, p.More, err = forecast.ReadClosed(x.Context(), x.store, calendar, s, x.Now, closedRows)
	return p, err
}

// closed fills in when the calendar of a campaign that is written now is closed. Only
// the database knows; that there is no such calendar is a problem.
func (c *Console) closed(x *exchange, k *judge.Campaign) ([]judge.Problem, error) {
	if k.Calendar == "" {
		return nil, nil
	}
	var err error
	k.Closed, err = forecast.ClosedAround(x.Context(), x.store, k.Calendar, strategy.Type(k.StrategyType), k.StrategyContent, x.Now)
	if errors.Is(err, store.ErrNoCalendar) {
		k.Closed = []time.Time{}
		return []judge.Problem{{Field: "calendar", Message: "must be a calendar in scheduler.calendars"}}, nil
	}
	return nil, err
}

// calendars shows which days are open. People write them by SQL and the command line.
func (c *Console) calendars(x *exchange) error {
	var d struct {
		All      []store.Calendar
		One      *store.Calendar
		Days     []store.CalendarDay
		Year     int
		Previous int
		Next     int
	}
	var err error
	if d.All, err = x.store.Calendars(x.Context()); err != nil {
		return err
	}
	d.Year = x.in(x.Now, "Asia/Shanghai").Year()
	if at, err := time.Parse("2006", x.FormValue("year")); err == nil {
		d.Year = at.Year()
	}
	d.Previous, d.Next = d.Year-1, d.Year+1
	if name := x.FormValue("name"); name != "" {
		first := time.Date(d.Year, 1, 1, 0, 0, 0, 0, time.UTC)
		one, days, err := x.store.Calendar(x.Context(), name, first, first.AddDate(1, 0, -1))
		if errors.Is(err, store.ErrNoCalendar) {
			return errNoPage
		} else if err != nil {
			return err
		}
		d.One, d.Days = &one, days
	}
	return c.render(x, http.StatusOK, "calendars", d)
}

package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/store"
)

// A calendarCell is one day of a month or week, or one hour of a day.
type calendarCell struct {
	Start   time.Time // in the reader's zone
	Label   string
	Counts  []statusCount
	Level   int // 0 to 4: how much there is
	Planned bool
	Peak    bool // more falls due in one second than may be pending
	Waits   bool // something waits for a quota, or is missed by it
	Quiet   bool // quiet hours hold something, or leave it out
	Today   bool
	Other   bool // of another month
	Days    []store.NamedDay
}

type statusCount struct {
	Status string
	Tasks  string // "1,000+" where more than were counted
}

func (c *Console) calendar(x *exchange) error {
	var d struct {
		calendarSpan
		App, Zone, At string
		Rows          [][]calendarCell
		Heads         []string
		Tasks         store.TaskPage
		Planned       []forecast.Occurrence // of the day that is shown, not stored as tasks yet
		More, AtLeast bool
		LookedUntil   time.Time // as far as the occurrences are worked out; zero: to the end of what is shown
	}
	d.App = x.FormValue("app")
	day := x.in(x.Now, "Asia/Shanghai")
	d.Zone = day.Location().String()
	if at, err := time.ParseInLocation(time.DateOnly, x.FormValue("at"), day.Location()); err == nil {
		day = at
	}
	midnight := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, day.Location())
	d.At = midnight.Format(time.DateOnly)
	d.calendarSpan = spanOf(x.FormValue("view"), midnight)
	cells, end := d.cells, d.end
	if d.View != "day" {
		d.Heads = []string{x.T("Mon"), x.T("Tue"), x.T("Wed"), x.T("Thu"), x.T("Fri"), x.T("Sat"), x.T("Sun")}
	}
	bounds := edges(cells, end)
	counts, err := x.store.CountDays(x.Context(), x.Now, bounds, store.Filter{AppID: d.App})
	if err != nil {
		return err
	}
	coming, err := c.coming(x, bounds[0], end, d.App)
	if err != nil {
		return err
	}
	if d.AtLeast = coming.AtLeast; coming.AtLeast && coming.Until.Before(end.Add(-time.Second)) {
		d.LookedUntil = coming.Until
	}
	fillCells(x, cells, bounds, counts, coming)
	if d.View != "day" {
		if err := markDays(x, cells); err != nil {
			return err
		}
	}
	d.Rows = slices.Collect(slices.Chunk(cells, d.columns))
	if d.View == "day" {
		d.Tasks, err = x.store.PageTasks(x.Context(), store.Filter{AppID: d.App, Since: midnight, Until: end, Limit: pageRows}, store.TaskCursor{})
		if err != nil {
			return err
		}
		for _, o := range coming.Coming {
			if !o.Planned || o.At.Before(midnight) {
				continue
			}
			if d.More = len(d.Planned) == pageRows; d.More {
				break
			}
			d.Planned = append(d.Planned, o)
		}
	}
	return c.render(x, http.StatusOK, "calendar", d)
}

// A calendarSpan is the time that one page of the calendar shows.
type calendarSpan struct {
	View, Title         string
	Previous, Following string // dates of the pages beside it
	cells               []calendarCell
	columns             int
	end                 time.Time
}

// spanOf returns the day, the week or the month that has a midnight in it; a month is
// whole weeks.
func spanOf(view string, midnight time.Time) calendarSpan {
	monday := func(t time.Time) time.Time { return t.AddDate(0, 0, -(int(t.Weekday())+6)%7) }
	switch view {
	case "day":
		s := calendarSpan{
			View: view, Title: midnight.Format("Mon 2006-01-02"), Previous: dateOf(midnight.AddDate(0, 0, -1)), Following: dateOf(midnight.AddDate(0, 0, 1)),
			columns: 6, end: midnight.AddDate(0, 0, 1),
		}
		for at := midnight; at.Before(s.end); at = at.Add(time.Hour) {
			s.cells = append(s.cells, calendarCell{Start: at, Label: at.Format("15:04")})
		}
		return s
	case "week":
		first := monday(midnight)
		return calendarSpan{
			View: view, Title: first.Format("2006-01-02 – ") + dateOf(first.AddDate(0, 0, 6)), Previous: dateOf(first.AddDate(0, 0, -7)), Following: dateOf(first.AddDate(0, 0, 7)),
			cells: daysFrom(first, 7), columns: 7, end: first.AddDate(0, 0, 7),
		}
	}
	month := midnight.AddDate(0, 0, 1-midnight.Day())
	first := monday(month)
	s := calendarSpan{
		View: "month", Title: month.Format("2006-01"), Previous: dateOf(month.AddDate(0, -1, 0)), Following: dateOf(month.AddDate(0, 1, 0)),
		cells: daysFrom(first, 42), columns: 7, end: first.AddDate(0, 0, 42),
	}
	for i := range s.cells {
		s.cells[i].Other = s.cells[i].Start.Month() != month.Month()
	}
	return s
}

// markDays writes into each cell which calendars differ from its weekday, and why.
func markDays(x *exchange, cells []calendarCell) error {
	days, err := x.store.NamedDays(x.Context(), cells[0].Start, cells[len(cells)-1].Start, pageRows)
	if err != nil {
		return err
	}
	on := make(map[string]*calendarCell, len(cells))
	for i := range cells {
		on[dateOf(cells[i].Start)] = &cells[i]
	}
	for _, d := range days {
		if cell := on[dateOf(d.Day)]; cell != nil {
			cell.Days = append(cell.Days, d)
		}
	}
	return nil
}

func dateOf(t time.Time) string { return t.Format(time.DateOnly) }

func daysFrom(first time.Time, n int) []calendarCell {
	cells := make([]calendarCell, n)
	for i := range cells {
		at := first.AddDate(0, 0, i)
		cells[i] = calendarCell{Start: at, Label: strconv.Itoa(at.Day())}
	}
	return cells
}

// edges are the bounds of the cells, the last of which lasts until end.
func edges(cells []calendarCell, end time.Time) []time.Time {
	bounds := make([]time.Time, 0, len(cells)+1)
	for _, cell := range cells {
		bounds = append(bounds, cell.Start)
	}
	return append(bounds, end)
}

// coming is what is to come before end, by the same schedules as a preview. Of a time
// far ahead it works out what is shown, and where there are quotas a week before it, whose
// calls count against them: all that comes before would use up the forecast's bound.
func (c *Console) coming(x *exchange, start, end time.Time, app string) (forecast.Result, error) {
	if !end.After(x.Now) {
		return forecast.Result{}, nil
	}
	in, err := forecast.ReadInput(x.Context(), x.store, c.settings(), &c.known, app, mostCampaigns(app), x.Now, end.Add(-time.Microsecond))
	if err != nil {
		return forecast.Result{}, err
	}
	in.From = start.Add(-time.Microsecond) // which is left out itself
	if slices.ContainsFunc(in.Campaigns, func(c forecast.Campaign) bool { return c.Quota > 0 }) {
		in.From = start.Add(-forecast.Week)
	}
	return forecast.Make(in), nil
}

// fillCells writes into each cell what is stored and what is to come.
func fillCells(x *exchange, cells []calendarCell, bounds []time.Time, counts []store.DayCount, coming forecast.Result) {
	totals := make([]int64, len(cells))
	add := func(i int, status string, n int64, more bool) {
		text := fmt.Sprint(n)
		if more {
			text += "+"
		}
		cells[i].Counts = append(cells[i].Counts, statusCount{status, text})
		cells[i].Planned = cells[i].Planned || status == "pending" || status == "planned"
		totals[i] += n
	}
	at := func(t time.Time) *calendarCell { // nil: in none of them
		i, on := slices.BinarySearchFunc(bounds, t, time.Time.Compare)
		if !on {
			i--
		}
		if i < 0 || i >= len(cells) {
			return nil
		}
		return &cells[i]
	}
	for _, n := range counts {
		add(n.Day, n.Status, n.Tasks, n.More)
	}
	left := coming.Coming // by time, as the cells are
	for i := range cells {
		var planned int64
		for ; len(left) > 0 && left[0].At.Before(bounds[i+1]); left = left[1:] {
			if left[0].Planned && !left[0].At.Before(bounds[i]) {
				planned++
			}
		}
		if planned > 0 {
			add(i, "planned", planned, coming.AtLeast)
		}
		for _, step := range []int64{1, 10, 100, 1000} {
			if totals[i] >= step {
				cells[i].Level++
			}
		}
		cells[i].Today = !x.Now.Before(bounds[i]) && x.Now.Before(bounds[i+1])
	}
	for _, p := range coming.Peaks {
		if cell := at(p.At); cell != nil {
			cell.Peak = true
		}
	}
	for _, p := range slices.Concat(coming.Waiting, coming.Missed) {
		if cell := at(p.DueAt); cell != nil {
			cell.Waits = true
		}
	}
	for _, p := range slices.Concat(coming.Held, coming.Silent) {
		if cell := at(p.DueAt); cell != nil {
			cell.Quiet = true
		}
	}
}

package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A calendarCell is one day of a month or week, or one hour of a day.
type calendarCell struct {
	Start   time.Time // in the reader's zone
	Label   string
	Counts  []statusCount
	Level   int // 0 to 4: how much there is
	Planned bool
	Today   bool
	Other   bool // of another month
}

type statusCount struct {
	Status string
	Tasks  string // "1,000+" where more than were counted
}

func (c *Console) calendar(x *exchange) error {
	var d struct {
		View, App, Zone, Title  string
		At, Previous, Following string
		Rows                    [][]calendarCell
		Heads                   []string
		Tasks                   []store.TaskRow
	}
	d.View, d.App = x.FormValue("view"), x.FormValue("app")
	day := x.in(x.Now, "Asia/Shanghai")
	d.Zone = day.Location().String()
	if at, err := time.ParseInLocation(time.DateOnly, x.FormValue("at"), day.Location()); err == nil {
		day = at
	}
	midnight := time.Date(day.Year(), day.Month(), day.Day(), 0, 0, 0, 0, day.Location())
	d.At = midnight.Format(time.DateOnly)
	var cells []calendarCell
	columns, end := 7, midnight.AddDate(0, 0, 1)
	switch d.View {
	case "day":
		d.Title, d.Previous, d.Following = midnight.Format("Mon 2006-01-02"), dateOf(midnight.AddDate(0, 0, -1)), dateOf(midnight.AddDate(0, 0, 1))
		columns = 6
		for at := midnight; at.Before(end); at = at.Add(time.Hour) {
			cells = append(cells, calendarCell{Start: at, Label: at.Format("15:04")})
		}
	case "week":
		monday := midnight.AddDate(0, 0, -(int(midnight.Weekday())+6)%7)
		d.Title, d.Previous, d.Following = monday.Format("2006-01-02 – ")+dateOf(monday.AddDate(0, 0, 6)), dateOf(monday.AddDate(0, 0, -7)), dateOf(monday.AddDate(0, 0, 7))
		cells, end = daysFrom(monday, 7), monday.AddDate(0, 0, 7)
	default:
		d.View = "month"
		first := time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, day.Location())
		d.Title, d.Previous, d.Following = first.Format("2006-01"), dateOf(first.AddDate(0, -1, 0)), dateOf(first.AddDate(0, 1, 0))
		monday := first.AddDate(0, 0, -(int(first.Weekday())+6)%7)
		cells, end = daysFrom(monday, 42), monday.AddDate(0, 0, 42)
		for i := range cells {
			cells[i].Other = cells[i].Start.Month() != first.Month()
		}
	}
	if d.View != "day" {
		d.Heads = []string{x.T("Mon"), x.T("Tue"), x.T("Wed"), x.T("Thu"), x.T("Fri"), x.T("Sat"), x.T("Sun")}
	}
	if err := c.fill(x, cells, end, d.App); err != nil {
		return err
	}
	d.Rows = slices.Collect(slices.Chunk(cells, columns))
	if d.View == "day" {
		rows, err := x.store.PageTasks(x.Context(), store.Filter{AppID: d.App, Since: midnight, Until: end, Limit: pageRows}, store.TaskCursor{})
		if err != nil {
			return err
		}
		d.Tasks = rows
	}
	return c.render(x, http.StatusOK, "calendar", d)
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

// fill counts what each cell holds, the last of which lasts until end.
func (c *Console) fill(x *exchange, cells []calendarCell, end time.Time, app string) error {
	bounds := make([]time.Time, 0, len(cells)+1)
	for _, cell := range cells {
		bounds = append(bounds, cell.Start)
	}
	bounds = append(bounds, end)
	counts, err := x.store.CountDays(x.Context(), bounds, store.Filter{AppID: app})
	if err != nil {
		return err
	}
	totals := make([]int64, len(cells))
	for _, n := range counts {
		text := fmt.Sprint(n.Tasks)
		if n.More {
			text += "+"
		}
		cells[n.Day].Counts = append(cells[n.Day].Counts, statusCount{n.Status, text})
		cells[n.Day].Planned = cells[n.Day].Planned || n.Status == "pending"
		totals[n.Day] += n.Tasks
	}
	for i, total := range totals {
		for _, step := range []int64{1, 10, 100, 1000} {
			if total >= step {
				cells[i].Level++
			}
		}
		cells[i].Today = !x.Now.Before(bounds[i]) && x.Now.Before(bounds[i+1])
	}
	return nil
}

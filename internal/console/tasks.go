package console

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

var taskStatuses = []string{"pending", "running", "succeeded", "failed", "missed", "cancelled", "unknown"}

// A tasksPage is a list of tasks with what it was narrowed to.
type tasksPage struct {
	Status, App, Campaign, Since, Until string
	Statuses                            []string
	Rows                                []store.TaskRow
	After                               string // of the next page; empty: there is none
	DownTo                              string // the page ends there, though it is not full; empty: it does not
	Problem                             string
}

func (c *Console) tasks(x *exchange) error {
	var d tasksPage
	d.Status, d.App, d.Campaign, d.Since, d.Until, d.Statuses = x.FormValue("status"), x.FormValue("app"), x.FormValue("campaign"), x.FormValue("since"), x.FormValue("until"), taskStatuses
	f := store.Filter{AppID: d.App, Limit: pageRows + 1}
	if slices.Contains(taskStatuses, d.Status) {
		f.Statuses = []string{d.Status}
	}
	f.Campaign, _ = strconv.ParseInt(d.Campaign, 10, 64) // no number chooses all
	for _, bound := range []struct {
		text string
		to   *time.Time
	}{{d.Since, &f.Since}, {d.Until, &f.Until}} {
		if bound.text == "" {
			continue
		}
		at, ok := x.moment(bound.text)
		if !ok {
			d.Problem = x.T("A time is written as 2006-01-02 or 2006-01-02 15:04:05.")
			continue
		}
		*bound.to = at
	}
	page, err := x.store.PageTasks(x.Context(), f, cursorOf(x.FormValue("after")))
	if err != nil {
		return err
	}
	d.show(x.view, page)
	return c.render(x, http.StatusOK, "tasks", d)
}

// show takes over what was found, one more than a page has where there are more.
func (d *tasksPage) show(v *view, page store.TaskPage) {
	d.Rows = page.Rows
	switch {
	case len(d.Rows) > pageRows:
		d.Rows = d.Rows[:pageRows]
		last := d.Rows[pageRows-1]
		d.After = textOf(store.TaskCursor{DueAt: last.DueAt, ID: last.ID})
	case !page.DownTo.IsZero():
		d.DownTo, d.After = v.Time(page.DownTo), textOf(store.TaskCursor{DueAt: page.DownTo})
	}
}

// moment reads a time as people write it, in the reader's zone.
func (x *exchange) moment(text string) (time.Time, bool) {
	zone := x.in(x.Now, "UTC").Location()
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// textOf writes where the next page of tasks begins.
func textOf(c store.TaskCursor) string {
	return c.DueAt.UTC().Format(time.RFC3339Nano) + "." + strconv.FormatInt(c.ID, 10)
}

// cursorOf reads where a page of tasks begins; what cannot be read is the first.
func cursorOf(text string) store.TaskCursor {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return store.TaskCursor{}
	}
	at, err := time.Parse(time.RFC3339Nano, text[:dot])
	id, bad := strconv.ParseInt(text[dot+1:], 10, 64)
	if err != nil || bad != nil {
		return store.TaskCursor{}
	}
	return store.TaskCursor{DueAt: at, ID: id}
}

func (c *Console) task(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	var d struct {
		store.TaskRow
		Deliveries []store.DeliveryCount
		Rulings    []store.AuditRow
		Revoked    []store.RevocationCount
		Accepted   bool // the provider accepted some of it, which it may take back
		Live       int  // seconds between looks; zero: it is decided
		Done       int64
	}
	if d.TaskRow, err = x.store.Task(x.Context(), id); err != nil {
		return err
	}
	if d.TaskRow.Deliveries > 0 || d.Status == "running" {
		if d.Deliveries, err = x.store.DeliveryCounts(x.Context(), id); err != nil {
			return err
		}
	}
	for _, n := range d.Deliveries {
		d.Accepted = d.Accepted || n.Status == "succeeded"
		if n.Status != "pending" && n.Status != "running" && n.Status != "held" {
			d.Done += n.Deliveries
		}
	}
	if d.DecidedAt.IsZero() {
		d.Live = 2
	}
	d.Accepted = d.Accepted || d.Status == "succeeded"
	if d.Revoked, err = x.store.RevocationCounts(x.Context(), id); err != nil {
		return err
	}
	if d.Rulings, err = x.store.ListAudit(x.Context(), store.AuditFilter{Campaign: d.CampaignID, Task: id}); err != nil {
		return err
	}
	return c.render(x, http.StatusOK, "task", d)
}

// unknown is the queue of rulings.
func (c *Console) unknown(x *exchange) error {
	var d struct {
		App  string
		Rows []store.TaskRow
		More bool
	}
	d.App = x.FormValue("app")
	page, err := x.store.PageTasks(x.Context(), store.Filter{AppID: d.App, Statuses: []string{"unknown"}, Limit: pageRows + 1}, store.TaskCursor{})
	if err != nil {
		return err
	}
	rows := page.Rows
	d.More = len(rows) > pageRows
	d.Rows = rows[:min(len(rows), pageRows)]
	return c.render(x, http.StatusOK, "unknown", d)
}

// The rulings, as the path of the form names them.
var rulings = map[string]store.Ruling{
	"sent": {Sent: true}, "not-sent": {}, "resend": {Resend: true},
}

// revoke is the deed that has the provider take back what it accepted.
const revoke = "revoke"

// confirmTask asks before a ruling or a revocation.
func (c *Console) confirmTask(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	deed := x.PathValue("deed")
	if _, ok := rulings[deed]; !ok && deed != revoke {
		return errNoPage
	}
	return c.showConfirm(x, http.StatusOK, id, deed, "")
}

func (c *Console) showConfirm(x *exchange, status int, id int64, deed, problem string) error {
	t, err := x.store.Task(x.Context(), id)
	if err != nil {
		return err
	}
	return c.render(x, status, "confirm-task", struct {
		store.TaskRow
		Deed, Problem, Target string
	}{t, deed, problem, x.PostFormValue("target")})
}

// changeTask applies a ruling, or has a task taken back; either needs a reason.
func (c *Console) changeTask(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	deed, note := x.PathValue("deed"), x.PostFormValue("note")
	r, ok := rulings[deed]
	if !ok && deed != revoke {
		return errNoPage
	}
	if note == "" {
		return c.showConfirm(x, http.StatusUnprocessableEntity, id, deed, x.T("Say why: it is kept with what you do."))
	}
	if deed == revoke {
		_, err = x.store.RevokeTask(x.Context(), id, note, strings.TrimSpace(x.PostFormValue("target")))
	} else {
		r.TaskID, r.Note = id, note
		_, err = x.store.Resolve(x.Context(), r)
	}
	if err != nil {
		return err
	}
	return x.seeOther("/tasks/" + strconv.FormatInt(id, 10))
}

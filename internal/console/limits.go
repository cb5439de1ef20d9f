package console

import (
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/console/picture"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/store"
)

// forecastDays is how far ahead the page of limits looks.
const forecastDays = 14

// mostCampaigns is how many campaigns a page works out what is to come of: fewer for all
// apps, of which it shows little.
func mostCampaigns(app string) int {
	if app == "" {
		return allAppsCampaigns
	}
	return forecast.MaxCampaigns
}

const allAppsCampaigns = 1000

// An appLimits is a row of the page of limits: how full an app is.
type appLimits struct {
	store.AppFill
	Meter template.HTML
	Quiet string // its quiet hours; empty: none
	Pace  string // targets per second; empty: no bound
}

// A quotaLimits is another: how full a quota is.
type quotaLimits struct {
	store.QuotaUsage
	Meter    template.HTML
	Week     template.HTML // empty: not all of its calls are known
	NextFree time.Time
}

// limits shows how full everything is that has a bound, and what the bounds
// will do to the coming pushes.
func (c *Console) limits(x *exchange) error {
	var d struct {
		App        string
		Apps       []appLimits
		Fuller     bool // an app that is left out may be among the fullest
		Quotas     []quotaLimits
		MoreQuotas bool
		Forecast   forecast.Result
		More       struct{ Missed, Waiting, Held, Silent, Peaks, Bursts, Spreads, Repeats, Ends bool } // than the forecast's lists show
	}
	d.App = x.FormValue("app")
	var err error
	if d.Apps, d.Fuller, err = x.appLimits(d.App); err != nil {
		return err
	}
	in, err := forecast.ReadInput(x.Context(), x.store, c.settings(), &c.known, d.App, mostCampaigns(d.App), x.Now, x.Now.AddDate(0, 0, forecastDays))
	if err != nil {
		return err
	}
	if d.Quotas, d.MoreQuotas, err = x.quotaLimits(d.App, in.Calls); err != nil {
		return err
	}
	r := &d.Forecast
	*r = forecast.Make(in)
	r.Missed, d.More.Missed = firstOf(r.Missed, pageRows)
	r.Waiting, d.More.Waiting = firstOf(r.Waiting, pageRows)
	r.Held, d.More.Held = firstOf(r.Held, pageRows)
	r.Silent, d.More.Silent = firstOf(r.Silent, pageRows)
	r.Peaks, d.More.Peaks = firstOf(r.Peaks, pageRows)
	r.Bursts, d.More.Bursts = firstOf(r.Bursts, pageRows)
	r.Spreads, d.More.Spreads = firstOf(r.Spreads, pageRows)
	r.Repeats, d.More.Repeats = firstOf(r.Repeats, pageRows)
	r.Ends, d.More.Ends = firstOf(r.Ends, pageRows)
	return c.render(x, http.StatusOK, "limits", d)
}

// appLimits returns the fullest apps, or the one named. fuller says that an app that is
// left out may be among the fullest.
func (x *exchange) appLimits(named string) (list []appLimits, fuller bool, err error) {
	fills, fuller, err := x.store.AppFills(x.Context(), named, pageRows)
	if err != nil {
		return nil, false, err
	}
	shown := make([]string, len(fills))
	for i, a := range fills {
		shown[i] = a.AppID
	}
	rows, err := x.store.AppsOf(x.Context(), shown)
	if err != nil {
		return nil, false, err
	}
	// The rows of the apps have what the view of how full they are has not.
	more := make(map[forecast.AppKey]*store.App, len(rows))
	for i, a := range rows {
		more[forecast.AppKey{AppID: a.AppID, WorkspaceID: a.WorkspaceID}] = &rows[i]
	}
	for _, a := range fills {
		row := appLimits{AppFill: a, Meter: picture.Meter(x.T("Pending tasks of %s", a.AppID), a.Pending, a.Limit)}
		if m := more[forecast.AppKey{AppID: a.AppID, WorkspaceID: a.WorkspaceID}]; m != nil {
			if m.Quiet != (store.QuietHours{}) {
				row.Quiet = m.Quiet.String()
			}
			if m.TargetsPerSecond > 0 {
				row.Pace = strconv.FormatFloat(m.TargetsPerSecond, 'f', -1, 64)
			}
		}
		list = append(list, row)
	}
	return list, fuller, nil
}

// quotaLimits returns the fullest quotas of all apps, or of the one named. calls are
// those that the forecast has read.
func (x *exchange) quotaLimits(named string, calls []forecast.Call) (list []quotaLimits, more bool, err error) {
	quotas, err := x.store.QuotaFills(x.Context(), named, pageRows+1)
	if err != nil {
		return nil, false, err
	}
	type key struct {
		app     forecast.AppKey
		channel string
	}
	at := make(map[key][]time.Time)
	for _, c := range calls {
		k := key{c.App, c.Channel}
		at[k] = append(at[k], c.At)
	}
	quotas, more = firstOf(quotas, pageRows)
	for _, q := range quotas {
		row := quotaLimits{
			QuotaUsage: q, Meter: picture.Meter(x.T("Calls of %s in 7 days", q.Channel), q.Used, int64(q.Weekly)),
			Week: x.week(q, at[key{forecast.AppKey{AppID: q.AppID, WorkspaceID: q.WorkspaceID}, q.Channel}]),
		}
		if q.NextFreeAt != nil {
			row.NextFree = *q.NextFreeAt
		}
		list = append(list, row)
	}
	return list, more, nil
}

// week draws the calls of a quota that count now. The forecast reads so many calls at
// most; where some of the quota's are missing there is no picture.
func (v *view) week(q store.QuotaUsage, at []time.Time) template.HTML {
	if int64(len(at)) != q.Used {
		return ""
	}
	slices.SortFunc(at, time.Time.Compare)
	text := make([]string, 0, weekTimes)
	for _, t := range at[:min(len(at), weekTimes)] {
		text = append(text, v.Time(t))
	}
	return picture.Week(v.T("When the calls of %s were in the last 7 days", q.Channel), strings.Join(text, ", "), v.Now, at)
}

// weekTimes bounds the times that a picture of a week says in its text.
const weekTimes = 10

// latenessTasks is how many pushes the page of lateness looks at in all where there
// are more than are read in one pass; the stretches share them.
const latenessTasks = 16_800

// latenessRanges are what the page of lateness can show: each stretch is found by
// itself, so there are few.
var latenessRanges = map[string]struct {
	step  time.Duration
	steps int
}{
	"24h": {time.Hour, 24},
	"7d":  {4 * time.Hour, 42},
}

// lateness shows whether pushes keep their second.
func (c *Console) lateness(x *exchange) error {
	var d struct {
		Range, App string
		Steps      []store.LatenessStep
		Picture    template.HTML
		Histogram  []latenessBand
		Zone       string
	}
	d.Range, d.App = x.FormValue("range"), x.FormValue("app")
	if _, ok := latenessRanges[d.Range]; !ok {
		d.Range = "24h"
	}
	r := latenessRanges[d.Range]
	d.Zone = x.in(x.Now, "UTC").Location().String()
	since := x.Now.Truncate(time.Hour).Add(time.Hour - time.Duration(r.steps)*r.step)
	var err error
	if d.Steps, err = x.store.Lateness(x.Context(), since, r.step, r.steps, latenessTasks/r.steps, store.Filter{AppID: d.App}); err != nil {
		return err
	}
	columns := make([]picture.Column, r.steps)
	for i := range columns {
		columns[i].Label = x.in(since.Add(time.Duration(i)*r.step), "UTC").Format("01-02 15h")
	}
	for _, s := range d.Steps {
		if i := int(s.From.Sub(since) / r.step); i >= 0 && i < r.steps {
			columns[i].P50, columns[i].P95, columns[i].P99 = s.P50, s.P95, s.P99
		}
	}
	title := x.T("Lateness by hour")
	if d.Range == "7d" {
		title = x.T("Lateness by four hours")
	}
	if len(d.Steps) > 0 {
		d.Histogram = x.histogram(d.Steps)
		d.Picture = picture.Lateness(title, x.T("Half, 95 and 99 of 100 pushes began within this time"), columns)
	}
	return c.render(x, http.StatusOK, "lateness", d)
}

// A latenessBand is one row of the histogram of lateness.
type latenessBand struct {
	Over, UpTo time.Duration // zero: there is no such bound
	Tasks      int64
	Picture    template.HTML
}

// histogram counts the pushes of all steps by how late they began, up to the last band
// that has some.
func (v *view) histogram(steps []store.LatenessStep) (bands []latenessBand) {
	var all int64
	within := make([]int64, len(store.LatenessBounds))
	for _, s := range steps {
		all += s.Tasks
		for i, n := range s.Within {
			within[i] += n
		}
	}
	var over time.Duration
	var before int64
	for i, bound := range append(slices.Clone(store.LatenessBounds), 0) {
		n := all
		if i < len(within) {
			n = within[i]
		}
		band := latenessBand{Over: over, UpTo: bound, Tasks: n - before}
		band.Picture = picture.Share(v.T("Pushes within this time"), band.Tasks, all)
		bands = append(bands, band)
		if over, before = bound, n; n == all {
			break
		}
	}
	return bands
}

// audit shows who did what.
func (c *Console) audit(x *exchange) error {
	var d struct {
		Who, What string
		Deeds     []string
		Rows      []store.AuditRow
		Until     string // of the next page
	}
	d.Who, d.What, d.Deeds = x.FormValue("who"), x.FormValue("what"), []string{"update", "pause", "resume", "cancel", "delete", "reject", "finish", "trigger", "skip", "unskip", "rule", "revoke", "hold", "release"}
	f := store.AuditFilter{Who: d.Who, Deed: d.What, Limit: pageRows + 1}
	if until, err := time.Parse(time.RFC3339Nano, x.FormValue("until")); err == nil {
		f.Until = until
	}
	rows, err := x.store.ListAudit(x.Context(), f)
	if err != nil {
		return err
	}
	if len(rows) > pageRows {
		rows = rows[:pageRows]
		d.Until = rows[pageRows-1].At.UTC().Format(time.RFC3339Nano)
	}
	d.Rows = rows
	return c.render(x, http.StatusOK, "audit", d)
}

// hold shows whether everything is held, and what a release would push.
func (c *Console) hold(x *exchange) error { return c.showHold(x, http.StatusOK, "") }

func (c *Console) showHold(x *exchange, status int, problem string) error {
	var d struct {
		Hold    store.Hold
		Pushes  []store.HeldPush
		Problem string
		Overdue string // "more than 10000" where there are more than are counted
		Coming  string
	}
	d.Problem = problem
	if x.Rights.Hold && !x.State.HeldSince.IsZero() {
		var err error
		if d.Hold, d.Pushes, err = x.store.HeldUpTo(x.Context(), 20); err != nil {
			return err
		}
		d.Overdue, d.Coming = x.upTo(d.Hold.Overdue, store.MaxHeld), x.upTo(d.Hold.Coming, store.MaxHeld)
	}
	return c.render(x, status, "hold", d)
}

func (c *Console) holdAll(x *exchange) error {
	note := x.PostFormValue("note")
	if note == "" {
		return c.showHold(x, http.StatusUnprocessableEntity, x.T("Say why: everybody who looks will read it."))
	}
	if _, err := x.store.HoldAll(x.Context(), note, ""); err != nil {
		return err
	}
	return x.seeOther("/hold")
}

func (c *Console) release(x *exchange) error {
	if _, _, err := x.store.Release(x.Context(), x.PostFormValue("skip_overdue") != ""); err != nil {
		return err
	}
	return x.seeOther("/hold")
}

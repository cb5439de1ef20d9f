package console

import (
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/console/picture"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/store"
)

// forecastDays is how far ahead the page of limits looks.
const forecastDays = 14

// limits shows how full everything is that has a bound, and what the bounds
// will do to the coming pushes.
func (c *Console) limits(x *exchange) error {
	type app struct {
		store.AppFill
		Meter template.HTML
		Pace  string // targets per second; empty: no bound
	}
	type quota struct {
		store.QuotaUsage
		Meter    template.HTML
		NextFree time.Time
	}
	var d struct {
		Apps     []app
		Quotas   []quota
		Forecast forecast.Result
	}
	apps, err := x.store.AppFills(x.Context(), pageRows)
	if err != nil {
		return err
	}
	rows, err := x.store.Apps(x.Context())
	if err != nil {
		return err
	}
	paces := make(map[[2]string]string, len(rows))
	for _, a := range rows {
		if a.TargetsPerSecond > 0 {
			paces[[2]string{a.AppID, a.WorkspaceID}] = strconv.FormatFloat(a.TargetsPerSecond, 'f', -1, 64)
		}
	}
	for _, a := range apps {
		d.Apps = append(d.Apps, app{a, picture.Meter(x.T("Pending tasks of %s", a.AppID), a.Pending, a.Limit), paces[[2]string{a.AppID, a.WorkspaceID}]})
	}
	quotas, err := x.store.QuotaUsages(x.Context())
	if err != nil {
		return err
	}
	for _, q := range quotas {
		row := quota{QuotaUsage: q, Meter: picture.Meter(x.T("Calls of %s in 7 days", q.Channel), q.Used, int64(q.Weekly))}
		if q.NextFreeAt != nil {
			row.NextFree = *q.NextFreeAt
		}
		d.Quotas = append(d.Quotas, row)
	}
	if d.Forecast, err = forecast.Read(x.Context(), x.store, c.settings(), quotas, x.FormValue("app"), x.Now, x.Now.AddDate(0, 0, forecastDays)); err != nil {
		return err
	}
	return c.render(x, http.StatusOK, "limits", d)
}

// latenessTasks is how many pushes the page of lateness looks at in all where there
// are more than are read in one pass; the hours share them.
const latenessTasks = 16_800

// lateness shows whether pushes keep their second.
func (c *Console) lateness(x *exchange) error {
	var d struct {
		Range, App string
		Hours      []store.LatenessHour
		Picture    template.HTML
		Zone       string
		Most       int // pushes of an hour that are looked at
	}
	hours := map[string]int{"24h": 24, "7d": 168}[x.FormValue("range")]
	d.Range, d.App = x.FormValue("range"), x.FormValue("app")
	if hours == 0 {
		hours, d.Range = 24, "24h"
	}
	d.Most = latenessTasks / hours
	d.Zone = x.in(x.Now, "UTC").Location().String()
	since := x.Now.Truncate(time.Hour).Add(-time.Duration(hours-1) * time.Hour)
	var err error
	if d.Hours, err = x.store.LatenessByHour(x.Context(), since, hours, d.Most, store.Filter{AppID: d.App}); err != nil {
		return err
	}
	columns := make([]picture.Column, hours)
	for i := range columns {
		columns[i].Label = x.in(since.Add(time.Duration(i)*time.Hour), "UTC").Format("01-02 15h")
	}
	for _, h := range d.Hours {
		if i := int(h.Hour.Sub(since) / time.Hour); i >= 0 && i < hours {
			columns[i].P50, columns[i].P95, columns[i].P99 = h.P50, h.P95, h.P99
		}
	}
	if len(d.Hours) > 0 {
		d.Picture = picture.Lateness(x.T("Lateness by hour"), x.T("Half, 95 and 99 of 100 pushes began within this time"), columns)
	}
	return c.render(x, http.StatusOK, "lateness", d)
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

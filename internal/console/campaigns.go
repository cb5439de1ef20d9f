package console

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/console/picture"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// pageRows is how many rows a list shows; the next page begins behind the last.
const pageRows = 50

// campaignStatuses are what a list can be narrowed to.
var campaignStatuses = []string{"active", "paused", "rejected", "cancelled", "finished"}

// A campaignLine is one line of the list.
type campaignLine struct {
	store.CampaignSummary
	Words string
	Next  time.Time // the strategy's next occurrence; zero: none, or it is not active
}

func (c *Console) campaigns(x *exchange) error {
	var d struct {
		Query, Status, App string
		Statuses           []string
		Rows               []campaignLine
		Before             string // of the next page; empty: there is none
		Older              bool   // there are older ones that were not looked through
	}
	d.Query, d.Status, d.App, d.Statuses = x.FormValue("q"), x.FormValue("status"), x.FormValue("app"), campaignStatuses
	f := store.Filter{AppID: d.App, Limit: pageRows + 1}
	if slices.Contains(campaignStatuses, d.Status) {
		f.Statuses = []string{d.Status}
	}
	before, _ := strconv.ParseInt(x.FormValue("before"), 10, 64) // what is no number is the first page
	rows, downTo, err := x.store.FindCampaigns(x.Context(), d.Query, f, before)
	switch {
	case err != nil:
		return err
	case len(rows) > pageRows:
		rows = rows[:pageRows]
		d.Before = strconv.FormatInt(rows[pageRows-1].ID, 10)
	case downTo > 0:
		d.Before, d.Older = strconv.FormatInt(downTo, 10), true
	}
	for _, r := range rows {
		d.Rows = append(d.Rows, lineOf(x, r))
	}
	return c.render(x, http.StatusOK, "campaigns", d)
}

func lineOf(x *exchange, c store.CampaignSummary) campaignLine {
	line := campaignLine{CampaignSummary: c}
	schedule, _, err := strategy.Parse(forecast.SpecOf(c))
	if err != nil {
		return line
	}
	line.Words = x.Schedule(schedule.Describe())
	if c.Status == "active" {
		line.Next = schedule.Next(x.Now)
	}
	return line
}

// nextOccurrences are the first n of a schedule after the given time.
func nextOccurrences(s strategy.Schedule, after time.Time, n int) []occurrence {
	var out []occurrence
	for t := s.Next(after); !t.IsZero() && len(out) < n; t = s.Next(t) {
		out = append(out, occurrence{At: t, Note: s.Note(t)})
	}
	return out
}

type occurrence struct {
	At      time.Time
	Note    string
	Skipped bool
	By, Why string // who skipped it, and why
}

// Value is the occurrence as a form carries it.
func (o occurrence) Value() string { return o.At.UTC().Format(time.RFC3339Nano) }

// markSkipped says which of the occurrences are not pushed.
func markSkipped(next []occurrence, skips []store.Skip) {
	for i := range next {
		for _, k := range skips {
			if k.DueAt.Equal(next[i].At) {
				next[i].Skipped, next[i].By, next[i].Why = true, k.By, k.Note
			}
		}
	}
}

// markQuiet says which of the occurrences quiet hours hold or leave out.
func markQuiet(next []occurrence, q strategy.QuietHours, policy, zone string) {
	for i := range next {
		next[i].Note = forecast.WithQuietNote(next[i].Note, q, policy, next[i].At, zone)
	}
}

// outcomes is how many outcomes of a campaign its page shows.
const outcomes = 50

func (c *Console) campaign(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	var d struct {
		store.CampaignDetail
		Words    string
		Next     []occurrence
		Closed   closedPart
		Problems []judge.Problem
		Outcomes store.TaskPage
		Strip    []picture.Mark
		Audit    []store.AuditRow
		Coming   bool   // whether it pushes by itself again
		Quiet    string // the app's quiet hours; empty: none
		Policy   string // what it does about them, as exemptions stand
	}
	if d.CampaignDetail, err = x.store.CampaignDetail(x.Context(), id); err != nil {
		return err
	}
	if schedule, _, err := strategy.Parse(forecast.SpecOf(d.CampaignSummary)); err == nil {
		d.Words, d.Next = x.Schedule(schedule.Describe()), nextOccurrences(schedule, x.Now, 10)
		if d.Closed, err = c.closedPart(x, d.Calendar.Name, d.TimeZone, schedule); err != nil {
			return err
		}
	}
	skips, err := x.store.Skips(x.Context(), id, x.Now)
	if err != nil {
		return err
	}
	markSkipped(d.Next, skips)
	quiet, policy, err := x.store.QuietHoursFor(x.Context(), id)
	if err != nil {
		return err
	}
	if quiet != (store.QuietHours{}) {
		d.Quiet, d.Policy = quiet.String(), policy
		markQuiet(d.Next, strategy.NewQuietHours(quiet.From, quiet.Until, quiet.Zone), policy, d.TimeZone)
	}
	d.Coming = d.Status == "active" || d.Status == "paused" || d.Status == "rejected"
	if d.Status == "rejected" {
		d.Problems = c.judgeStored(&d.CampaignDetail, x.Now)
	}
	d.Outcomes, err = x.store.PageTasks(x.Context(), store.Filter{Campaign: id, Limit: outcomes, Until: x.Now.Add(time.Second)}, store.TaskCursor{})
	if err != nil {
		return err
	}
	for _, t := range slices.Backward(d.Outcomes.Rows) {
		d.Strip = append(d.Strip, picture.Mark{Status: t.Status, Label: x.in(t.DueAt, d.TimeZone).Format("2006-01-02 15:04:05"), Link: "/tasks/" + strconv.FormatInt(t.ID, 10)})
	}
	if d.Audit, err = x.store.ListAudit(x.Context(), store.AuditFilter{Campaign: id}); err != nil {
		return err
	}
	return c.render(x, http.StatusOK, "campaign", d)
}

// judgeStored says what is wrong with a stored campaign as it would be judged now.
func (c *Console) judgeStored(d *store.CampaignDetail, now time.Time) []judge.Problem {
	form := formOf(d)
	k := form.campaign(d.Targets > 0)
	k.Closed = d.Calendar.Closed
	app, _ := k.AppAmong(c.settings())
	v := c.Judge.Campaign(k, app, now)
	return judge.OnePerField(v.Problems)
}

// confirmCampaign asks before what cannot be taken back.
func (c *Console) confirmCampaign(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	deed := x.PathValue("deed")
	if deed != "cancel" && deed != "trigger" {
		return errNoPage
	}
	d, err := x.store.CampaignDetail(x.Context(), id)
	if err != nil {
		return err
	}
	return c.render(x, http.StatusOK, "confirm-campaign", struct {
		store.CampaignDetail
		Deed string
	}{d, deed})
}

// changeCampaign pauses, resumes, cancels or triggers, or skips one occurrence or
// takes that back.
func (c *Console) changeCampaign(x *exchange) error {
	id, err := x.id()
	if err != nil {
		return err
	}
	note := x.PostFormValue("note")
	revision, _ := strconv.ParseInt(x.PostFormValue("revision"), 10, 32) // no number is no revision that stands
	status := map[string]string{"pause": "paused", "resume": "active", "cancel": "cancelled"}[x.PathValue("deed")]
	deed := x.PathValue("deed")
	switch {
	case deed == "skip" || deed == "unskip":
		due, bad := time.Parse(time.RFC3339Nano, x.PostFormValue("at"))
		if bad != nil {
			return errForm
		}
		_, err = x.store.SkipOccurrence(x.Context(), id, due, note, deed == "unskip")
	case status != "":
		err = x.store.ChangeStatus(x.Context(), id, int32(revision), status, note)
	case deed == "trigger":
		var task int64
		if task, _, err = x.store.Trigger(x.Context(), id, note); err == nil {
			return x.seeOther("/tasks/" + strconv.FormatInt(task, 10))
		}
	default:
		return errNoPage
	}
	if err != nil {
		return err
	}
	return x.seeOther("/campaigns/" + strconv.FormatInt(id, 10))
}

package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A campaignForm is what a person wrote into the form, as text: whatever cannot
// be read is shown again as it was.
type campaignForm struct {
	Name, App, Channel             string // App is "app_id workspace_id"
	Type                           string // 0, 1 or 2
	Fixed                          string // 2006-01-02T15:04:05 in the zone
	Start, End                     string // days
	Circle                         string // 1, 2 or 3
	Days                           []string
	Time                           string
	Times                          string // several, in place of Time
	Calendar, CalendarPolicy       string
	Request, Targets, AudienceView string
	Zone, Misfire, Window, Spread  string
	ShortMonth, DSTGap, Quiet      string
	Resend, Paused                 bool
	Note                           string
	ID                             int64 // zero: a new one
	Revision                       int32
}

// Has says whether the form has the day chosen.
func (f campaignForm) Has(day string) bool { return slices.Contains(f.Days, day) }

// formFrom reads a posted form.
func formFrom(x *exchange) campaignForm {
	value := func(name string) string {
		return strings.ReplaceAll(strings.TrimSpace(x.PostFormValue(name)), "\r\n", "\n")
	}
	f := campaignForm{
		Name: value("name"), App: value("app"), Channel: value("channel"), Type: value("type"), Fixed: value("fixed"), Start: value("start"), End: value("end"),
		Circle: value("circle"), Days: x.PostForm["day"], Time: value("time"), Times: value("times"), Calendar: value("calendar"), CalendarPolicy: value("calendar_policy"), Request: value("request"), Targets: value("targets"), AudienceView: value("audience_view"),
		Zone: value("time_zone"), Misfire: value("misfire_policy"), Window: value("catch_up_window"), Spread: value("spread"), ShortMonth: value("short_month_policy"), DSTGap: value("dst_gap_policy"), Quiet: value("quiet_policy"),
		Resend: value("resend_unknown") != "", Paused: value("paused") != "", Note: value("note"),
	}
	revision, _ := strconv.ParseInt(value("revision"), 10, 32) // none is no revision that stands
	f.Revision = int32(revision)
	return f
}

// formOf is the form of a stored campaign.
func formOf(d *store.CampaignDetail) campaignForm {
	f := campaignForm{
		ID: d.ID, Revision: d.Revision, Name: d.Name, App: appValue(d.AppID, d.WorkspaceID), Channel: d.Channel, Type: strconv.Itoa(int(d.StrategyType)),
		AudienceView: d.AudienceView, Zone: d.TimeZone, Misfire: d.MisfirePolicy, Window: d.CatchUpWindow.String(), ShortMonth: d.ShortMonth, DSTGap: d.DSTGap, Quiet: d.QuietPolicy,
		Spread: spreadText(d.Spread), Times: strings.Join(d.Times, ", "), Calendar: d.Calendar.Name, CalendarPolicy: d.Calendar.Policy, Resend: d.ResendUnknown, Request: indented(d.Request), Circle: "1",
	}
	var content struct {
		FixedTime, StartTime, EndTime int64
		CircleType                    int
		CircleValue                   []int
		Time                          string
	}
	if json.Unmarshal(d.StrategyContent, &content) != nil {
		return f
	}
	zone, err := time.LoadLocation(d.TimeZone)
	if err != nil {
		zone = time.UTC
	}
	if d.StrategyType == 1 {
		f.Fixed = time.UnixMilli(content.FixedTime).In(zone).Format("2006-01-02T15:04:05")
	}
	if d.StrategyType == 2 {
		f.Start, f.End = time.UnixMilli(content.StartTime).In(zone).Format(time.DateOnly), time.UnixMilli(content.EndTime).In(zone).Format(time.DateOnly)
		f.Circle, f.Time = strconv.Itoa(content.CircleType), content.Time
		for _, day := range content.CircleValue {
			f.Days = append(f.Days, strconv.Itoa(day))
		}
	}
	return f
}

func indented(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

func appValue(appID, workspaceID string) string { return strings.TrimSpace(appID + " " + workspaceID) }

// app takes the value of the app's field apart.
func (f *campaignForm) app() (appID, workspaceID string) {
	appID, workspaceID, _ = strings.Cut(f.App, " ")
	return appID, workspaceID
}

// content is the StrategyContent that the fields come to. What cannot be read
// goes in as it was written, for the strategy's own rules to name.
func (f *campaignForm) content(zone string) json.RawMessage {
	at, err := time.LoadLocation(zone)
	if err != nil {
		at = time.UTC
	}
	moment := func(layouts []string, text string) any {
		for _, layout := range layouts {
			if t, err := time.ParseInLocation(layout, text, at); err == nil {
				return t.UnixMilli()
			}
		}
		return text
	}
	var content any
	switch f.Type {
	case "1":
		content = map[string]any{"fixedTime": moment([]string{"2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime}, f.Fixed)}
	case "2":
		circle, err := strconv.Atoi(f.Circle)
		loop := map[string]any{
			"startTime": moment([]string{time.DateOnly}, f.Start), "endTime": moment([]string{time.DateOnly}, f.End), "circleType": circle,
		}
		if len(f.times()) == 0 {
			loop["time"] = withSeconds(f.Time)
		}
		if err != nil {
			loop["circleType"] = f.Circle
		}
		if f.Circle != "1" {
			days := []int{}
			for _, d := range f.Days {
				if n, err := strconv.Atoi(d); err == nil && (f.Circle == "3" || n <= 7) {
					days = append(days, n)
				}
			}
			slices.Sort(days)
			loop["circleValue"] = slices.Compact(days)
		}
		content = loop
	default:
		return nil
	}
	raw, _ := json.Marshal(content) // numbers and strings
	return raw
}

// withSeconds adds the seconds that a browser leaves out when they are zero.
func withSeconds(clock string) string {
	if len(clock) == len("15:04") {
		return clock + ":00"
	}
	return clock
}

// times are those of the field for several, as a person divides them.
func (f *campaignForm) times() []string {
	if f.Type != "2" {
		return nil
	}
	times := strings.FieldsFunc(f.Times, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;，、；", r) })
	for i, clock := range times {
		times[i] = withSeconds(clock)
	}
	return times
}

// policy is what the form says of closed days: nothing where there is no calendar,
// since its field always says something.
func (f *campaignForm) policy() string {
	if f.Calendar == "" {
		return ""
	}
	return f.CalendarPolicy
}

// targets are the lines of the targets' field.
func (f *campaignForm) targets() []string {
	var out []string
	for line := range strings.SplitSeq(f.Targets, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// campaign is the form as the judge reads it.
func (f *campaignForm) campaign(stored bool) *judge.Campaign {
	appID, workspaceID := f.app()
	kind, err := strconv.Atoi(f.Type)
	if err != nil {
		kind = -1
	}
	return &judge.Campaign{
		Name: f.Name, AppID: appID, WorkspaceID: workspaceID, Channel: f.Channel, StrategyType: kind, StrategyContent: f.content(f.Zone),
		Request: json.RawMessage(f.Request), TimeZone: f.Zone, MisfirePolicy: f.Misfire, CatchUpWindow: f.Window, Spread: f.Spread, ShortMonth: f.ShortMonth, DSTGap: f.DSTGap,
		Times: f.times(), Calendar: f.Calendar, CalendarPolicy: f.policy(), QuietPolicy: f.Quiet, ResendUnknown: f.Resend, AudienceView: f.AudienceView, StoredTargets: stored || len(f.targets()) > 0, Status: "active",
	}
}

// spreadText is a spread as the form shows it.
func spreadText(spread time.Duration) string {
	if spread == 0 {
		return ""
	}
	return spread.String()
}

// draft is the form as the store writes it.
func (f *campaignForm) draft(window time.Duration) *store.CampaignDraft {
	c := f.campaign(false)
	spread, _ := judge.Interval(c.Spread) // what is no interval is a problem of the form
	d := &store.CampaignDraft{
		Name: c.Name, AppID: c.AppID, WorkspaceID: c.WorkspaceID, Channel: c.Channel, StrategyType: int16(c.StrategyType), StrategyContent: c.StrategyContent,
		Request: c.Request, AudienceView: c.AudienceView, TimeZone: c.TimeZone, MisfirePolicy: c.MisfirePolicy, CatchUpWindow: window, Spread: spread,
		ShortMonth: c.ShortMonth, DSTGap: c.DSTGap, Times: c.Times, Calendar: c.Calendar, CalendarPolicy: c.CalendarPolicy, QuietPolicy: c.QuietPolicy, ResendUnknown: c.ResendUnknown, Status: "active", Targets: f.targets(),
	}
	if f.Paused {
		d.Status = "paused"
	}
	return d
}

// A composePage is the form with what its campaign would come to.
type composePage struct {
	Form      campaignForm
	Apps      []store.App
	Channels  []string
	Problems  map[string][]string // by field of the form
	Warnings  []string
	Words     string
	Next      []occurrence
	Closed    closedPart
	Calendars []store.Calendar
	SameHour  []store.UpcomingRow // of the app, in the hour of the first occurrence
	Effect    *effectPart         // nil: something is wrong with the form
	SQL       string
	Changes   []change // of an edit
	Judged    bool
	Good      bool
}

// A change is one column before and after an edit.
type change struct{ Column, Before, After string }

// fieldOf says beside which field of the form a problem is shown.
var fieldOf = map[string]string{
	"name": "name", "app_id": "app", "workspace_id": "app", "channel": "channel", "strategy_type": "type", "fixedTime": "fixed", "startTime": "start", "endTime": "end",
	"circleType": "circle", "circleValue": "day", "time": "time", "times": "times", "calendar": "calendar", "calendar_policy": "calendar_policy", "time_zone": "time_zone", "misfire_policy": "misfire_policy", "catch_up_window": "catch_up_window", "spread": "spread",
	"short_month_policy": "short_month_policy", "dst_gap_policy": "dst_gap_policy", "quiet_policy": "quiet_policy", "audience_view": "audience_view", "request": "request", "targets": "targets",
}

// formPage is the form before it is judged.
func (c *Console) formPage(x *exchange, f campaignForm) (*composePage, error) {
	p := &composePage{Form: f, Problems: map[string][]string{}}
	var err error
	p.Apps, err = x.store.Apps(x.Context())
	_, p.Channels = c.Judge.Channel("")
	if err != nil {
		return nil, err
	}
	p.Calendars, err = x.store.Calendars(x.Context())
	return p, err
}

// compose judges the form and works out what it would come to.
func (c *Console) compose(x *exchange, f campaignForm, before *store.CampaignDetail) (*composePage, error) {
	p, err := c.formPage(x, f)
	if err != nil {
		return nil, err
	}
	p.Judged = true
	appID, workspaceID := f.app()
	settings, _ := f.campaign(false).AppAmong(c.settings())
	known, quiet := false, strategy.QuietHours{}
	for _, a := range p.Apps {
		if a.AppID == appID && a.WorkspaceID == workspaceID {
			settings.Provider, settings.TimeZone, known = a.Provider, cmp.Or(f.Zone, a.TimeZone), true
			quiet = strategy.NewQuietHours(a.Quiet.From, a.Quiet.Until, a.Quiet.Zone)
		}
	}
	p.Form.Zone = cmp.Or(f.Zone, settings.TimeZone)
	draft := p.Form
	campaign := draft.campaign(before != nil && before.Targets > 0)
	unknown, err := c.closed(x, campaign)
	if err != nil {
		return nil, err
	}
	v := c.Judge.Campaign(campaign, settings, x.Now)
	problems := append(v.Problems, unknown...)
	if f.Name == "" {
		problems = append(problems, judge.Problem{Field: "name", Message: "is required"})
	}
	if !known {
		problems = append(problems, judge.Problem{Field: "app_id", Message: x.T("choose one of the apps")})
	}
	if !json.Valid([]byte(f.Request)) {
		problems = append(problems, judge.Problem{Field: "request", Message: "must be a JSON object"})
	}
	for _, one := range judge.OnePerField(problems) {
		if field := fieldOf[one.Field]; field != "" {
			p.Problems[field] = append(p.Problems[field], x.Judged(one.Message))
		} else {
			p.Problems["request"] = append(p.Problems["request"], one.Field+": "+x.Judged(one.Message))
		}
	}
	for _, w := range v.Warnings {
		field, text, _ := strings.Cut(w, " ")
		p.Warnings = append(p.Warnings, field+" "+x.Judged(text))
	}
	p.Good = len(p.Problems) == 0
	if v.Schedule.Describe() != "never" {
		p.Words = x.Schedule(v.Schedule.Describe())
		p.Next = nextOccurrences(v.Schedule, x.Now.Add(-v.Spec.CatchUpWindow), 10)
		markQuiet(p.Next, quiet, f.Quiet, p.Form.Zone)
		if p.Closed, err = c.closedPart(x, f.Calendar, draft.Zone, v.Schedule); err != nil {
			return nil, err
		}
	}
	if len(p.Next) > 0 {
		hour := p.Next[0].At.Truncate(time.Hour)
		p.SameHour, err = x.store.ListUpcoming(x.Context(), store.Filter{AppID: appID, WorkspaceID: workspaceID, Since: hour, Until: hour.Add(time.Hour), Limit: 10})
		if err != nil {
			return nil, err
		}
	}
	if p.Good {
		if p.Effect, err = c.effect(x, &draft, v, before); err != nil {
			return nil, err
		}
	}
	p.SQL = draft.sql(v.Spec.CatchUpWindow)
	if before != nil {
		p.Changes = changesOf(formOf(before), draft)
	}
	return p, nil
}

// sql is the INSERT or UPDATE that the form amounts to.
func (f *campaignForm) sql(window time.Duration) string {
	d := f.draft(window)
	content := "NULL"
	if d.StrategyContent != nil {
		content = quote(string(d.StrategyContent))
	}
	columns := []struct{ name, value string }{
		{"name", quote(d.Name)},
		{"app_id", quote(d.AppID)},
		{"workspace_id", quote(d.WorkspaceID)},
		{"channel", quote(d.Channel)},
		{"strategy_type", strconv.Itoa(int(d.StrategyType))},
		{"strategy_content", content},
		{"request", quote(string(d.Request))},
		{"time_zone", quote(d.TimeZone)},
		{"misfire_policy", quote(d.MisfirePolicy)},
		{"catch_up_window", quote(fmt.Sprintf("%d seconds", int(window.Seconds())))},
		{"short_month_policy", quote(d.ShortMonth)},
		{"dst_gap_policy", quote(d.DSTGap)},
		{"resend_unknown", strconv.FormatBool(d.ResendUnknown)},
		{"status", quote(d.Status)},
	}
	if d.AudienceView != "" {
		columns = append(columns, struct{ name, value string }{"audience_view", quote(d.AudienceView)})
	}
	if f.ID != 0 || len(d.Times) > 0 {
		columns = append(columns, struct{ name, value string }{"times", quoteTimes(d.Times)})
	}
	if f.ID != 0 || d.QuietPolicy != "" {
		columns = append(columns, struct{ name, value string }{"quiet_policy", quoteOrNull(d.QuietPolicy)})
	}
	if f.ID != 0 || d.Spread != 0 {
		columns = append(columns, struct{ name, value string }{"spread", quoteSpread(d.Spread)})
	}
	if f.ID != 0 || d.Calendar != "" {
		columns = append(columns, struct{ name, value string }{"calendar", quoteOrNull(d.Calendar)}, struct{ name, value string }{"calendar_policy", quoteOrNull(d.CalendarPolicy)})
	}
	if f.ID != 0 {
		var sets []string
		for _, c := range columns {
			if !slices.Contains([]string{"app_id", "workspace_id", "channel", "status"}, c.name) {
				sets = append(sets, c.name+" = "+c.value)
			}
		}
		return fmt.Sprintf("UPDATE scheduler.campaigns SET\n  %s\nWHERE id = %d AND revision = %d;", strings.Join(sets, ",\n  "), f.ID, f.Revision)
	}
	names, values := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], values[i] = c.name, c.value
	}
	insert := fmt.Sprintf("INSERT INTO scheduler.campaigns\n  (%s)\nVALUES\n  (%s)", strings.Join(names, ", "), strings.Join(values, ", "))
	if n := len(d.Targets); n > 0 {
		return fmt.Sprintf("WITH c AS (\n%s\nRETURNING id)\nINSERT INTO scheduler.campaign_targets (campaign_id, target)\nSELECT id, unnest(ARRAY[%s]) FROM c;", insert, quoteSome(d.Targets))
	}
	return insert + ";"
}

// quoteSome quotes the first few of a list, and says how many are left out.
func quoteSome(list []string) string {
	const shown = 20
	var quoted []string
	for _, t := range list[:min(len(list), shown)] {
		quoted = append(quoted, quote(t))
	}
	if more := len(list) - shown; more > 0 {
		return strings.Join(quoted, ", ") + fmt.Sprintf(" /* and %d more */", more)
	}
	return strings.Join(quoted, ", ")
}

// quoteTimes writes the column times as SQL.
func quoteTimes(times []string) string {
	if len(times) == 0 {
		return "NULL"
	}
	quoted := make([]string, len(times))
	for i, clock := range times {
		quoted[i] = quote(clock)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]"
}

// quoteSpread writes the column spread as SQL.
func quoteSpread(spread time.Duration) string {
	if spread == 0 {
		return "NULL"
	}
	return quote(strconv.FormatFloat(spread.Seconds(), 'f', -1, 64) + " seconds")
}

// quoteOrNull writes a literal, or NULL for nothing.
func quoteOrNull(text string) string {
	if text == "" {
		return "NULL"
	}
	return quote(text)
}

// quote writes a literal of SQL under standard_conforming_strings.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// changesOf lists what an edit changes.
func changesOf(before, after campaignForm) []change {
	var out []change
	note := func(column, a, b string) {
		if a != b {
			out = append(out, change{column, a, b})
		}
	}
	note("name", before.Name, after.Name)
	note("strategy_type", before.Type, after.Type)
	note("strategy_content", string(before.content(before.Zone)), string(after.content(after.Zone)))
	note("times", strings.Join(before.times(), ", "), strings.Join(slices.Sorted(slices.Values(after.times())), ", "))
	note("calendar", before.Calendar, after.Calendar)
	note("calendar_policy", before.policy(), after.policy())
	note("request", before.Request, indented(json.RawMessage(after.Request)))
	note("audience_view", before.AudienceView, after.AudienceView)
	note("time_zone", before.Zone, after.Zone)
	note("misfire_policy", before.Misfire, after.Misfire)
	a, _ := judge.Interval(before.Window)
	b, _ := judge.Interval(after.Window) // what is no interval is a problem of the form
	note("catch_up_window", a.String(), b.String())
	a, _ = judge.Interval(before.Spread)
	b, _ = judge.Interval(after.Spread)
	note("spread", spreadText(a), spreadText(b))
	note("short_month_policy", before.ShortMonth, after.ShortMonth)
	note("dst_gap_policy", before.DSTGap, after.DSTGap)
	note("quiet_policy", before.Quiet, after.Quiet)
	note("resend_unknown", strconv.FormatBool(before.Resend), strconv.FormatBool(after.Resend))
	return out
}

// newForm is the form of a new campaign: a weekly loop from today on.
func newForm(now time.Time) campaignForm {
	return campaignForm{
		Type: "2", Circle: "2", Start: now.Format(time.DateOnly), End: now.AddDate(0, 0, 28).Format(time.DateOnly), Time: "10:00:00",
		Fixed: now.Add(time.Hour).Format("2006-01-02T15:04:05"), Channel: "mpaas.push_multiple", Misfire: "latest", Window: "1h", ShortMonth: "skip", DSTGap: "shift",
		Request: "{\n  \"deliveryType\": 3,\n  \"expiredSeconds\": 600,\n  \"templateName\": \"welcome\"\n}",
	}
}

func (c *Console) newCampaign(x *exchange) error {
	f := newForm(x.in(x.Now, "Asia/Shanghai"))
	f.App = x.FormValue("app")
	return c.showForm(x, f)
}

func (c *Console) showForm(x *exchange, f campaignForm) error {
	p, err := c.formPage(x, f)
	if err != nil {
		return err
	}
	return c.render(x, http.StatusOK, "compose", p)
}

func (c *Console) editCampaign(x *exchange) error {
	d, err := c.stored(x)
	if err != nil {
		return err
	}
	return c.showForm(x, formOf(d))
}

func (c *Console) copyCampaign(x *exchange) error {
	d, err := c.stored(x)
	if err != nil {
		return err
	}
	f := formOf(d)
	f.ID, f.Revision = 0, 0
	return c.showForm(x, f)
}

func (c *Console) stored(x *exchange) (*store.CampaignDetail, error) {
	id, err := x.id()
	if err != nil {
		return nil, err
	}
	d, err := x.store.CampaignDetail(x.Context(), id)
	return &d, err
}

// insertCampaign judges the form and, when its author saw what it comes to and
// says so, stores it.
func (c *Console) insertCampaign(x *exchange) error {
	f := formFrom(x)
	p, err := c.compose(x, f, nil)
	if err != nil {
		return err
	}
	if !p.Good || x.PostFormValue("do") != "insert" {
		return c.render(x, statusOf(p), "compose", p)
	}
	window, _ := judge.Interval(p.Form.Window) // it was judged
	id, err := x.store.InsertDraft(x.Context(), p.Form.draft(window))
	if err != nil {
		return err
	}
	return x.seeOther("/campaigns/" + strconv.FormatInt(id, 10))
}

// updateCampaign does the same for an edit. It loses to a newer revision.
func (c *Console) updateCampaign(x *exchange) error {
	before, err := c.stored(x)
	if err != nil {
		return err
	}
	f := formFrom(x)
	f.ID, f.App, f.Channel = before.ID, appValue(before.AppID, before.WorkspaceID), before.Channel
	if f.Revision != before.Revision {
		return store.ErrRevisionMoved
	}
	p, err := c.compose(x, f, before)
	if err != nil {
		return err
	}
	if !p.Good || x.PostFormValue("do") != "update" {
		return c.render(x, statusOf(p), "compose", p)
	}
	window, _ := judge.Interval(p.Form.Window) // it was judged
	if err := x.store.UpdateCampaign(x.Context(), f.ID, f.Revision, p.Form.draft(window), f.Note); err != nil {
		return err
	}
	return x.seeOther("/campaigns/" + strconv.FormatInt(f.ID, 10))
}

func statusOf(p *composePage) int {
	if p.Good {
		return http.StatusOK
	}
	return http.StatusUnprocessableEntity
}

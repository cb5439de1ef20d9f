package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/forecast"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

const previewHelp = `Shows when a strategy pushes: the next occurrences, the schedule in words, and
what its author should know. Nothing is stored or sent.

The strategy is given as the columns of scheduler.campaigns, and no database is
used, but for --calendar-name. --now is the moment at which the row is taken to be written; "today" in the
rules is its day in the zone. A fixed time that has passed is shown while the
catch-up window is open. With --channel its quota counts too.

With --campaign it is a stored campaign, whose request is judged too, as the
daemon would; the occurrences are those to come.

Exit status 1 means that the campaign would be refused or rejected, with every
reason listed.`

const previewExample = `  # Mondays and Thursdays at nine, in January and February 2026
  scheduler preview --strategy-type 2 --time-zone Asia/Shanghai --now 2026-01-01T00:00:00+08:00 \
    --strategy-content '{"startTime":1767196800000,"endTime":1772208000000,
      "circleType":2,"circleValue":[1,4],"time":"09:00:00"}'

  # The coming months of a stored campaign
  scheduler preview --campaign 12 --calendar

  # Once, an hour from now, for a program
  scheduler preview --strategy-type 1 --strategy-content '{"fixedTime":'$(date -d '+1 hour' +%s)000'}' --output json`

// previewFlags are the columns as they were typed. All are texts. So a value that is
// not a number or a time is reported as a problem of its field, together with the
// other problems, as the database does.
type previewFlags struct {
	strategyType, content, zone, shortMonth, dstGap, window, spread, now, channel string
	times                                                                         []string
	calendarName, calendarPolicy                                                  string
	limit                                                                         int
	campaign                                                                      int64
	calendar, asJSON                                                              bool
}

func newPreviewCommand(p *program) *cobra.Command {
	var flags previewFlags
	c := &cobra.Command{
		Use:     "preview {--strategy-type N [--strategy-content JSON] | --campaign ID}",
		Short:   "Show when a strategy pushes",
		Long:    previewHelp,
		Example: previewExample,
		Args:    cobra.NoArgs,
	}
	flags.add(c)
	database, output := addDatabaseFlag(c), addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		flags.asJSON = output.json()
		switch {
		case c.Flags().Changed("campaign"):
			return p.withStore(c.Context(), database, func(s *store.Store, cfg *config.Config) error {
				return p.previewStored(c.Context(), s, cfg, flags)
			})
		case !c.Flags().Changed("strategy-type") && !c.Flags().Changed("strategy-content"):
			return usageError("say what to preview: --campaign, or --strategy-type, and for types 1 and 2 --strategy-content")
		case flags.calendarName != "":
			return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
				return p.preview(c.Context(), s, flags)
			})
		}
		return p.preview(c.Context(), nil, flags)
	}
	for _, column := range []string{
		"strategy-type", "strategy-content", "time-zone", "now", "short-month-policy", "dst-gap-policy", "catch-up-window", "channel", "times", "spread", "calendar-name", "calendar-policy",
	} {
		c.MarkFlagsMutuallyExclusive("campaign", column)
	}
	return c
}

func (f *previewFlags) add(c *cobra.Command) {
	set := c.Flags()
	set.StringVar(&f.strategyType, "strategy-type", "0", "`N`: 0 now, 1 fixed time, 2 loop")
	set.StringVar(&f.content, "strategy-content", "", "StrategyContent, a `JSON` object or a JSON string that holds one")
	set.StringVar(&f.zone, "time-zone", "Asia/Shanghai", "the IANA `ZONE` of the strategy's days and times")
	set.StringVar(&f.now, "now", "", "when the row is written, an RFC 3339 `TIME` (default now)")
	set.IntVar(&f.limit, "limit", 10, "show at most `N` occurrences")
	set.StringVar(&f.shortMonth, "short-month-policy", string(strategy.ShortMonthSkip), "what a month without the day does: `skip|last_day`")
	set.StringVar(&f.dstGap, "dst-gap-policy", string(strategy.DSTGapShift), "what a time that a clock change skips does: `shift|skip`")
	set.StringSliceVar(&f.times, "times", nil, "times of day of a loop, `HH:mm:ss,…`, in place of its content's time")
	set.StringVar(&f.calendarName, "calendar-name", "", "the `NAME` of a calendar in the database, by which closed days are left out")
	set.StringVar(&f.calendarPolicy, "calendar-policy", "", "what falls on a closed day does: `skip|next_open|previous_open` (default skip)")
	set.StringVar(&f.window, "catch-up-window", "1h", "how late an occurrence may be pushed, an `INTERVAL` such as 1h30m")
	set.StringVar(&f.spread, "spread", "", "over how long the deliveries of a push go out, an `INTERVAL` such as 30m")
	set.StringVar(&f.channel, "channel", "", "the push API, for its quota: a `CHANNEL` such as alipay.label_send")
	set.Int64Var(&f.campaign, "campaign", 0, "preview the stored campaign with this `ID` instead")
	set.BoolVar(&f.calendar, "calendar", false, "draw the months with their push days")
	complete := func(flag string, words ...string) {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	complete("strategy-type", "0\tnow", "1\tfixed time", "2\tloop")
	complete("short-month-policy", "skip", "last_day")
	complete("dst-gap-policy", "shift", "skip")
	complete("calendar-policy", "skip", "next_open", "previous_open")
}

// preview shows a strategy that is given as flags. The store is nil where no calendar
// is named.
func (p *program) preview(ctx context.Context, s *store.Store, flags previewFlags) error {
	spec, problems := flags.spec(p.now())
	if s != nil {
		closed, err := forecast.ClosedAround(ctx, s, spec.Calendar, spec.Type, spec.Content, spec.WrittenAt)
		switch {
		case errors.Is(err, store.ErrNoCalendar):
			problems = append(problems, problem{Field: "calendar", Message: fmt.Sprintf("must be a calendar in scheduler.calendars, not %q", flags.calendarName)})
		case err != nil:
			return err
		}
		spec.Closed = closed
	}
	schedule, warnings, err := strategy.Parse(spec)
	problems = append(problems, judge.OfStrategy(err)...)
	spread, ofSpread := judge.Spread(flags.spread, spec.CatchUpWindow)
	if problems = append(problems, ofSpread...); len(problems) > 0 {
		return p.refuse("the strategy", problems, flags.asJSON)
	}
	// A fixed time may lie in the past by the catch-up window, plus the second to
	// which fixedTime is truncated. A loop has no occurrence before it was written.
	plan := newPlan(schedule, spec, spec.WrittenAt, spec.WrittenAt.Add(-spec.CatchUpWindow-2*time.Second), flags.limit)
	plan.say(spread)
	for _, w := range warnings {
		plan.Warnings = append(plan.Warnings, w.String())
	}
	plan.Warnings = append(plan.Warnings, reachWarnings(plan.all, quotaOf(flags.channel))...)
	if s != nil {
		if err := plan.readClosed(ctx, s, spec, schedule); err != nil {
			return err
		}
	}
	return p.showPlan(plan, flags)
}

func (p *program) showPlan(plan plan, flags previewFlags) error {
	switch {
	case flags.asJSON:
		return p.writeJSON(plan)
	case flags.calendar:
		return p.printCalendar(plan)
	}
	return p.printPlan(plan)
}

// spec reads the flags. A value that cannot be read is a problem. A valid value
// replaces it, so that the other flags can still be judged.
func (f *previewFlags) spec(now time.Time) (strategy.Spec, []problem) {
	var problems []problem
	note := func(field, message string) {
		problems = append(problems, problem{Field: field, Message: message})
	}
	spec := strategy.Spec{
		Content: []byte(f.content), Zone: f.zone, WrittenAt: now.Truncate(time.Second), CatchUpWindow: time.Hour,
		ShortMonth: strategy.ShortMonthPolicy(f.shortMonth), DSTGap: strategy.DSTGapPolicy(f.dstGap), Times: f.times,
		Calendar: f.calendarName, CalendarPolicy: strategy.CalendarPolicy(f.calendarPolicy),
	}
	if n, err := strconv.Atoi(f.strategyType); err == nil {
		spec.Type = strategy.Type(n)
	} else {
		note("strategy_type", fmt.Sprintf("must be 0 (now), 1 (fixed time) or 2 (loop), not %q", f.strategyType))
	}
	if window, err := judge.Interval(f.window); err == nil {
		spec.CatchUpWindow = window
	} else {
		note("catch_up_window", err.Error())
	}
	if f.now != "" {
		at, err := time.Parse(time.RFC3339, f.now)
		if err != nil {
			note("now", fmt.Sprintf("must be an RFC 3339 time such as 2026-01-31T09:00:00+08:00, not %q", f.now))
		} else {
			spec.WrittenAt = at
		}
	}
	if f.limit < 1 {
		note("limit", "must be at least 1")
	}
	if adapter, names := channel(f.channel); f.channel != "" && adapter == nil {
		note("channel", fmt.Sprintf("must be one of %s, not %q", strings.Join(names, ", "), f.channel))
	}
	return spec, problems
}

// A plan holds what preview prints. The form of its JSON is a promise to other
// programs.
type plan struct {
	Occurrences []occurrence `json:"occurrences"`
	Warnings    []string     `json:"warnings"`
	Closed      []closedJSON `json:"closed,omitempty"` // only of a strategy with a calendar

	words string // the schedule in words
	now   time.Time
	quiet store.QuietHours // the app's; zero: none, or there is no app
	all   []time.Time      // also those beyond the limit and those that are skipped, in the zone
	skips map[int64]string // who skipped an occurrence and why, by its Unix microseconds

	calendar   string
	closed     []forecast.Closed
	moreClosed int
	zone       string
}

// A closedJSON is an occurrence that the calendar moves or leaves out.
type closedJSON struct {
	DueAt   string `json:"due_at"`   // RFC 3339 in the campaign's zone, to the second: without the calendar
	MovedTo string `json:"moved_to"` // empty: it is left out
	Why     string `json:"why"`      // the calendar's reason for closing the day
	Note    string `json:"note"`     // why it does not move
}

// shownClosed bounds how many occurrences that a calendar moves or leaves out
// are listed.
const shownClosed = 20

// readClosed lists the coming occurrences that the calendar moves or leaves out.
func (p *plan) readClosed(ctx context.Context, s *store.Store, spec strategy.Spec, schedule strategy.Schedule) (err error) {
	if spec.Calendar == "" {
		return nil
	}
	p.calendar, p.zone = spec.Calendar, spec.Zone
	p.closed, p.moreClosed, err = forecast.ReadClosed(ctx, s, spec.Calendar, schedule, p.now, shownClosed)
	for _, c := range p.closed {
		out := closedJSON{DueAt: inZone(c.From, spec.Zone).Format(time.RFC3339), Why: c.Word, Note: c.Why}
		if !c.To.IsZero() {
			out.MovedTo = inZone(c.To, spec.Zone).Format(time.RFC3339)
		}
		p.Closed = append(p.Closed, out)
	}
	return err
}

type occurrence struct {
	DueAt string `json:"due_at"` // RFC 3339 in the campaign's zone, to the second
	Note  string `json:"note"`

	at time.Time
}

// say adds to the words the time over which each push goes out.
func (p *plan) say(spread time.Duration) {
	if spread > 0 {
		p.words += "; " + spreadInWords(spread)
	}
}

// skip marks the occurrences that are not pushed.
func (p *plan) skip(skips []store.Skip) {
	p.skips = make(map[int64]string, len(skips))
	for _, k := range skips {
		p.skips[k.DueAt.UnixMicro()] = k.Words()
	}
	for i := range p.Occurrences {
		o := &p.Occurrences[i]
		if words := p.skips[o.at.UnixMicro()]; words != "" && o.Note != "" {
			o.Note += "; " + words
		} else if words != "" {
			o.Note = words
		}
	}
}

// mute marks the occurrences that quiet hours hold or leave out.
func (p *plan) mute(c store.CampaignRow) {
	hours := strategy.NewQuietHours(p.quiet.From, p.quiet.Until, p.quiet.Zone)
	for i := range p.Occurrences {
		o := &p.Occurrences[i]
		o.Note = forecast.WithQuietNote(o.Note, hours, c.QuietPolicy, o.at, c.TimeZone)
	}
}

// quietInWords says what a campaign does about its app's quiet hours; empty: the
// app has none.
func quietInWords(c store.CampaignRow, h store.QuietHours) string {
	if h == (store.QuietHours{}) {
		return ""
	}
	what := map[string]string{"skip": "left out within them", "ignore": "ignored"}[c.QuietPolicy]
	if what == "" {
		what = "held until they end"
	}
	return fmt.Sprintf("%s, %s", h, what)
}

// pushed returns the occurrences that are not skipped.
func (p *plan) pushed() []time.Time {
	return slices.DeleteFunc(slices.Clone(p.all), func(t time.Time) bool { return p.skips[t.UnixMicro()] != "" })
}

// newPlan lists the occurrences after the given moment.
func newPlan(schedule strategy.Schedule, spec strategy.Spec, now, after time.Time, limit int) plan {
	out := plan{Occurrences: []occurrence{}, Warnings: []string{}, words: schedule.Describe(), now: now}
	for t := schedule.Next(after); !t.IsZero(); t = schedule.Next(t) {
		local := inZone(t, spec.Zone)
		out.all = append(out.all, local)
		if len(out.Occurrences) < limit {
			out.Occurrences = append(out.Occurrences, occurrence{local.Format(time.RFC3339), noteOf(schedule, t, spec), local})
		}
	}
	return out
}

func noteOf(schedule strategy.Schedule, t time.Time, spec strategy.Spec) string {
	var notes []string
	if note := schedule.Note(t); note != "" {
		notes = append(notes, note)
	}
	if spec.Type == strategy.Fixed && t.Before(spec.WrittenAt) {
		notes = append(notes, "already past, still inside the catch-up window: pushed at once")
	}
	return strings.Join(notes, "; ")
}

func (p *program) printPlan(plan plan) error {
	if err := p.print(plan.words + "\n\n"); err != nil {
		return err
	}
	if len(plan.all) == 0 {
		if err := p.print("nothing is to come\n"); err != nil {
			return err
		}
		return p.printClosed(plan)
	}
	t := table{header: []string{"DAY", "LOCAL TIME", "WHEN", "NOTE"}}
	for _, o := range plan.Occurrences {
		t.add(o.at.Format("Mon"), o.at.Format(localTime), relative(o.at.Sub(plan.now)), o.Note)
	}
	if err := t.write(p); err != nil {
		return err
	}
	if more := len(plan.all) - len(plan.Occurrences); more > 0 {
		last := plan.all[len(plan.all)-1]
		if err := p.print(fmt.Sprintf("… and %d more, the last on %s\n", more, last.Format("Mon "+localTime))); err != nil {
			return err
		}
	}
	return p.printClosed(plan)
}

// printClosed lists the occurrences that the calendar moves or leaves out, and
// then the warnings.
func (p *program) printClosed(plan plan) error {
	if len(plan.closed) > 0 {
		if err := p.print("\n"); err != nil {
			return err
		}
		t := table{header: []string{"CLOSED IN " + strings.ToUpper(plain.Line(plan.calendar)), "WHY", "BECOMES"}}
		for _, c := range plan.closed {
			becomes := c.Why
			if !c.To.IsZero() {
				becomes = inZone(c.To, plan.zone).Format("Mon " + localTime)
			}
			t.add(inZone(c.From, plan.zone).Format("Mon "+localTime), c.Word, becomes)
		}
		if err := t.write(p); err != nil {
			return err
		}
		if plan.moreClosed > 0 {
			if err := p.print(fmt.Sprintf("… and %d more\n", plan.moreClosed)); err != nil {
				return err
			}
		}
	}
	return p.printWarnings(plan)
}

func (p *program) printWarnings(plan plan) error {
	var b strings.Builder
	for i, w := range plan.Warnings {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("warning: " + plain.Line(w) + "\n")
	}
	return p.print(b.String())
}

// printCalendar draws the months instead of listing the days.
func (p *program) printCalendar(plan plan) error {
	if err := p.print(plan.words + "\n\n"); err != nil {
		return err
	}
	if err := p.print(p.drawCalendar(plan.pushed())); err != nil {
		return err
	}
	return p.printWarnings(plan)
}

// drawCalendar draws the months of the times, and explains the marks.
func (p *program) drawCalendar(times []time.Time) string {
	c := newCalendar(times)
	if c == nil {
		return "nothing is to come\n"
	}
	days := "push day"
	if len(c.marked) != 1 {
		days += "s"
	}
	return c.draw(p.bold) + fmt.Sprintf("\n* %d %s\n", len(c.marked), days)
}

// previewStored shows the coming occurrences of a campaign in the database.
func (p *program) previewStored(ctx context.Context, s *store.Store, cfg *config.Config, flags previewFlags) error {
	if flags.limit < 1 {
		return p.refuse("the preview", []problem{{Field: "limit", Message: "must be at least 1"}}, flags.asJSON)
	}
	c, err := s.Campaign(ctx, flags.campaign)
	if err != nil {
		return err
	}
	what := "campaign " + campaignName(c.ID, c.Name)
	plan, problems, err := p.planOf(ctx, s, c, flags.limit)
	if err != nil {
		return err
	}
	if problems = append(problems, storedProblems(c, cfg)...); len(problems) > 0 {
		return p.refuse(what, problems, flags.asJSON)
	}
	return p.showPlan(plan, flags)
}

// planOf lists the coming occurrences of a campaign, by the database's clock.
func (p *program) planOf(ctx context.Context, s *store.Store, c store.CampaignRow, limit int) (plan, []problem, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return plan{}, nil, err
	}
	quotas, err := s.QuotaUsages(ctx)
	if err != nil {
		return plan{}, nil, err
	}
	spec := specOf(c)
	schedule, warnings, err := strategy.Parse(spec)
	if problems := judge.OfStrategy(err); len(problems) > 0 {
		return plan{}, problems, nil
	}
	out := newPlan(schedule, spec, now, now, limit)
	out.say(c.Spread)
	skips, err := s.Skips(ctx, c.ID, now)
	if err != nil {
		return plan{}, nil, err
	}
	out.skip(skips)
	if err := out.readClosed(ctx, s, spec, schedule); err != nil {
		return plan{}, nil, err
	}
	if out.quiet, err = s.QuietHoursOf(ctx, c.AppNo); err != nil {
		return plan{}, nil, err
	}
	out.mute(c)
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	out.Warnings = append(out.Warnings, reachWarnings(out.pushed(), storedQuota(c, quotas))...)
	if c.Status != "active" {
		out.Warnings = append([]string{"the campaign is " + c.Status + ": nothing is pushed"}, out.Warnings...)
	}
	return out, nil, nil
}

// specOf returns the strategy of a stored campaign, with the longest catch-up window.
// The database judged the strategy when it was written. If the author has shortened
// the window since, the strategy is still valid.
func specOf(c store.CampaignRow) strategy.Spec {
	return strategy.Spec{
		Type: strategy.Type(c.StrategyType), Content: c.StrategyContent, Zone: c.TimeZone, WrittenAt: c.WrittenAt,
		ShortMonth: strategy.ShortMonthPolicy(c.ShortMonthPolicy), DSTGap: strategy.DSTGapPolicy(c.DSTGapPolicy), Times: c.Times,
		Calendar: c.Calendar.Name, CalendarPolicy: strategy.CalendarPolicy(c.Calendar.Policy), Closed: c.Calendar.Closed, Since: c.Calendar.Since,
		CatchUpWindow: strategy.MaxCatchUpWindow,
	}
}

// storedProblems judges a stored campaign's request as the daemon would.
func storedProblems(c store.CampaignRow, cfg *config.Config) []problem {
	adapter, _ := channel(c.Channel)
	if adapter == nil {
		return []problem{{Field: "channel", Message: fmt.Sprintf("this program has no adapter for %s", c.Channel)}}
	}
	request := dispatch.Request{
		Channel: c.Channel, TaskName: c.Name, Body: c.Request, StrategyType: int(c.StrategyType), StoredTargets: c.Targets > 0 || c.AudienceView != "",
	}
	for _, a := range cfg.Apps {
		if a.AppID == c.AppID && a.WorkspaceID == c.WorkspaceID {
			request.AllowAudienceSchedules, request.Region = a.AllowAudienceSchedules, a.Region()
		}
	}
	var problems []problem
	_, found := adapter.Compile(request)
	for _, f := range found {
		problems = append(problems, problem{Field: cmp.Or(f.Field, "request"), Message: f.Text})
	}
	return problems
}

// A quota is the number of calls that a channel allows in a week. Channels with a
// weekly quota choose their audience themselves, so every call reaches the same users.
type quota struct {
	channel string
	weekly  int // calls of one app in any rolling 7 × 24 h; zero: no quota
	used    int // of those, made already; unknown without a database
}

// quotaOf returns the quota that a channel's adapter states.
func quotaOf(name string) quota {
	adapter, _ := channel(name)
	if adapter == nil {
		return quota{}
	}
	for _, c := range adapter.Channels() {
		if c.Name == name {
			return quota{channel: name, weekly: c.WeeklyQuota}
		}
	}
	return quota{}
}

// storedQuota returns the quota of a campaign's app, which may differ from its
// channel's, and how much of the quota is used now.
func storedQuota(c store.CampaignRow, all []store.QuotaUsage) quota {
	for _, q := range all {
		if q.AppID == c.AppID && q.WorkspaceID == c.WorkspaceID && q.Channel == c.Channel {
			return quota{channel: c.Channel, weekly: q.Weekly, used: int(q.Used)}
		}
	}
	return quota{}
}

// reachWarnings says when occurrences, which ascend, exceed the quota, or reach
// the same users more than once a week.
func reachWarnings(times []time.Time, q quota) []string {
	if q.weekly == 0 || len(times) == 0 {
		return nil
	}
	var warnings []string
	if most, at := forecast.BusiestWeek(times); most > q.weekly {
		warnings = append(warnings, fmt.Sprintf("exceeds the quota of %s: %d pushes in the 7 days from %s, %d are allowed for all of the app's campaigns together; "+
			"the rest wait inside their catch-up window, then are missed", q.channel, most, at.Format(time.DateOnly), q.weekly))
	}
	if most, at := forecast.BusiestWeek(times); most > 1 {
		warnings = append(warnings, fmt.Sprintf("reaches the same users %d times in the 7 days from %s; the push API delivers one such message per user and week",
			most, at.Format(time.DateOnly)))
	}
	if q.used >= q.weekly {
		warnings = append(warnings, fmt.Sprintf("the quota of %s is used up now: %d of %d calls in the last 7 days", q.channel, q.used, q.weekly))
	}
	return warnings
}

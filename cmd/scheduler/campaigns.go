package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

var campaignStatuses = []string{"active", "paused", "cancelled", "finished", "rejected"}

const campaignsExample = `  scheduler campaigns list --status active,paused --app 2021000000000001
  scheduler campaigns show 12
  scheduler campaigns pause 12
  scheduler campaigns trigger 12`

func newCampaignsCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "campaigns",
		Short:   "Look at campaigns, pause, resume, cancel, trigger and skip them",
		Long:    "A campaign is a row of scheduler.campaigns; SQL does what these commands do.\n\n" + databaseHelp,
		Example: campaignsExample,
		Args:    cobra.NoArgs,
		RunE:    chooseSubcommand,
	}
	database := addDatabaseFlag(c)
	c.AddCommand(
		newCampaignsListCommand(p, database),
		newCampaignsShowCommand(p, database),
		newStatusCommand(p, database, "pause", "paused", "Begin nothing more of a campaign until it is resumed",
			"Deliveries under way end; waiting ones are held. Occurrences that leave their\ncatch-up window meanwhile are missed."),
		newStatusCommand(p, database, "resume", "active", "Let a paused campaign go on",
			"Which of the occurrences it missed are pushed is for its misfire_policy to say."),
		newStatusCommand(p, database, "cancel", "cancelled", "Begin nothing more of a campaign, for good",
			"What has begun ends; all that waits is cancelled. It cannot be taken back."),
		newTriggerCommand(p, database),
		newSkipCommand(p, database),
	)
	return c
}

func newCampaignsListCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List campaigns, the newest first",
		Example: "  scheduler campaigns list --status rejected\n  scheduler campaigns list --channel alipay.label_send --output json",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(c)
	flags := addFilterFlags(c, "inserted", campaignStatuses...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		filter, err := flags.filter(p)
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			campaigns, err := s.ListCampaigns(c.Context(), filter)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string][]campaignJSON{"campaigns": asCampaigns(campaigns)})
			}
			return p.printCampaigns(campaigns)
		})
	}
	return c
}

func (p *program) printCampaigns(campaigns []store.CampaignRow) error {
	if len(campaigns) == 0 {
		return p.print("no campaigns\n")
	}
	t := table{header: []string{"ID", "NAME", "STATUS", "NEXT", "LAST", "CHANNEL", "APP"}}
	for _, c := range campaigns {
		t.add(number(c.ID), runewidth.Truncate(c.Name, 32, "…"), c.Status, dueIn(c.NextDueAt, c.TimeZone), c.LastStatus, c.Channel, runewidth.Truncate(appName(c.AppID, c.WorkspaceID), 28, "…"))
	}
	return t.write(p)
}

func newCampaignsShowCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a campaign, its coming months and what became of it so far",
		Example: "  scheduler campaigns show 12",
		Args:    cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, cfg *config.Config) error {
			d, err := p.campaignDetail(c.Context(), s, cfg, id)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(d.json())
			}
			return p.printDetail(d)
		})
	}
	return c
}

// A campaignDetail holds what show prints about a campaign.
type campaignDetail struct {
	row      store.CampaignRow
	targets  int64
	counts   map[string]int64 // tasks by status
	history  []store.HistoryRow
	plan     plan
	problems []problem // why the daemon rejects it, or would
}

// shownChanges and shownOccurrences bound what show lists.
const (
	shownChanges     = 10
	shownOccurrences = 5
)

func (p *program) campaignDetail(ctx context.Context, s *store.Store, cfg *config.Config, id int64) (d campaignDetail, err error) {
	if d.row, err = s.Campaign(ctx, id); err != nil {
		return d, err
	}
	if d.targets, err = s.CountTargets(ctx, id); err != nil {
		return d, err
	}
	if d.counts, err = s.CountTasks(ctx, id); err != nil {
		return d, err
	}
	if d.history, err = s.History(ctx, id, shownChanges); err != nil {
		return d, err
	}
	d.plan, d.problems, err = p.planOf(ctx, s, d.row, shownOccurrences)
	d.problems = append(d.problems, storedProblems(d.row, cfg)...)
	return d, err
}

func (p *program) printDetail(d campaignDetail) error {
	c := d.row
	f := &facts{}
	f.add("campaign", fmt.Sprintf("%d %s, revision %d", c.ID, c.Name, c.Revision))
	f.add("app", appName(c.AppID, c.WorkspaceID))
	f.add("channel", c.Channel)
	f.add("status", c.Status)
	f.add("why", strings.ReplaceAll(c.StatusReason, "; ", "\n"))
	f.add("pushes", describe(c))
	f.add("targets", audience(d))
	f.add("when late", misfireInWords(c))
	f.add("quiet hours", quietInWords(c, d.plan.quiet))
	f.add("spread", spreadInWords(c.Spread))
	if c.ResendUnknown {
		f.add("unknown", "sent again by itself: a push may arrive twice")
	}
	f.add("inserted", dueIn(c.CreatedAt, c.TimeZone)+" by "+c.CreatedBy)
	f.add("tasks", countsByStatus(d.counts))
	for i, h := range d.history {
		name := ""
		if i == 0 {
			name = "changes"
		}
		f.rows = append(f.rows, [2]string{name, fmt.Sprintf("%s  %s by %s", dueIn(h.ChangedAt, c.TimeZone), h.Action, plain.Line(h.ChangedBy))})
	}
	if err := f.write(p); err != nil {
		return err
	}
	if len(d.problems) > 0 && c.Status != "rejected" {
		if err := p.print("\nthe daemon will reject it:\n" + list(d.problems, "  ") + "\n"); err != nil {
			return err
		}
	}
	return p.printComing(d)
}

// printComing shows the coming occurrences, as a list and as a calendar. It prints
// nothing when there are none.
func (p *program) printComing(d campaignDetail) error {
	if len(d.plan.all) == 0 || d.row.Status == "cancelled" {
		return nil
	}
	if err := p.print("\n"); err != nil {
		return err
	}
	t := table{header: []string{"NEXT", "", "NOTE"}}
	for _, o := range d.plan.Occurrences {
		t.add(o.at.Format("Mon "+localTime), relative(o.at.Sub(d.plan.now)), o.Note)
	}
	if err := t.write(p); err != nil {
		return err
	}
	if err := p.print("\n" + p.drawCalendar(d.plan.pushed())); err != nil {
		return err
	}
	return p.printClosed(d.plan)
}

// given returns nil for an empty text.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// describe says the schedule in words.
func describe(c store.CampaignRow) string {
	schedule, _, err := strategy.Parse(specOf(c))
	if err != nil {
		return ""
	}
	return schedule.Describe()
}

func audience(d campaignDetail) string {
	switch {
	case d.row.AudienceView != "":
		return "read from audience." + d.row.AudienceView + " at each occurrence"
	case d.targets > 0:
		return fmt.Sprint(d.targets)
	}
	return "as the request says"
}

func misfireInWords(c store.CampaignRow) string {
	within := span(c.CatchUpWindow)
	switch c.MisfirePolicy {
	case "all":
		return "all missed occurrences are pushed, up to " + within + " late"
	case "skip":
		return "missed occurrences are left out"
	}
	return "the latest missed occurrence is pushed, up to " + within + " late"
}

// spreadInWords returns a spread in words, or "" where there is none.
func spreadInWords(spread time.Duration) string {
	if spread == 0 {
		return ""
	}
	return "the deliveries of a push go out evenly over " + spread.String()
}

func countsByStatus(counts map[string]int64) string {
	var parts []string
	for _, status := range taskStatuses {
		if n := counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	return strings.Join(parts, ", ")
}

func newStatusCommand(p *program, database *databaseFlag, verb, status, short, long string) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " ID",
		Short:   short,
		Long:    short + ".\n" + long + "\nIt holds from the moment this command ends.",
		Example: "  scheduler campaigns " + verb + " 12",
		Args:    cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			before, err := s.SetCampaignStatus(c.Context(), id, status)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string]any{"campaign_id": id, "status": status, "was": before})
			}
			if before == status {
				return p.print(fmt.Sprintf("campaign %d was %s already\n", id, status))
			}
			return p.print(fmt.Sprintf("campaign %d is %s, it was %s\n", id, status, before))
		})
	}
	return c
}

func newTriggerCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:   "trigger ID",
		Short: "Push an active or finished campaign once, now",
		Long: `Makes a task that is due now, beside those of the campaign's strategy. A running
daemon pushes it at once, with message keys of its own; without one it waits for
the catch-up window. It does not count against the app's pending limit. Who did
it is kept in scheduler.triggered_tasks, and tasks show tells it.`,
		Example: "  scheduler campaigns trigger 12",
		Args:    cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			task, due, err := s.Trigger(c.Context(), id, p.operator())
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string]any{"campaign_id": id, "task_id": task, "due_at": due.Format(time.RFC3339Nano)})
			}
			return p.print(fmt.Sprintf("task %d is due now; follow it: scheduler tasks show %d --watch\n", task, task))
		})
	}
	return c
}

// campaignJSON is a campaign in JSON, whose form is a promise to other programs.
// Times are RFC 3339 in the campaign's zone.
type campaignJSON struct {
	ID               int64           `json:"id"`
	Name             string          `json:"name"`
	AppID            string          `json:"app_id"`
	WorkspaceID      string          `json:"workspace_id"`
	Channel          string          `json:"channel"`
	Status           string          `json:"status"`
	StatusReason     string          `json:"status_reason"`
	Revision         int32           `json:"revision"`
	StrategyType     int16           `json:"strategy_type"`
	StrategyContent  json.RawMessage `json:"strategy_content"`
	Schedule         string          `json:"schedule"` // in words
	TimeZone         string          `json:"time_zone"`
	MisfirePolicy    string          `json:"misfire_policy"`
	CatchUpSeconds   float64         `json:"catch_up_window_seconds"`
	SpreadSeconds    float64         `json:"spread_seconds"` // 0: none
	ShortMonthPolicy string          `json:"short_month_policy"`
	DSTGapPolicy     string          `json:"dst_gap_policy"`
	Times            []string        `json:"times"`        // of day; null: strategy_content's
	QuietPolicy      string          `json:"quiet_policy"` // ignore only with an exemption
	Calendar         *string         `json:"calendar"`
	CalendarPolicy   *string         `json:"calendar_policy"`
	ResendUnknown    bool            `json:"resend_unknown"`
	CreatedBy        string          `json:"created_by"`
	CreatedAt        string          `json:"created_at"`
	UpdatedBy        string          `json:"updated_by"`
	UpdatedAt        string          `json:"updated_at"`
	NextDueAt        *string         `json:"next_due_at"`
	LastDueAt        *string         `json:"last_due_at"` // of the decided tasks
	LastStatus       string          `json:"last_status"`
}

func asCampaigns(rows []store.CampaignRow) []campaignJSON {
	out := make([]campaignJSON, len(rows))
	for i, c := range rows {
		out[i] = asCampaign(c)
	}
	return out
}

func asCampaign(c store.CampaignRow) campaignJSON {
	return campaignJSON{
		ID: c.ID, Name: c.Name, AppID: c.AppID, WorkspaceID: c.WorkspaceID, Channel: c.Channel, Status: c.Status, StatusReason: c.StatusReason,
		Revision: c.Revision, StrategyType: c.StrategyType, StrategyContent: c.StrategyContent, Schedule: describe(c), TimeZone: c.TimeZone,
		MisfirePolicy: c.MisfirePolicy, CatchUpSeconds: c.CatchUpWindow.Seconds(), SpreadSeconds: c.Spread.Seconds(), ShortMonthPolicy: c.ShortMonthPolicy, DSTGapPolicy: c.DSTGapPolicy,
		Times: c.Times, Calendar: given(c.Calendar.Name), CalendarPolicy: given(c.Calendar.Policy), QuietPolicy: c.QuietPolicy, ResendUnknown: c.ResendUnknown, CreatedBy: c.CreatedBy, CreatedAt: inZone(c.CreatedAt, c.TimeZone).Format(time.RFC3339Nano),
		UpdatedBy: c.UpdatedBy, UpdatedAt: inZone(c.UpdatedAt, c.TimeZone).Format(time.RFC3339Nano),
		NextDueAt: timeJSON(c.NextDueAt, c.TimeZone), LastDueAt: timeJSON(c.LastDueAt, c.TimeZone), LastStatus: c.LastStatus,
	}
}

// campaignDetailJSON holds what show adds to the fields of the list.
type campaignDetailJSON struct {
	campaignJSON

	Targets     int64            `json:"targets"` // in campaign_targets
	Tasks       map[string]int64 `json:"tasks"`   // by status
	Occurrences []occurrence     `json:"occurrences"`
	Warnings    []string         `json:"warnings"`
	Problems    []problem        `json:"problems"`
	Changes     []changeJSON     `json:"changes"` // the newest first
}

type changeJSON struct {
	ChangedAt string `json:"changed_at"`
	ChangedBy string `json:"changed_by"`
	Action    string `json:"action"`
	Revision  int32  `json:"revision"` // the revision that the change ended
}

func (d campaignDetail) json() campaignDetailJSON {
	out := campaignDetailJSON{
		campaignJSON: asCampaign(d.row), Targets: d.targets, Tasks: d.counts, Occurrences: d.plan.Occurrences, Warnings: d.plan.Warnings,
		Problems: append([]problem{}, d.problems...), Changes: []changeJSON{},
	}
	for _, h := range d.history {
		out.Changes = append(out.Changes, changeJSON{inZone(h.ChangedAt, d.row.TimeZone).Format(time.RFC3339Nano), h.ChangedBy, h.Action, h.Revision})
	}
	return out
}

const skipHelp = `Takes one coming occurrence out of a campaign: it is decided as cancelled at once,
the others go on. With --back that is taken back while the occurrence is still to
come. Who did it and why is kept in scheduler.skipped_occurrences.`

func newSkipCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "skip ID --at TIME",
		Short:   "Take one occurrence out of a campaign",
		Long:    skipHelp,
		Example: "  scheduler campaigns skip 7 --at 2026-10-01T09:00:00+08:00 --note holiday\n  scheduler campaigns skip 7 --at 2026-10-01T09:00:00+08:00 --back",
		Args:    cobra.ExactArgs(1),
	}
	at := c.Flags().String("at", "", "the occurrence, a `TIME` as preview shows it (RFC 3339, or a local time in the campaign's zone)")
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	back := c.Flags().Bool("back", false, "take the skip back")
	c.RunE = func(c *cobra.Command, args []string) error {
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			return p.skip(c.Context(), s, args[0], *at, *note, *back)
		})
	}
	return c
}

func (p *program) skip(ctx context.Context, s *store.Store, text, at, note string, back bool) error {
	id, err := parseID(text)
	if err != nil {
		return err
	}
	campaign, err := s.Campaign(ctx, id)
	if err != nil {
		return err
	}
	due, err := parseDue(at, campaign.TimeZone)
	if err != nil {
		return err
	}
	changed, err := s.SkipOccurrence(ctx, id, due, note, back)
	if err != nil {
		return err
	}
	said := map[bool]map[bool]string{
		false: {true: "skipped", false: "it is skipped already"},
		true:  {true: "taken back: it is pushed like any other", false: "it is not skipped"},
	}[back][changed]
	return p.print(fmt.Sprintf("%s: %s\n", dueIn(due, campaign.TimeZone), said))
}

// parseDue reads an occurrence in the form that preview and the lists show, or as
// a local time in the campaign's zone.
func parseDue(text, zone string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, localTime} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	location := inZone(time.Time{}, zone).Location()
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, location); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError(fmt.Sprintf("--at takes an RFC 3339 time, or one such as '2026-10-01 09:00:00' in the campaign's zone, not %q", text))
}

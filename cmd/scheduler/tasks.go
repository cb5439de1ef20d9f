package main

import (
	"cmp"
	"context"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

var taskStatuses = []string{"pending", "running", "succeeded", "failed", "missed", "cancelled", "unknown"}

const tasksExample = `  scheduler tasks list --status unknown
  scheduler tasks list --app 2021000000000001 --since 24h
  scheduler tasks show 4711 --watch
  scheduler tasks resolve 4711 --as not-sent --resend --note "ticket 12"`

func newTasksCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "tasks",
		Short:   "Look at what was and will be pushed, and rule on unknown outcomes",
		Long:    "A task is one occurrence of a campaign: pending, running, and then decided once.\n\n" + databaseHelp,
		Example: tasksExample,
		Args:    cobra.NoArgs,
		RunE:    chooseSubcommand,
	}
	database := addDatabaseFlag(c)
	c.AddCommand(newTasksListCommand(p, database), newTasksShowCommand(p, database), newTasksResolveCommand(p, database), newTasksRevokeCommand(p, database))
	return c
}

func newTasksListCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List tasks, the latest due first",
		Example: "  scheduler tasks list --status failed,missed --since '7 days'\n  scheduler tasks list --campaign 12 --output json",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(c)
	flags := addFilterFlags(c, "due", taskStatuses...)
	c.Flags().Int64Var(&flags.campaign, "campaign", 0, "of the campaign with this `ID`")
	c.RunE = func(c *cobra.Command, _ []string) error {
		filter, err := flags.filter(p)
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			tasks, err := s.ListTasks(c.Context(), filter)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string][]taskJSON{"tasks": asTasks(tasks)})
			}
			return p.printTasks(tasks)
		})
	}
	return c
}

func (p *program) printTasks(tasks []store.TaskRow) error {
	if len(tasks) == 0 {
		return p.print("no tasks\n")
	}
	t := table{header: []string{"ID", "DUE", "STATUS", "LATE", "CAMPAIGN", "APP", "WHY"}}
	for _, r := range tasks {
		t.add(number(r.ID), dueIn(r.DueAt, r.TimeZone), progressOf(r), lateness(r), campaignName(r.CampaignID, r.Campaign),
			runewidth.Truncate(appName(r.AppID, r.WorkspaceID), 28, "…"), runewidth.Truncate(reasonInWords(r.Reason), 72, "…"))
	}
	return t.write(p)
}

// progressOf returns the status of a task, and the progress of a running one.
func progressOf(t store.TaskRow) string {
	if t.Status != "running" || t.Deliveries < 2 {
		return t.Status
	}
	return fmt.Sprintf("running %d%%", int64(t.DeliveriesDone)*100/int64(t.Deliveries))
}

// lateness writes how long after the due time the first call started.
func lateness(t store.TaskRow) string {
	if t.SentAt.IsZero() {
		return ""
	}
	return span(max(0, t.SentAt.Sub(t.DueAt)))
}

func newTasksShowCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a task, its deliveries and rulings",
		Example: "  scheduler tasks show 4711\n  scheduler tasks show 4711 --watch",
		Args:    cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	watch := c.Flags().Bool("watch", false, "follow the task until it is decided")
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			if *watch {
				if err := p.watchTask(c.Context(), s, id, output.json()); err != nil {
					return err
				}
			}
			return p.showTask(c.Context(), s, id, output.json())
		})
	}
	return c
}

func (p *program) showTask(ctx context.Context, s *store.Store, id int64, asJSON bool) error {
	t, err := s.Task(ctx, id)
	if err != nil {
		return err
	}
	deliveries, err := s.DeliveryCounts(ctx, id)
	if err != nil {
		return err
	}
	rulings, err := s.Rulings(ctx, id)
	if err != nil {
		return err
	}
	trigger, err := s.Triggered(ctx, id)
	if err != nil {
		return err
	}
	if asJSON {
		return p.writeJSON(asTaskDetail(t, deliveries, rulings, trigger))
	}
	f := taskFacts(t)
	if trigger != nil {
		f.add("triggered", "by "+personInWords(trigger.By, trigger.Operator)+" at "+dueIn(trigger.At, t.TimeZone))
	}
	for _, d := range deliveries {
		if t.Deliveries > 1 || len(deliveries) > 1 {
			f.add("  "+d.Status, deliveriesInWords(d))
		}
	}
	for _, r := range rulings {
		f.add("ruling", rulingInWords(r, t.TimeZone))
	}
	if t.Status == "unknown" {
		f.add("to do", fmt.Sprintf("find out whether it arrived, then: scheduler tasks resolve %d --as sent, or --as not-sent [--resend]", t.ID))
	}
	return f.write(p)
}

// taskFacts returns the facts about a task that show prints.
func taskFacts(t store.TaskRow) *facts {
	f := &facts{}
	f.add("task", number(t.ID))
	name := campaignName(t.CampaignID, t.Campaign)
	if t.Campaign == "" {
		name += " (deleted)"
	}
	f.add("campaign", fmt.Sprintf("%s, revision %d", name, t.Revision))
	f.add("app", appName(t.AppID, t.WorkspaceID))
	f.add("channel", t.Channel)
	f.add("origin", t.Origin)
	f.add("due", inZone(t.DueAt, t.TimeZone).Format("Mon "+localTime)+" "+t.TimeZone)
	f.add("status", progressOf(t))
	f.add("why", reasonInWords(t.Reason))
	f.add("begun", dueIn(t.StartedAt, t.TimeZone))
	if late := lateness(t); late != "" {
		f.add("first call", dueIn(t.SentAt, t.TimeZone)+", "+late+" late")
	}
	f.add("decided", dueIn(t.DecidedAt, t.TimeZone))
	if t.Attempts > 0 {
		f.add("calls", number(int64(t.Attempts)))
	}
	f.add("answer", t.Code)
	if !strings.Contains(t.Reason, t.Message) { // the message has a line of its own
		f.add("message", t.Message)
	}
	f.add("request id", t.RequestID)
	f.add("message id", t.MessageID)
	if t.Targets > 0 {
		f.add("targets", number(t.Targets))
	}
	f.add("deliveries", deliveryProgress(t))
	return f
}

// deliveryProgress says how many of the task's deliveries are done.
func deliveryProgress(t store.TaskRow) string {
	if t.Deliveries == 0 {
		return ""
	}
	done := "accepted"
	if t.Status == "running" {
		done = "ended"
	}
	return fmt.Sprintf("%d of %d %s (%d%%)", t.DeliveriesDone, t.Deliveries, done, int64(t.DeliveriesDone)*100/int64(t.Deliveries))
}

func deliveriesInWords(d store.DeliveryCount) string {
	text := fmt.Sprint(d.Deliveries)
	if d.Targets > 0 {
		text += " with " + count(int(d.Targets), "target")
	}
	if d.Reason != "" {
		text += "; the first: " + reasonInWords(d.Reason)
	}
	return text
}

func rulingInWords(r store.RulingRow, zone string) string {
	text := "not sent"
	if r.Ruling == "sent" {
		text = "sent"
	}
	if r.Resend {
		text += ", sent again"
	}
	text += ", by " + personInWords(r.RuledBy, r.Operator) + " at " + dueIn(r.RuledAt, zone)
	if r.Note != "" {
		text += ": " + r.Note
	}
	return text
}

// personInWords names a database login, and the user of the machine behind it.
func personInWords(login, operator string) string {
	if operator == "" {
		return login
	}
	return login + " (" + operator + ")"
}

// watchInterval is the time between two reads of a watched task.
const watchInterval = 500 * time.Millisecond

// watchTask prints the task's progress whenever it changes, and ends when the
// task is decided. On a terminal it overwrites one line.
func (p *program) watchTask(ctx context.Context, s *store.Store, id int64, quiet bool) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	said := ""
	for {
		t, err := s.Task(ctx, id)
		if err != nil {
			return err
		}
		if now := watchLine(t); now != said && !quiet {
			if err := p.overwrite(now, said); err != nil {
				return err
			}
			said = now
		}
		if !t.DecidedAt.IsZero() {
			return p.endWatch(quiet)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func watchLine(t store.TaskRow) string {
	line := t.Status
	if progress := deliveryProgress(t); progress != "" {
		line += ", " + progress
	}
	if t.Reason != "" {
		line += "; " + runewidth.Truncate(plain.Line(reasonInWords(t.Reason)), 60, "…")
	}
	return line
}

func (p *program) overwrite(line, before string) error {
	if !p.terminal() {
		return p.print(line + "\n")
	}
	if before != "" {
		return p.printStyled("\r\x1b[K" + plain.Line(line))
	}
	return p.print(line)
}

func (p *program) endWatch(quiet bool) error {
	switch {
	case quiet:
		return nil
	case p.terminal():
		return p.print("\n\n")
	}
	return p.print("\n")
}

// taskJSON is a task in JSON, whose form is a promise to other programs. Times are
// RFC 3339 in the campaign's zone.
type taskJSON struct {
	ID             int64    `json:"id"`
	CampaignID     int64    `json:"campaign_id"`
	Campaign       string   `json:"campaign"`
	AppID          string   `json:"app_id"`
	WorkspaceID    string   `json:"workspace_id"`
	Channel        string   `json:"channel"`
	Origin         string   `json:"origin"`
	Revision       int32    `json:"revision"`
	DueAt          string   `json:"due_at"`
	Status         string   `json:"status"`
	Reason         string   `json:"reason"`
	Attempts       int32    `json:"attempts"`
	StartedAt      *string  `json:"started_at"`
	SentAt         *string  `json:"sent_at"`
	DecidedAt      *string  `json:"decided_at"`
	Lateness       *float64 `json:"lateness_seconds"` // of the first call; null: none was made
	Deliveries     int32    `json:"deliveries"`
	DeliveriesDone int32    `json:"deliveries_done"`
	Targets        int64    `json:"targets"`
	Code           string   `json:"code"`
	Message        string   `json:"message"`
	RequestID      string   `json:"request_id"`
	MessageID      string   `json:"message_id"`
}

func asTasks(rows []store.TaskRow) []taskJSON {
	out := make([]taskJSON, len(rows))
	for i, r := range rows {
		out[i] = asTask(r)
	}
	return out
}

func asTask(t store.TaskRow) taskJSON {
	out := taskJSON{
		ID: t.ID, CampaignID: t.CampaignID, Campaign: t.Campaign, AppID: t.AppID, WorkspaceID: t.WorkspaceID, Channel: t.Channel,
		Origin: t.Origin, Revision: t.Revision, DueAt: inZone(t.DueAt, t.TimeZone).Format(time.RFC3339Nano), Status: t.Status, Reason: t.Reason,
		Attempts: t.Attempts, StartedAt: timeJSON(t.StartedAt, t.TimeZone), SentAt: timeJSON(t.SentAt, t.TimeZone),
		DecidedAt: timeJSON(t.DecidedAt, t.TimeZone), Deliveries: t.Deliveries, DeliveriesDone: t.DeliveriesDone, Targets: t.Targets,
		Code: t.Code, Message: t.Message, RequestID: t.RequestID, MessageID: t.MessageID,
	}
	if !t.SentAt.IsZero() {
		late := t.SentAt.Sub(t.DueAt).Seconds()
		out.Lateness = &late
	}
	return out
}

// timeJSON writes a time for JSON, and null for the zero time.
func timeJSON(t time.Time, zone string) *string {
	if t.IsZero() {
		return nil
	}
	text := inZone(t, zone).Format(time.RFC3339Nano)
	return &text
}

// taskDetail holds what show adds to the fields of the list.
type taskDetail struct {
	taskJSON

	ByStatus  []deliveryJSON `json:"deliveries_by_status"`
	Rulings   []rulingJSON   `json:"rulings"`
	Triggered *triggerJSON   `json:"triggered"` // null: a task of the strategy
}

type triggerJSON struct {
	At       string `json:"at"`
	By       string `json:"by"`
	Operator string `json:"operator"`
}

type deliveryJSON struct {
	Status     string `json:"status"`
	Deliveries int64  `json:"deliveries"`
	Targets    int64  `json:"targets"`
	Reason     string `json:"reason"` // of the first
}

type rulingJSON struct {
	RuledAt  string `json:"ruled_at"`
	Ruling   string `json:"ruling"`
	Resend   bool   `json:"resend"`
	Note     string `json:"note"`
	RuledBy  string `json:"ruled_by"`
	Operator string `json:"operator"`
}

func asTaskDetail(t store.TaskRow, deliveries []store.DeliveryCount, rulings []store.RulingRow, trigger *store.TriggerRow) taskDetail {
	out := taskDetail{taskJSON: asTask(t), ByStatus: []deliveryJSON{}, Rulings: []rulingJSON{}}
	if trigger != nil {
		out.Triggered = &triggerJSON{inZone(trigger.At, t.TimeZone).Format(time.RFC3339Nano), trigger.By, trigger.Operator}
	}
	for _, d := range deliveries {
		out.ByStatus = append(out.ByStatus, deliveryJSON(d))
	}
	for _, r := range rulings {
		out.Rulings = append(out.Rulings, rulingJSON{
			RuledAt: inZone(r.RuledAt, t.TimeZone).Format(time.RFC3339Nano), Ruling: r.Ruling, Resend: r.Resend, Note: r.Note, RuledBy: r.RuledBy, Operator: r.Operator,
		})
	}
	return out
}

const resolveHelp = `Rules on a task whose outcome is unknown: the call was begun, and nobody knows
whether the push API took it. Find out first: the provider's console shows what
arrived, and tasks show has the request id.

  --as sent                 the task succeeded
  --as not-sent             the task failed; its quota is returned
  --as not-sent --resend    it is pushed again at once, with the same message keys

Of a task with many deliveries only those of unknown outcome are touched: what
was accepted is never sent again. The ruling is kept in scheduler.rulings with
the database role, your user name and the note.`

func newTasksResolveCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "resolve ID --as sent|not-sent",
		Short:   "Rule on a task whose outcome is unknown",
		Long:    resolveHelp,
		Example: `  scheduler tasks resolve 4711 --as sent --note "seen in the console"` + "\n  scheduler tasks resolve 4711 --as not-sent --resend",
		Args:    cobra.ExactArgs(1),
	}
	as := &choice{allowed: []string{"sent", "not-sent"}}
	c.Flags().Var(as, "as", "what became of the push")
	resend := c.Flags().Bool("resend", false, "push it again; only with --as not-sent")
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	output := addOutputFlag(c)
	_ = c.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(as.allowed, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		switch {
		case as.value == "":
			return usageError("say what became of the push: --as sent, or --as not-sent")
		case *resend && as.value == "sent":
			return usageError("what was sent is not sent again: --resend goes with --as not-sent")
		}
		ruling := store.Ruling{TaskID: id, Sent: as.value == "sent", Resend: *resend, Note: *note, Operator: p.operator()}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			ruled, err := s.Resolve(c.Context(), ruling)
			if err != nil {
				return err
			}
			if output.json() {
				return p.writeJSON(map[string]any{"task_id": id, "status": ruled.Status, "reason": ruled.Reason})
			}
			return p.print(fmt.Sprintf("task %d: %s, %s\n", id, ruled.Status, plain.Line(ruled.Reason)))
		})
	}
	return c
}

// operator returns the name of the user who runs the command; under sudo, of the
// user who called sudo.
func (p *program) operator() string {
	if name := cmp.Or(p.getenv("SUDO_USER"), p.getenv("USER"), p.getenv("LOGNAME")); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

const revokeHelp = `Has the provider take back what it accepted of a task, delivery by delivery, or of
one target only. mPaaS and webhook receivers can; Alipay has no such call. Devices
that have shown the message keep it. The decision on the task stays as it is; what
the provider answered is in scheduler.revocation_calls. A task that runs goes on:
cancel its campaign first.`

func newTasksRevokeCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "revoke ID",
		Short:   "Have the provider take a push back",
		Long:    revokeHelp,
		Example: `  scheduler tasks revoke 4711 --note "wrong price in the text"`,
		Args:    cobra.ExactArgs(1),
	}
	note := c.Flags().String("note", "", "why, a `TEXT` for the audit")
	target := c.Flags().String("target", "", "of this `TARGET` only")
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			n, err := s.RevokeTask(c.Context(), id, *note, *target)
			if err != nil {
				return err
			}
			return p.print(fmt.Sprintf("task %d: deliveries to take back that were not asked for before: %d\n", id, n))
		})
	}
	return c
}

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/store"
)

const verifyHelp = `Works the occurrences of every campaign out anew, by a way that shares no code
with the daemon, and compares with the record. It reads one snapshot, changes
nothing, and may run at any time, also against a standby.

It reports, one line each:
  undecided   an occurrence that has passed without a decision
  twice       an occurrence that is two tasks
  stray       a task that is no occurrence of its campaign, or began after its end
  forbidden   a pending task whose campaign is paused, cancelled or gone
  over_cap    an app with more pending tasks than its limit
  slot        a pending task that is counted wrongly
  over_quota  seven days with more calls than the quota of then
  in_quiet    a call that began within the quiet hours of its app as they stood
  ownerless   a lease whose daemon is gone

Tasks that were pruned cannot be compared: by default it looks back as far as
retention.tasks says, and at everything where that says nothing.

` + databaseHelp + `

Exit status 1 means that something was found.`

const verifyExample = `  scheduler verify
  scheduler verify --since 2026-01-01 --output json
  scheduler verify --since 24h --grace 10m`

type verifyFlags struct {
	database *databaseFlag
	output   *outputFlag
	since    string
	grace    time.Duration
	limit    int
}

func newVerifyCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "verify",
		Short:   "Compare what was decided with what should have been",
		Long:    verifyHelp,
		Example: verifyExample,
		Args:    cobra.NoArgs,
	}
	f := verifyFlags{database: addDatabaseFlag(c), output: addOutputFlag(c)}
	c.Flags().StringVar(&f.since, "since", "", "look at what is due from this `TIME` on: a date (UTC), an RFC 3339 time, or an age such as 24h")
	c.Flags().DurationVar(&f.grace, "grace", 2*time.Minute, "how far behind the daemons may be, a `DURATION`")
	c.Flags().IntVar(&f.limit, "limit", 100, "list at most `N` findings of each kind")
	c.RunE = func(c *cobra.Command, _ []string) error {
		since, err := parseMoment(f.since, p.now())
		if err != nil {
			return err
		}
		if f.grace < 0 || f.limit < 1 {
			return usageError("--grace must not be negative, and --limit must be at least 1")
		}
		return p.withStore(c.Context(), f.database, func(s *store.Store, cfg *config.Config) error {
			return p.verify(c.Context(), s, cfg, f, since)
		})
	}
	return c
}

func (p *program) verify(ctx context.Context, s *store.Store, cfg *config.Config, f verifyFlags, since time.Time) error {
	if since.IsZero() && cfg.Retention.Tasks > 0 {
		now, err := s.Now(ctx)
		if err != nil {
			return err
		}
		since = now.Add(-cfg.Retention.Tasks)
	}
	v, err := s.Verify(ctx, store.VerifyOptions{Since: since, Grace: f.grace, Limit: f.limit})
	if err != nil {
		return err
	}
	if f.output.json() {
		err = p.writeJSON(asReport(v, since))
	} else {
		err = p.printVerification(v, since)
	}
	if err == nil && len(v.Findings) > 0 {
		err = errReported
	}
	return err
}

// A report holds what verify prints. The form of its JSON is a promise to other
// programs.
type report struct {
	At          time.Time        `json:"at"`
	Since       *time.Time       `json:"since"`      // null: from the beginning
	HeldSince   *time.Time       `json:"held_since"` // not null: nothing counts as undecided
	Occurrences int64            `json:"occurrences"`
	Tasks       int64            `json:"tasks"`
	Counts      map[string]int64 `json:"counts"` // by kind, including findings that --limit left out
	Findings    []finding        `json:"findings"`
}

type finding struct {
	Kind        string `json:"kind"`
	AppID       string `json:"app_id"`
	WorkspaceID string `json:"workspace_id"`
	CampaignID  int64  `json:"campaign_id,omitempty"`
	Campaign    string `json:"campaign,omitempty"`
	DueAt       string `json:"due_at,omitempty"` // RFC 3339 in the campaign's zone
	TaskID      int64  `json:"task_id,omitempty"`
	Detail      string `json:"detail"`
}

func asReport(v store.Verification, since time.Time) report {
	out := report{At: v.At, Occurrences: v.Occurrences, Tasks: v.Tasks, Counts: v.Counts, Findings: []finding{}}
	if !since.IsZero() {
		out.Since = &since
	}
	if !v.HeldSince.IsZero() {
		out.HeldSince = &v.HeldSince
	}
	for _, f := range v.Findings {
		row := finding{
			Kind: f.Kind, AppID: f.AppID, WorkspaceID: f.WorkspaceID, CampaignID: f.CampaignID, Campaign: f.Campaign, TaskID: f.TaskID, Detail: f.Detail,
		}
		if !f.DueAt.IsZero() {
			row.DueAt = inZone(f.DueAt, f.TimeZone).Format(time.RFC3339Nano)
		}
		out.Findings = append(out.Findings, row)
	}
	return out
}

func (p *program) printVerification(v store.Verification, since time.Time) error {
	from := "from the beginning"
	if !since.IsZero() {
		from = "since " + since.UTC().Format(localTime)
	}
	summary := fmt.Sprintf("%s and %s looked at, %s\n", count(int(v.Occurrences), "past occurrence"), count(int(v.Tasks), "task"), from)
	if !v.HeldSince.IsZero() {
		summary += "nothing is pushed since " + v.HeldSince.Format(localTime) + ", so that nothing counts as undecided: scheduler release --list\n"
	}
	if len(v.Findings) == 0 {
		return p.print("all is as it should be: " + summary)
	}
	t := table{header: []string{"FOUND", "APP", "CAMPAIGN", "DUE", "TASK", "DETAIL"}}
	for _, f := range v.Findings {
		t.add(f.Kind, appName(f.AppID, f.WorkspaceID), campaignName(f.CampaignID, f.Campaign), dueIn(f.DueAt, f.TimeZone), number(f.TaskID), f.Detail)
	}
	if err := t.write(p); err != nil {
		return err
	}
	return p.print("\n" + strings.Join(countsInWords(v.Counts), ", ") + "; " + summary)
}

// countsInWords lists the kinds in the order of the help.
func countsInWords(counts map[string]int64) []string {
	var words []string
	for _, kind := range []string{
		store.FindingUndecided, store.FindingTwice, store.FindingStray, store.FindingForbidden,
		store.FindingOverCap, store.FindingSlot, store.FindingOverQuota, store.FindingQuiet, store.FindingOwnerless,
	} {
		if n := counts[kind]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return words
}

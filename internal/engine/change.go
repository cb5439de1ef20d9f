package engine

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A planned campaign is what looking at one Change came to.
type planned struct {
	campaign  *store.Campaign // nil: it is gone
	cursor    store.Cursor
	fresh     bool              // it was never planned
	schedule  strategy.Schedule // of the version that stands; zero: it was not needed
	unplanned []store.Decision  // occurrences decided without a task
	immediate *store.NewTask
	rejected  string // why the campaign cannot be pushed
}

// replan brings one changed campaign up to date. Occurrences of versions that
// were replaced, cancelled or deleted before the planner could make tasks of
// them are decided here, so that none is ever without a decision.
func (p *Planner) replan(c store.Change, problem string, now time.Time) planned {
	out := planned{campaign: c.Campaign, cursor: store.Cursor{CampaignID: c.CampaignID}, fresh: c.Cursor == nil}
	next, known := standing(c)
	for _, h := range c.History {
		if !h.StrategyEnded {
			continue
		}
		s, err := schedule(&h.Before)
		if err != nil {
			continue // a version that never had an occurrence
		}
		if !known {
			next = first(s)
		}
		for ; !next.IsZero() && next.Before(h.ChangedAt); next = s.Next(next) {
			out.unplanned = append(out.unplanned, decideUnplanned(&h.Before, next, "cancelled", "campaign changed ("+h.Action+") before it was pushed"))
		}
		next, known = time.Time{}, false
	}
	if c.Campaign == nil {
		return out
	}
	out.cursor.Revision = c.Campaign.Revision
	if c.Campaign.Status != "active" && c.Campaign.Status != "paused" && c.Campaign.Status != "rejected" {
		return out // cancelled or finished: nothing is left to plan
	}
	p.follow(c.Campaign, problem, next, known, now, &out)
	return out
}

// standing returns the campaign's earliest occurrence without a task, and
// whether that is known, as far as it was planned before.
func standing(c store.Change) (time.Time, bool) {
	if c.Cursor == nil {
		return time.Time{}, false
	}
	next := c.Cursor.NextDueAt
	if !c.RewindTo.IsZero() && (next.IsZero() || c.RewindTo.Before(next)) {
		next = c.RewindTo
	}
	return next, true
}

// follow plans the version that stands now; problem is why it cannot be pushed.
func (p *Planner) follow(c *store.Campaign, problem string, next time.Time, known bool, now time.Time, out *planned) {
	if c.Unreadable != "" {
		out.rejected, out.cursor.NextDueAt = problem, next
		return
	}
	s, err := schedule(c)
	if err != nil {
		out.rejected = "strategy_content: " + err.Error()
		return
	}
	out.schedule = s
	atOnce := c.StrategyType == 0
	switch {
	case !known, atOnce && !next.IsZero():
		next = first(s) // the database moves that of a push at once to when it could first be pushed
	case !next.IsZero() && c.StrategyType == 2: // the rules of its zone may have changed since it was worked out
		next = onSchedule(s, next)
	}
	if c.Status == "active" {
		out.rejected = problem
	}
	out.cursor.Active = c.Status == "active" && out.rejected == ""
	reason := windowReason(c)
	if !out.cursor.Active {
		reason = "campaign " + c.Status
		if out.rejected != "" {
			reason = "campaign rejected"
		}
	}
	if atOnce && !out.cursor.Active {
		out.cursor.NextDueAt = next // its window begins when it becomes active
		return
	}
	for ; !next.IsZero() && next.Add(c.CatchUpWindow).Before(now); next = s.Next(next) {
		out.unplanned = append(out.unplanned, decideUnplanned(c, next, "missed", reason))
	}
	if atOnce && out.cursor.Active && !next.IsZero() {
		out.immediate = &store.NewTask{CampaignID: c.ID, Revision: c.Revision, Origin: "immediate", DueAt: next}
		next = time.Time{}
	}
	out.cursor.NextDueAt = next
}

// problemText lists the problems in one text for campaigns.status_reason, as many
// as there is room for.
func problemText(problems []dispatch.Problem) string {
	var b strings.Builder
	for i, pr := range problems {
		line := pr.Field + ": " + pr.Text
		if i > 0 && b.Len()+len(line) > maxReason {
			fmt.Fprintf(&b, "; … and %d more", len(problems)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(clip(line))
	}
	return b.String()
}

// apply brings changed campaigns up to date, but for the cursors of those that
// were never planned: they give the next tasks most often, and are stored with
// them.
func (p *Planner) apply(ctx context.Context, tx *store.PlanTx, changes []store.Change, problems map[int64]string) (applied, error) {
	a := applied{known: make(schedules, len(changes)), cursors: make(map[int64]store.Cursor)}
	var all findings
	for _, c := range changes {
		if c.CampaignID == 0 {
			continue
		}
		runtime.Gosched() // tasks that are due go first
		out := p.replan(c, problems[c.CampaignID], tx.Now)
		if out.rejected != "" {
			if err := p.reject(ctx, tx, c.Campaign, &out); err != nil {
				return applied{}, err
			}
		}
		if c.Campaign != nil && c.Campaign.Status == "rejected" {
			p.OnRejected(c.CampaignID)
		}
		all.add(&out)
		switch {
		case out.campaign == nil:
			all.forget = append(all.forget, c.CampaignID)
		case out.fresh:
			a.addFresh(&out)
		default:
			all.cursors = append(all.cursors, out.cursor)
			a.known[c.CampaignID] = out.schedule
		}
	}
	return a, all.write(ctx, tx)
}

// What was applied is what filling the app goes on with.
type applied struct {
	known   schedules              // of campaigns that were planned before
	cursors map[int64]store.Cursor // not stored yet, of campaigns that were never planned
	fresh   []candidate            // those among them that may give a task
}

func (a *applied) addFresh(p *planned) {
	a.cursors[p.campaign.ID] = p.cursor
	if p.cursor.Active && !p.cursor.NextDueAt.IsZero() {
		a.fresh = append(a.fresh, candidate{campaign: p.campaign, schedule: p.schedule, next: p.cursor.NextDueAt})
	}
}

// reject marks the campaign and takes its tasks back; they return when its
// author has mended it.
func (p *Planner) reject(ctx context.Context, tx *store.PlanTx, c *store.Campaign, out *planned) error {
	next, err := tx.Withdraw(ctx, c.ID)
	if err != nil {
		return err
	}
	if err := tx.Reject(ctx, c.ID, out.rejected); err != nil {
		return err
	}
	p.Log.WarnContext(ctx, "campaign rejected", "campaign", c.ID, "reason", out.rejected)
	if k := &out.cursor; !next.IsZero() && (k.NextDueAt.IsZero() || next.Before(k.NextDueAt)) {
		k.NextDueAt = next
	}
	return nil
}

// findings are what all changes of an app came to.
type findings struct {
	cursors   []store.Cursor
	forget    []int64
	unplanned []store.Decision
	immediate []store.NewTask
}

func (f *findings) add(p *planned) {
	f.unplanned = append(f.unplanned, p.unplanned...)
	if p.immediate != nil {
		f.immediate = append(f.immediate, *p.immediate)
	}
}

func (f *findings) write(ctx context.Context, tx *store.PlanTx) error {
	if len(f.unplanned) > 0 {
		if err := tx.Decide(ctx, f.unplanned); err != nil {
			return err
		}
	}
	if len(f.forget) > 0 {
		if err := tx.Forget(ctx, f.forget); err != nil {
			return err
		}
	}
	if len(f.immediate) > 0 {
		if err := tx.Insert(ctx, f.immediate); err != nil {
			return err
		}
	}
	if len(f.cursors) == 0 {
		return nil
	}
	return tx.SaveCursors(ctx, f.cursors)
}

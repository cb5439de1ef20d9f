package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A judged holds changed campaigns of an app, as they were read and judged
// outside of any transaction.
type judged struct {
	changes   []store.Unplanned
	campaigns map[int64]*store.Campaign // those that still exist
	problems  map[int64]string          // why a campaign cannot be pushed, by its id
}

// look reads the changed campaigns of an app and judges those that are active.
func (p *Planner) look(ctx context.Context, app int32) (*judged, error) {
	without, n := p.held(app)
	changes, err := p.Store.Unplanned(ctx, app, without, n)
	if err != nil {
		return nil, err
	}
	j := &judged{changes: changes, campaigns: make(map[int64]*store.Campaign), problems: make(map[int64]string)}
	err = p.Store.LoadCampaigns(ctx, j.ids(), func(some []store.Campaign) bool {
		for i := range some {
			j.take(p, &some[i])
			runtime.Gosched() // tasks that are due go first
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return j, err
}

// take judges a campaign and then drops its request, which nobody needs any more.
func (j *judged) take(p *Planner, c *store.Campaign) {
	if c.Status == "active" || c.Unreadable != "" {
		if _, problems := p.Compile(c); len(problems) > 0 {
			j.problems[c.ID] = problemText(problems)
		}
	}
	c.Request = nil
	j.campaigns[c.ID] = c
}

// passFor is how long a campaign that somebody holds is passed over, so that its
// app's other campaigns do not wait for it.
const passFor = time.Second

// held returns the campaigns of an app that are passed over, and how many changes
// are taken at once.
func (p *Planner) held(app int32) (without []int64, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.passed[app], func(_ int64, at time.Time) bool { return time.Since(at) >= passFor })
	if len(p.passed[app]) == 0 {
		delete(p.passed, app)
	}
	return slices.Collect(maps.Keys(p.passed[app])), p.batch(app)
}

// batch is how many changes of an app are taken at once. The lock must be held.
func (p *Planner) batch(app int32) int { return cmp.Or(p.batches[app], p.Changes) }

// passOver leaves campaigns out of the app's plans for passFor.
func (p *Planner) passOver(app int32, campaigns []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passed[app] == nil {
		p.passed[app] = make(map[int64]time.Time)
	}
	for _, id := range campaigns {
		p.passed[app][id] = time.Now()
	}
}

// passedBlocked says whether the app's plans leave out campaigns for whose locks a
// plan has waited in vain.
func (p *Planner) passedBlocked(app int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.passed[app]) == 0 {
		delete(p.blocked, app)
	}
	return p.blocked[app]
}

// pass passes over the changes that a plan could not take, if the batch was full.
// It then returns true, since there may be other changes.
func (p *Planner) pass(app int32, j *judged, taken map[int64]bool) bool {
	p.mu.Lock()
	full := len(j.changes) >= p.batch(app)
	p.mu.Unlock()
	left := slices.DeleteFunc(j.ids(), func(id int64) bool { return taken[id] })
	if !full || len(left) == 0 {
		return false
	}
	p.passOver(app, left)
	return true
}

// ids returns the campaigns that changed, each once, including deleted ones.
func (j *judged) ids() []int64 {
	var out []int64
	for _, c := range j.changes {
		if c.CampaignID != 0 {
			out = append(out, c.CampaignID)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// aloneTimes is how often a plan must fail with one campaign alone before the
// campaign is set aside. A single failure may have another cause.
const aloneTimes = 3

// narrow deals with a plan that failed: it has ever fewer campaigns planned
// together, to find the one that makes plans fail. If somebody holds that
// campaign, it is passed over for a while, so that no other waits for it. If plans
// fail again and again with it alone, it is set aside. An outage is no campaign's
// fault.
func (p *Planner) narrow(ctx context.Context, app int32, j *judged, err error) (progress bool, _ error) {
	ids := j.ids()
	if errors.Is(err, errBusy) || store.IsOutage(err) || ctx.Err() != nil {
		return false, err
	}
	switch {
	case len(ids) > 1:
		p.mu.Lock()
		p.batches[app] = max(min(len(j.changes), p.batch(app))/8, 1)
		p.mu.Unlock()
		return false, err
	case store.IsBlocked(err):
		p.passOver(app, ids)
		p.mu.Lock()
		p.blocked[app] = true
		p.mu.Unlock()
		return false, err
	}
	found, failed := p.suspect(ctx, app)
	switch {
	case failed != nil:
		return false, failed
	case found:
		return true, nil
	case len(ids) == 0 || p.failedAlone(ids[0]) < aloneTimes:
		return false, err
	}
	return true, p.setAside(ctx, app, ids[0], cause(err))
}

// failedAlone counts a plan that failed with one campaign alone, and returns
// how many have.
func (p *Planner) failedAlone(id int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.alone) > 10000 {
		clear(p.alone)
	}
	p.alone[id]++
	return p.alone[id]
}

// suspect looks at the campaigns that give the app's next tasks. It sets aside
// those that cannot be read any more, and says whether there were any.
func (p *Planner) suspect(ctx context.Context, app int32) (found bool, err error) {
	ids, err := p.Store.Waiting(ctx, app, p.Changes)
	if err != nil {
		return false, err
	}
	var bad []int64
	var why []string
	err = p.Store.LoadCampaigns(ctx, ids, func(some []store.Campaign) bool {
		for i := range some {
			if reason := p.unplannable(ctx, &some[i]); reason != "" {
				bad, why = append(bad, some[i].ID), append(why, reason)
			}
		}
		return ctx.Err() == nil
	})
	for i, id := range bad {
		if err == nil {
			err = p.setAside(ctx, app, id, why[i])
		}
	}
	return len(bad) > 0, err
}

// unplannable returns why a campaign's occurrences cannot be worked out; empty:
// they can be.
func (p *Planner) unplannable(ctx context.Context, c *store.Campaign) (reason string) {
	defer func() {
		if r := recover(); r != nil {
			p.faults.caught(ctx, faultPlan, r, "campaign", c.ID)
			reason = cause(errPanic)
		}
	}()
	if c.Unreadable != "" {
		return c.Unreadable
	}
	if _, err := schedule(c); err != nil {
		return "strategy_content: " + err.Error()
	}
	return ""
}

// cause returns the reason recorded for a campaign that is set aside because
// plans fail with it.
func cause(err error) string { return "this program cannot plan the campaign: " + err.Error() }

func (p *Planner) setAside(ctx context.Context, app int32, id int64, reason string) error {
	reason = clip(reason)
	news, err := p.Store.SetAside(ctx, app, id, reason)
	if err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.alone, id)
	p.mu.Unlock()
	if news {
		p.Metrics.SetAside.Inc()
		p.Log.WarnContext(ctx, "campaign rejected", "campaign", id, "reason", reason)
	}
	return nil
}

// maxReason bounds, in bytes, what a campaign's status_reason says.
const maxReason = 4000

// clip shortens a reason to maxReason, and cuts no character.
func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + " …"
}

package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A comparison is of an app's pending tasks with those it should have.
type comparison struct {
	*applied
	tx      *store.PlanTx
	pending []store.PendingTask // ascending by due_at
	before  time.Time           // later occurrences cannot become tasks
}

// forever is later than any occurrence.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func newComparison(ctx context.Context, tx *store.PlanTx, a *applied) (*comparison, error) {
	pending, err := tx.Pending(ctx)
	if err != nil {
		return nil, err
	}
	c := &comparison{applied: a, tx: tx, pending: pending, before: forever}
	if len(pending) >= tx.Limit {
		c.before = pending[len(pending)-1].DueAt
	}
	return c, nil
}

// room is how many tasks the app may have beside those that are pending.
func (c *comparison) room() int { return max(c.tx.Limit-len(c.pending), 0) }

// filling works out the difference, and locks the campaigns it changes. When
// authors hold some of them it is worked out again without those.
func (c *comparison) filling(ctx context.Context) (filling, error) {
	f, err := c.few(ctx)
	if err != nil {
		return f, err
	}
	planned := c.plannedBefore(f.advanced)
	if len(planned) == 0 {
		return f, nil
	}
	locked, err := c.tx.Lock(ctx, slices.Collect(maps.Keys(planned)))
	if err != nil || maps.Equal(locked, planned) {
		return f, err
	}
	rows, err := c.tx.FreeCandidates(ctx, c.before, c.tx.Limit)
	if err != nil {
		return filling{}, err
	}
	return c.from(rows)
}

// plannedBefore returns the revisions of those campaigns among the cursors' that
// are not locked yet: a change is taken together with its campaign.
func (c *comparison) plannedBefore(cursors []store.Cursor) map[int64]int32 {
	out := make(map[int64]int32)
	for _, k := range cursors {
		if _, fresh := c.cursors[k.CampaignID]; !fresh {
			out[k.CampaignID] = k.Revision
		}
	}
	return out
}

// fewest is how many candidates are looked at beyond the room there is.
const fewest = 8

// few works out the filling from few candidates where few will do: most often a
// task or two have begun, and the next occurrences come after all that are
// pending.
func (c *comparison) few(ctx context.Context) (filling, error) {
	limit := min(c.room()+fewest, c.tx.Limit)
	rows, err := c.tx.Candidates(ctx, c.before, limit)
	if err != nil {
		return filling{}, err
	}
	f, err := c.from(rows)
	if err != nil || len(rows) < limit || limit == c.tx.Limit || f.surely(c.pending, c.room(), rows[len(rows)-1].NextDueAt) {
		return f, err
	}
	if rows, err = c.tx.Candidates(ctx, c.before, c.tx.Limit); err != nil {
		return filling{}, err
	}
	return c.from(rows)
}

// from works out the filling from stored candidates and the fresh ones.
func (c *comparison) from(rows []store.Candidate) (filling, error) {
	candidates := slices.Clone(c.fresh)
	for i := range rows {
		s, err := c.known.of(&rows[i].Campaign)
		if err != nil {
			return filling{}, err
		}
		candidates = append(candidates, candidate{campaign: &rows[i].Campaign, schedule: s, next: rows[i].NextDueAt})
	}
	return fill(c.pending, candidates, c.tx.Limit, c.tx.Now), nil
}

// carryOut writes a filling.
func (c *comparison) carryOut(ctx context.Context, f *filling) error {
	taken, err := c.displace(ctx, f)
	if err != nil {
		return err
	}
	if len(f.missed) > 0 {
		if err := c.tx.Decide(ctx, f.missed); err != nil {
			return err
		}
	}
	if err := c.saveCursors(ctx, f.advanced); err != nil {
		return err
	}
	if len(taken) > 0 { // after the cursors: a campaign may both give and lose a task
		if err := c.tx.Rewind(ctx, taken); err != nil {
			return err
		}
	}
	f.place(c.pending, taken)
	if len(f.insert) == 0 {
		return nil
	}
	return c.tx.Insert(ctx, f.insert)
}

// displace takes the tasks back that are to make room, as many as are needed
// and can be had, and drops the insertions there is no room for.
func (c *comparison) displace(ctx context.Context, f *filling) ([]store.PendingTask, error) {
	need := len(f.insert) - c.room()
	if need <= 0 {
		return nil, nil
	}
	ids := make([]int64, 0, need)
	for _, t := range f.displace[:min(need, len(f.displace))] {
		ids = append(ids, t.ID)
	}
	taken, err := c.tx.Displace(ctx, ids)
	if err != nil {
		return nil, err
	}
	if n := c.room() + len(taken); n < len(f.insert) {
		f.shorten(n)
	}
	return taken, nil
}

// saveCursors stores how far the fresh campaigns are planned, and those that gave
// a task.
func (c *comparison) saveCursors(ctx context.Context, advanced []store.Cursor) error {
	for _, k := range advanced {
		c.cursors[k.CampaignID] = k
	}
	if len(c.cursors) == 0 {
		return nil
	}
	byCampaign := func(a, b store.Cursor) int { return cmp.Compare(a.CampaignID, b.CampaignID) }
	return c.tx.SaveCursors(ctx, slices.SortedFunc(maps.Values(c.cursors), byCampaign))
}

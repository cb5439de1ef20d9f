package engine

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A candidate is an active campaign with an occurrence that is no task yet.
type candidate struct {
	campaign *store.Campaign
	schedule strategy.Schedule
	next     time.Time
}

// A filling is the difference between the tasks that are pending and those that
// should be: the earliest occurrences of the app's active campaigns, as many as
// its limit allows.
type filling struct {
	insert   []store.NewTask     // ascending; without slots
	displace []store.PendingTask // latest first
	missed   []store.Decision    // left their catch-up window before there was room
	advanced []store.Cursor      // cursors of campaigns that gave a task
}

// fill works out a filling. pending is ascending by due_at; candidates hold, of
// the campaigns with the earliest occurrences, at least as many as the limit,
// or all that could displace a pending task. It is a pure function: the same
// input gives the same filling, and filling again finds nothing to do.
func fill(pending []store.PendingTask, candidates []candidate, limit int, now time.Time) filling {
	var f filling
	moved := make(map[int64]store.Cursor)
	queue := f.expire(candidates, now, moved)
	heap.Init(&queue)
	last := len(pending) - 1 // the latest task that is still kept
	room := limit - len(pending)
	for len(queue) > 0 {
		c := &queue[0]
		switch {
		case room > 0:
			room--
		case last >= 0 && c.next.Before(pending[last].DueAt):
			f.displace = append(f.displace, pending[last])
			last--
		default:
			f.advanced = slices.Collect(maps.Values(moved))
			return f
		}
		f.insert = append(f.insert, store.NewTask{CampaignID: c.campaign.ID, Revision: c.campaign.Revision, Origin: "scheduled", DueAt: c.next})
		c.advance(moved)
		if c.next.IsZero() {
			heap.Pop(&queue)
		} else {
			heap.Fix(&queue, 0)
		}
	}
	f.advanced = slices.Collect(maps.Values(moved))
	return f
}

// expire decides the candidates' occurrences that have left their catch-up
// window and returns the candidates that have others.
func (f *filling) expire(candidates []candidate, now time.Time, moved map[int64]store.Cursor) byNext {
	var rest byNext
	for i := range candidates {
		c := &candidates[i]
		for !c.next.IsZero() && c.next.Add(c.campaign.CatchUpWindow).Before(now) {
			f.missed = append(f.missed, decideUnplanned(c.campaign, c.next, "missed", windowReason(c.campaign)))
			c.advance(moved)
		}
		if !c.next.IsZero() {
			rest = append(rest, *c)
		}
	}
	return rest
}

// advance goes on to the campaign's next occurrence.
func (c *candidate) advance(moved map[int64]store.Cursor) {
	c.next = c.schedule.Next(c.next)
	moved[c.campaign.ID] = store.Cursor{CampaignID: c.campaign.ID, Revision: c.campaign.Revision, Active: true, NextDueAt: c.next}
}

// surely says that no candidate beyond those looked at, all of whose
// occurrences are at seen or later, could change the filling: the room is used
// up, and nothing that will be pending is due after seen.
func (f *filling) surely(pending []store.PendingTask, room int, seen time.Time) bool {
	if len(f.insert)-len(f.displace) < room {
		return false
	}
	if n := len(f.insert); n > 0 && f.insert[n-1].DueAt.After(seen) {
		return false
	}
	kept := len(pending) - len(f.displace)
	return kept == 0 || !pending[kept-1].DueAt.After(seen)
}

// shorten drops the latest insertions until n are left; their campaigns'
// cursors go back to the first one dropped.
func (f *filling) shorten(n int) {
	back := make(map[int64]time.Time)
	for _, t := range slices.Backward(f.insert[n:]) {
		back[t.CampaignID] = t.DueAt
	}
	f.insert = f.insert[:n]
	for i, c := range f.advanced {
		if due, ok := back[c.CampaignID]; ok {
			f.advanced[i].NextDueAt = due
		}
	}
}

// place gives every insertion a slot that no kept task has.
func (f *filling) place(pending, taken []store.PendingTask) {
	used := make(map[int32]bool, len(pending))
	for _, t := range pending {
		used[t.Slot] = true
	}
	for _, t := range taken {
		delete(used, t.Slot)
	}
	slot := int32(1)
	for i := range f.insert {
		for used[slot] {
			slot++
		}
		f.insert[i].Slot = slot
		slot++
	}
}

type byNext []candidate

func (q byNext) Len() int      { return len(q) }
func (q byNext) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q byNext) Less(i, j int) bool {
	if !q[i].next.Equal(q[j].next) {
		return q[i].next.Before(q[j].next)
	}
	return q[i].campaign.ID < q[j].campaign.ID
}
func (q *byNext) Push(x any) { *q = append(*q, x.(candidate)) }
func (q *byNext) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// decideUnplanned decides an occurrence that never became a task.
func decideUnplanned(c *store.Campaign, due time.Time, status, reason string) store.Decision {
	return store.Decision{CampaignID: c.ID, Revision: c.Revision, Channel: c.Channel, DueAt: due, Status: status, Reason: reason}
}

// windowReason is why an occurrence older than its catch-up window was missed.
func windowReason(c *store.Campaign) string {
	return "older than the catch-up window of " + c.CatchUpWindow.String()
}

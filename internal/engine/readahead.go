package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// dueQueueBytes bounds the memory that the compiled campaigns of queued tasks take.
const dueQueueBytes = 64 << 20

// readAhead fills the dueQueue with the tasks that are ready within the horizon.
// It begins at the earliest each time, so that whatever a hint did not tell is
// found, and reads of each app no more than there is room for.
func (d *dispatcher) readAhead(ctx context.Context) error {
	if d.reloaded.Swap(false) {
		d.due.clear() // what is there was read with the old configuration
	}
	share, shares, ok := d.lease.share()
	if !ok {
		return nil // no lease: nothing could be claimed
	}
	if d.full() {
		d.unread.Store(true)
		return nil
	}
	crowded := d.crowded()
	mine, others := d.lease.exceptions()
	d.due.drop(others)
	d.due.reading()
	tasks, err := d.store.Upcoming(ctx, d.clock.Now().Add(d.horizon), append(others, crowded...), mine, share, shares, d.capacity/8, d.capacity)
	if err != nil {
		return err
	}
	if err := d.enter(ctx, tasks); err != nil {
		return err
	}
	perApp, most := make(map[int32]int), 0
	for _, t := range tasks {
		perApp[t.AppNo]++
		most = max(most, perApp[t.AppNo])
	}
	d.unread.Store(len(crowded) > 0 || len(tasks) >= d.capacity || most >= d.capacity/8 || d.full())
	return nil
}

// full says whether the dueQueue holds as much as it may.
func (d *dispatcher) full() bool {
	return d.due.len() >= d.capacity || d.due.size() >= dueQueueBytes
}

// crowded lists apps that already hold more of the dueQueue than they can begin
// soon, so that a slow app does not keep others out.
func (d *dispatcher) crowded() []int32 {
	return d.due.crowded(d.capacity / 8)
}

// enter takes in the tasks that are new, or that were changed since they were taken
// in: a task that waits for its app's leave is missed by its campaign as it stands.
// Those that are early it takes in some at a time, with rests in between, since
// whole seconds are read at once, and calls are due all the time. What a reading
// each second finds is due from half the horizon on, so that early is well before
// that.
func (d *dispatcher) enter(ctx context.Context, tasks []store.ReadyTask) error {
	d.due.outdated(tasks)
	var fresh []store.ReadyTask
	for _, t := range tasks {
		if !d.due.knows(t.ID) {
			fresh = append(fresh, t)
		}
	}
	for len(fresh) > 0 && !d.full() {
		began, n := time.Now(), len(fresh)
		n = min(n, readAtOnce)
		early := fresh[0].ReadyAt.Sub(d.clock.Now()) > d.horizon/4 && !d.reader.wanted()
		if early {
			n = min(n, atOnce)
		}
		if err := d.enterSome(ctx, fresh[:n]); err != nil {
			return err
		}
		if fresh = fresh[n:]; early {
			pace(ctx, began)
		}
	}
	return nil
}

// readAtOnce bounds the campaigns that are loaded between two looks at how full
// the dueQueue is.
const readAtOnce = 256

func (d *dispatcher) enterSome(ctx context.Context, tasks []store.ReadyTask) error {
	wants := make([]want, len(tasks))
	for i, t := range tasks {
		wants[i] = want{id: t.CampaignID, revision: t.Revision}
	}
	if err := d.cache.ensure(ctx, wants); err != nil {
		return err
	}
	entries := make([]*entry, 0, len(tasks))
	for _, t := range tasks {
		if v := d.cache.get(t.CampaignID); v != nil && v.campaign.Unreadable == "" { // else the planner deals with it
			entries = append(entries, &entry{task: t, compiled: v, seen: d.clock.Now()})
		}
	}
	d.due.add(entries)
	d.nudge()
	return nil
}

package engine

import (
	"context"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// agendaBytes bounds what the contents of the tasks that wait in the agenda take.
const agendaBytes = 64 << 20

// readAhead fills the agenda with the tasks that are ready within the horizon.
// It begins at the earliest each time, so that whatever a hint did not tell is
// found, and reads of each app no more than there is room for.
func (d *dispatcher) readAhead(ctx context.Context) error {
	if d.reloaded.Swap(false) {
		d.agenda.clear() // what is there was read with the old configuration
	}
	share, shares, ok := d.heart.share()
	if !ok {
		return nil // no lease: nothing could be claimed
	}
	if d.full() {
		d.unread.Store(true)
		return nil
	}
	crowded := d.crowded()
	mine, others := d.heart.exceptions()
	d.agenda.drop(others)
	d.agenda.reading()
	tasks, err := d.Store.Upcoming(ctx, d.clock.Now().Add(d.Horizon), append(others, crowded...), mine, share, shares, d.ReadAhead/8, d.ReadAhead)
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
	d.unread.Store(len(crowded) > 0 || len(tasks) >= d.ReadAhead || most >= d.ReadAhead/8 || d.full())
	return nil
}

// full says whether the agenda holds as much as it may.
func (d *dispatcher) full() bool {
	return d.agenda.len() >= d.ReadAhead || d.agenda.size() >= agendaBytes
}

// crowded lists apps that already hold more of the agenda than they can begin
// soon, so that a slow app does not keep others out.
func (d *dispatcher) crowded() []int32 {
	return d.agenda.crowded(d.ReadAhead / 8)
}

// enter takes in the tasks that are new, or that were changed since they were taken
// in: a task that waits for its app's leave is missed by its campaign as it stands.
// Those that are early it takes in some at
// a time, with rests in between, since whole seconds are read at once, and calls
// are due all the time. What a reading each second finds is due from half the
// horizon on, so that early is well before that.
func (d *dispatcher) enter(ctx context.Context, tasks []store.ReadyTask) error {
	d.agenda.outdated(tasks)
	var fresh []store.ReadyTask
	for _, t := range tasks {
		if !d.agenda.knows(t.ID) {
			fresh = append(fresh, t)
		}
	}
	for len(fresh) > 0 && !d.full() {
		began, n := time.Now(), len(fresh)
		n = min(n, readAtOnce)
		early := fresh[0].ReadyAt.Sub(d.clock.Now()) > d.Horizon/4 && !d.reader.wanted()
		if early {
			n = min(n, atOnce)
		}
		if err := d.enterSome(ctx, fresh[:n]); err != nil {
			return err
		}
		if fresh = fresh[n:]; early {
			giveWay(ctx, began)
		}
	}
	return nil
}

// readAtOnce bounds the campaigns that are loaded between two looks at how full
// the agenda is.
const readAtOnce = 256

func (d *dispatcher) enterSome(ctx context.Context, tasks []store.ReadyTask) error {
	wants := make([]want, len(tasks))
	for i, t := range tasks {
		wants[i] = want{id: t.CampaignID, revision: t.Revision}
	}
	if err := d.contents.ensure(ctx, wants); err != nil {
		return err
	}
	entries := make([]*entry, 0, len(tasks))
	for _, t := range tasks {
		if v := d.contents.get(t.CampaignID); v != nil && v.campaign.Unreadable == "" { // else the planner deals with it
			entries = append(entries, &entry{task: t, content: v, seen: d.clock.Now()})
		}
	}
	d.agenda.add(entries)
	d.nudge()
	return nil
}

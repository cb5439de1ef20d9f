package engine

import (
	"context"
	"slices"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// readAhead fills the queue with the deliveries that are ready within the horizon,
// for each app from the earliest on. It does not read apps whose line is full, for
// which there are no credentials here, or that another daemon serves. Of an app in
// quiet hours it reads only deliveries of campaigns that ignore quiet hours.
func (s *deliveries) readAhead(ctx context.Context) error {
	share, shares, ok := s.lease.share()
	if !ok {
		return nil // no lease: nothing could be claimed
	}
	s.watchClock()
	if err := s.quiet.refresh(ctx); err != nil {
		return err
	}
	until := s.clock.Now().Add(s.horizon)
	apps, err := s.store.WaitingApps(ctx, until)
	if err != nil {
		return err
	}
	others := s.limited()
	var readings []store.Reading
	for _, a := range apps {
		no := a.AppNo
		app := s.app(no)
		if app == nil || slices.Contains(others, no) || !s.queue.room(no) {
			continue
		}
		r := store.Reading{AppNo: no, Limit: lineSize, Shares: 1, QuietUntil: a.QuietUntil}
		if !app.Limited() && !r.Quiet(until) {
			r.Share, r.Shares = share, shares
		}
		readings = append(readings, r)
	}
	return s.read(ctx, until, readings)
}

// read reads deliveries and puts them into the queue. Daemons first read
// different shares of an app's deliveries, so that they do not claim the same
// ones. A daemon whose share is small then reads all of the app.
func (s *deliveries) read(ctx context.Context, until time.Time, readings []store.Reading) error {
	if len(readings) == 0 {
		return nil
	}
	found, err := s.store.WaitingDeliveries(ctx, until, readings, s.heldBack())
	if err != nil {
		return err
	}
	perApp, err := s.enter(ctx, found, readings)
	if err != nil {
		return err
	}
	var rest []store.Reading
	for _, r := range readings {
		if r.Shares > 1 && perApp[r.AppNo] < lineSize/4 {
			r.Share, r.Shares = 0, 1
			rest = append(rest, r)
		}
	}
	return s.read(ctx, until, rest)
}

// enter puts deliveries into the queue, some at a time, so that few campaigns
// are loaded in vain for a line that is full. It returns how many deliveries of
// each app were found.
func (s *deliveries) enter(ctx context.Context, found []store.WaitingDelivery, readings []store.Reading) (perApp map[int32]int, err error) {
	perApp = make(map[int32]int)
	left := make(map[int32]bool)
	quiet := make(map[int32]time.Time)
	for _, r := range readings {
		quiet[r.AppNo] = r.QuietUntil
	}
	for some := range slices.Chunk(found, enterAtOnce) {
		fit := make([]store.WaitingDelivery, 0, len(some))
		for _, w := range some {
			perApp[w.AppNo]++
			if left[w.AppNo] = left[w.AppNo] || s.queue.full(w.AppNo); !left[w.AppNo] {
				fit = append(fit, w)
			}
		}
		if err := s.enterSome(ctx, fit, quiet); err != nil {
			return nil, err
		}
	}
	for _, r := range readings {
		s.queue.more(r.AppNo, perApp[r.AppNo] >= r.Limit || left[r.AppNo])
	}
	signal(s.poke)
	return perApp, nil
}

// enterAtOnce bounds the deliveries whose campaigns are loaded between two looks
// at how full the lines are.
const enterAtOnce = 128

// enterSome puts deliveries into the queue. It leaves out deliveries whose
// campaign has another revision than the one they were read with; the next
// reading finds them. quiet is when each app's quiet hours end, as the reading found
// them. What quietHours knows may be older: a delivery that waited for the end of
// quiet hours that were taken back would stay in the queue until then.
func (s *deliveries) enterSome(ctx context.Context, found []store.WaitingDelivery, quiet map[int32]time.Time) error {
	wants := make([]want, len(found))
	for i, w := range found {
		wants[i] = want{id: w.CampaignID, revision: w.Revision, targets: w.Named}
	}
	if err := s.cache.ensure(ctx, wants); err != nil {
		return err
	}
	now, here := s.clock.Now(), time.Now()
	list, late := make([]*waiting, 0, len(found)), make(map[int64]bool)
	s.mu.Lock()
	for _, w := range found {
		if w.Late {
			late[w.TaskID] = true
			continue
		}
		_, running := s.running[w.ID] // the reading began before its claim
		if v := s.cache.get(w.CampaignID); v != nil && v.campaign.Revision == w.Revision && !running {
			if ends := quiet[w.AppNo]; ends.After(w.ReadyAt) && v.campaign.QuietPolicy != "ignore" {
				w.ReadyAt = ends // within the horizon
			}
			list = append(list, &waiting{WaitingDelivery: w, compiled: v, ready: here.Add(w.ReadyAt.Sub(now))})
		}
	}
	s.mu.Unlock()
	s.queue.add(list)
	for task := range late {
		s.respread(task)
	}
	return nil
}

// watchClock clears the queue when the database's clock has moved against this
// machine's, since deliveries are ready by the database's clock and the queue
// goes by this machine's.
func (s *deliveries) watchClock() {
	apart := time.Until(s.clock.Now())
	if (apart - s.apart).Abs() > 100*time.Millisecond {
		s.queue.clear()
	}
	s.apart = apart
}

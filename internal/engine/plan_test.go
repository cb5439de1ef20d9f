package engine_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// An occurrence as the oracle sees it.
type occurrence struct {
	campaign int64
	due      time.Time
	pending  bool
}

// The start of every loop in these tests, and the day it was written.
var begin = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// A state of an app, as fill finds it.
type state struct {
	limit      int
	now        time.Time
	pending    []store.PendingTask
	candidates []engine.Candidate
}

func drawState(t *rapid.T) state {
	s := state{limit: rapid.IntRange(1, 8).Draw(t, "limit")}
	s.now = begin.Add(time.Duration(rapid.IntRange(-24, 120).Draw(t, "now")) * time.Hour)
	for id := range int64(rapid.IntRange(0, 6).Draw(t, "campaigns")) {
		c := &store.Campaign{
			ID: id + 1, Revision: 1, StrategyType: 2, TimeZone: "UTC", ShortMonthPolicy: "skip", DSTGapPolicy: "shift", WrittenAt: begin,
			StrategyContent: []byte(daily(begin, rapid.IntRange(1, 5).Draw(t, "days"), fmt.Sprintf("%02d:00:00", rapid.IntRange(1, 4).Draw(t, "hour")*5))),
			CatchUpWindow:   time.Duration(rapid.IntRange(1, 50).Draw(t, "window")) * time.Hour,
		}
		sched, err := engine.Parse(c)
		if err != nil {
			t.Fatal(err)
		}
		next := engine.First(sched)
		for range rapid.IntRange(0, 3).Draw(t, "planned") {
			if len(s.pending) < s.limit && !next.IsZero() {
				s.pending = append(s.pending, store.PendingTask{ID: int64(len(s.pending) + 1), Slot: int32(len(s.pending) + 1), CampaignID: c.ID, DueAt: next})
				next = sched.Next(next)
			}
		}
		if !next.IsZero() {
			s.candidates = append(s.candidates, engine.Candidate{Campaign: c, Schedule: sched, Next: next})
		}
	}
	slices.SortFunc(s.pending, func(a, b store.PendingTask) int { return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.ID, b.ID)) })
	return s
}

// shouldBePending is the oracle: all there is, sorted, and cut at the limit.
func (s state) shouldBePending() []occurrence {
	var all []occurrence
	for _, p := range s.pending {
		all = append(all, occurrence{p.CampaignID, p.DueAt, true})
	}
	for _, c := range s.candidates {
		for at := c.Next; !at.IsZero(); at = c.Schedule.Next(at) {
			if !at.Add(c.Campaign.CatchUpWindow).Before(s.now) {
				all = append(all, occurrence{c.Campaign.ID, at, false})
			}
		}
	}
	slices.SortFunc(all, func(a, b occurrence) int {
		if d := a.due.Compare(b.due); d != 0 || a.pending == b.pending {
			return cmp.Or(d, cmp.Compare(a.campaign, b.campaign))
		}
		if a.pending { // what is pending stays when it is as early
			return -1
		}
		return 1
	})
	return all[:min(len(all), s.limit)]
}

func TestFillAgainstAnOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawState(t)
		f := engine.Fill(s.pending, s.candidates, s.limit, s.now)
		if diff := gocmp.Diff(dues(s.shouldBePending()), s.after(f)); diff != "" {
			t.Fatalf("pending (-want +got):\n%s", diff)
		}
		s.accountsForAll(t, f)
		// Filling again finds nothing to do, but for displaced tasks that are too old
		// by now: nobody would have pushed them either.
		if again := engine.Fill(s.next(f)); len(again.Insert)+len(again.Displace) > 0 {
			t.Fatalf("a second filling still finds work: %+v", again)
		}
	})
}

func dues(list []occurrence) []time.Time {
	out := []time.Time{}
	for _, o := range list {
		out = append(out, o.due)
	}
	return out
}

// after are the due times that are pending once the filling is carried out.
func (s state) after(f engine.Filling) []time.Time {
	out := []time.Time{}
	for _, p := range s.kept(f) {
		out = append(out, p.DueAt)
	}
	for _, n := range f.Insert {
		out = append(out, n.DueAt)
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func (s state) kept(f engine.Filling) []store.PendingTask {
	return slices.DeleteFunc(slices.Clone(s.pending), func(p store.PendingTask) bool {
		return slices.ContainsFunc(f.Displace, func(d store.PendingTask) bool { return d.ID == p.ID })
	})
}

// accountsForAll checks that a cursor passes over nothing: every occurrence
// before it was inserted or missed, and only what is too old is missed.
func (s state) accountsForAll(t *rapid.T, f engine.Filling) {
	dealt := make(map[occurrence]int)
	for _, n := range f.Insert {
		dealt[occurrence{campaign: n.CampaignID, due: n.DueAt}]++
	}
	for _, m := range f.Missed {
		dealt[occurrence{campaign: m.CampaignID, due: m.DueAt}]++
	}
	for _, cursor := range f.Cursors {
		i := slices.IndexFunc(s.candidates, func(c engine.Candidate) bool { return c.Campaign.ID == cursor.CampaignID })
		c := s.candidates[i]
		for at := c.Next; !at.Equal(cursor.NextDueAt); at = c.Schedule.Next(at) {
			if dealt[occurrence{campaign: c.Campaign.ID, due: at}] != 1 {
				t.Fatalf("the cursor of campaign %d passed over %v", c.Campaign.ID, at)
			}
			delete(dealt, occurrence{campaign: c.Campaign.ID, due: at})
		}
		for _, m := range f.Missed {
			if m.CampaignID == c.Campaign.ID && !m.DueAt.Add(c.Campaign.CatchUpWindow).Before(s.now) {
				t.Fatalf("%v was missed inside its window", m.DueAt)
			}
		}
	}
	if len(dealt) > 0 {
		t.Fatalf("dealt with, and no cursor moved: %v", dealt)
	}
}

// next is the state after the filling is carried out, with the cursors of
// displaced campaigns set back as the planner does.
func (s state) next(f engine.Filling) ([]store.PendingTask, []engine.Candidate, int, time.Time) {
	pending := s.kept(f)
	for _, n := range f.Insert {
		pending = append(pending, store.PendingTask{ID: int64(100 + len(pending)), CampaignID: n.CampaignID, DueAt: n.DueAt})
	}
	slices.SortFunc(pending, func(a, b store.PendingTask) int { return a.DueAt.Compare(b.DueAt) })
	var candidates []engine.Candidate
	for _, c := range s.candidates {
		for _, cursor := range f.Cursors {
			if cursor.CampaignID == c.Campaign.ID {
				c.Next = cursor.NextDueAt
			}
		}
		for _, d := range f.Displace {
			if d.CampaignID == c.Campaign.ID && (c.Next.IsZero() || d.DueAt.Before(c.Next)) {
				c.Next = d.DueAt
			}
		}
		if !c.Next.IsZero() {
			candidates = append(candidates, c)
		}
	}
	return pending, candidates, s.limit, s.now
}

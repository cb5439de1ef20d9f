package engine

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A planned is the result of replan for one changed campaign.
type planned struct {
	campaign  *store.Campaign // nil: the campaign was deleted
	cursor    store.Cursor
	fresh     bool                // the campaign was never planned before
	quiet     strategy.QuietHours // of its app
	schedule  strategy.Schedule   // of the current version; zero: it was not needed
	unplanned []store.Decision    // occurrences decided without a task
	immediate *store.NewTask
	rejected  string // why the campaign cannot be pushed
}

// replan brings one changed campaign up to date. Occurrences of versions that
// were replaced, cancelled or deleted before the planner could make tasks of
// them are decided here, so that none is ever without a decision.
func (p *Planner) replan(c store.Change, problem string, quiet strategy.QuietHours, now time.Time) planned {
	out := planned{campaign: c.Campaign, quiet: quiet, cursor: store.Cursor{CampaignID: c.CampaignID}, fresh: c.Cursor == nil}
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

// standing returns the campaign's earliest occurrence without a task, zero
// where there is none. It returns false where the campaign was never planned,
// so that this is not known.
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

// follow plans the campaign's current version; problem is why it cannot be pushed.
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
		next = first(s) // the database moves the due time of an immediate push to when it could first be pushed
	case !next.IsZero() && c.StrategyType == 2: // the rules of the campaign's zone may have changed since next was worked out
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
	for ; !next.IsZero(); next = s.Next(next) {
		why := expired(c, out.quiet, next, now)
		if why == "" {
			break
		}
		if why != store.QuietReason {
			why = reason
		}
		out.unplanned = append(out.unplanned, decideUnplanned(c, next, "missed", why))
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

// apply brings changed campaigns up to date. It does not store the cursors of
// campaigns that were never planned before: most of these give the app's next
// tasks, and their cursors are stored with the tasks.
func (p *Planner) apply(ctx context.Context, tx *store.PlanTx, changes []store.Change, problems map[int64]string) (applied, error) {
	a := applied{quiet: quietOf(tx.Quiet), known: make(schedules, len(changes)), cursors: make(map[int64]store.Cursor)}
	var all findings
	for _, c := range changes {
		if c.CampaignID == 0 {
			continue
		}
		runtime.Gosched() // tasks that are due go first
		out := p.replan(c, problems[c.CampaignID], a.quiet, tx.Now)
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

// An applied is the result of apply, from which the app is filled.
type applied struct {
	quiet   strategy.QuietHours    // of the app
	known   schedules              // of campaigns that were planned before
	cursors map[int64]store.Cursor // not stored yet, of campaigns that were never planned
	fresh   []candidate            // those of these campaigns that may give a task
}

func (a *applied) addFresh(p *planned) {
	a.cursors[p.campaign.ID] = p.cursor
	if p.cursor.Active && !p.cursor.NextDueAt.IsZero() {
		a.fresh = append(a.fresh, candidate{campaign: p.campaign, quiet: a.quiet, schedule: p.schedule, next: p.cursor.NextDueAt})
	}
}

// reject marks the campaign as rejected and takes its tasks back. The tasks
// return when the author has fixed the campaign.
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

// findings collect the results of all changes of an app.
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
		if _, err := tx.Insert(ctx, f.immediate); err != nil {
			return err
		}
	}
	if len(f.cursors) == 0 {
		return nil
	}
	return tx.SaveCursors(ctx, f.cursors)
}

// A comparison compares an app's pending tasks with the tasks that should be pending.
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

// room returns how many tasks the app may have beside those that are pending.
func (c *comparison) room() int { return max(c.tx.Limit-len(c.pending), 0) }

// filling works out the difference, and locks the campaigns that it changes.
// Where authors hold some of them, it works the difference out again without
// those.
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
	rows, err := c.tx.FreeCandidates(ctx, c.before, c.most())
	if err != nil {
		return filling{}, err
	}
	return c.from(rows)
}

// plannedBefore returns the revisions of those of the cursors' campaigns that
// are not locked yet. The campaigns of changes are locked already, since a
// change is taken together with its campaign.
func (c *comparison) plannedBefore(cursors []store.Cursor) map[int64]int32 {
	out := make(map[int64]int32)
	for _, k := range cursors {
		if _, fresh := c.cursors[k.CampaignID]; !fresh {
			out[k.CampaignID] = k.Revision
		}
	}
	return out
}

// fewest is the least number of candidates that are looked at beyond the app's room.
const fewest = 8

// most returns the largest number of candidates that are looked at. It is larger
// than a small limit: where the earliest occurrences have left their windows,
// other campaigns may have the next ones.
func (c *comparison) most() int { return max(c.tx.Limit, 100) }

// few works out the filling from few candidates where these are enough. Most
// often a task or two have begun, and the next occurrences are later than all
// pending tasks.
func (c *comparison) few(ctx context.Context) (filling, error) {
	limit := min(c.room()+fewest, c.most())
	rows, err := c.tx.Candidates(ctx, c.before, limit)
	if err != nil {
		return filling{}, err
	}
	f, err := c.from(rows)
	if err != nil || len(rows) < limit || limit == c.most() || f.surely(c.pending, c.room(), rows[len(rows)-1].NextDueAt) {
		return f, err
	}
	if rows, err = c.tx.Candidates(ctx, c.before, c.most()); err != nil {
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
		candidates = append(candidates, candidate{campaign: &rows[i].Campaign, quiet: c.quiet, schedule: s, next: rows[i].NextDueAt})
	}
	return fill(c.pending, candidates, c.tx.Limit, c.tx.Now), nil
}

// carryOut writes a filling. It returns true where it made fewer tasks than the
// filling has, since some occurrences are decided already, for example skipped.
// Then there is room left.
func (c *comparison) carryOut(ctx context.Context, f *filling) (roomLeft bool, err error) {
	taken, err := c.displace(ctx, f)
	if err != nil {
		return false, err
	}
	if len(f.missed) > 0 {
		if err := c.tx.Decide(ctx, f.missed); err != nil {
			return false, err
		}
	}
	if err := c.saveCursors(ctx, f.advanced); err != nil {
		return false, err
	}
	if len(taken) > 0 { // after the cursors are stored: a campaign may both give and lose a task
		if err := c.tx.Rewind(ctx, taken); err != nil {
			return false, err
		}
	}
	f.place(c.pending, taken)
	if len(f.insert) == 0 {
		return false, nil
	}
	stored, err := c.tx.Insert(ctx, f.insert)
	return stored < len(f.insert), err
}

// displace takes back as many of the filling's tasks to displace as room is
// needed for. It drops the insertions for which there is still no room.
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

// saveCursors stores how far the fresh campaigns and the campaigns that gave a
// task are planned.
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

// A candidate is an active campaign with an occurrence for which there is no task yet.
type candidate struct {
	campaign *store.Campaign
	quiet    strategy.QuietHours // of its app
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
// window, or are skipped for quiet hours, and returns the candidates that have others.
func (f *filling) expire(candidates []candidate, now time.Time, moved map[int64]store.Cursor) byNext {
	var rest byNext
	for i := range candidates {
		c := &candidates[i]
		for !c.next.IsZero() {
			why := expired(c.campaign, c.quiet, c.next, now)
			if why == "" {
				break
			}
			f.missed = append(f.missed, decideUnplanned(c.campaign, c.next, "missed", why))
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

// surely says whether candidates that were not looked at cannot change the
// filling. All their occurrences are at seen or later. So they cannot where the
// room is used up and no task that will be pending is due after seen.
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

// windowReason returns the reason recorded for an occurrence that is older than
// its catch-up window.
func windowReason(c *store.Campaign) string {
	return "older than the catch-up window of " + c.CatchUpWindow.String()
}

// schedule works out a stored campaign's occurrences. The row was judged when
// it was written. So it is not refused because its author has shortened the
// catch-up window since.
func schedule(c *store.Campaign) (strategy.Schedule, error) {
	s, _, err := strategy.Parse(strategy.Spec{
		Type:          strategy.Type(c.StrategyType),
		Content:       c.StrategyContent,
		Zone:          c.TimeZone,
		ShortMonth:    strategy.ShortMonthPolicy(c.ShortMonthPolicy),
		DSTGap:        strategy.DSTGapPolicy(c.DSTGapPolicy),
		CatchUpWindow: strategy.MaxCatchUpWindow,
		Times:         c.Times,

		Calendar:       c.Calendar.Name,
		CalendarPolicy: strategy.CalendarPolicy(c.Calendar.Policy),
		Closed:         c.Calendar.Closed,
		Since:          c.Calendar.Since,

		WrittenAt: c.WrittenAt,
	})
	return s, err
}

// first returns a schedule's first occurrence; zero when there is none.
func first(s strategy.Schedule) time.Time { return s.Next(time.Time{}) }

// schedules hold by campaign the schedules that are worked out already. A zero
// Schedule counts as none.
type schedules map[int64]strategy.Schedule

// of returns the campaign's schedule.
func (k schedules) of(c *store.Campaign) (strategy.Schedule, error) {
	if s, ok := k[c.ID]; ok && !s.Last().IsZero() {
		return s, nil
	}
	return schedule(c)
}

//go:build linux

package chaos

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// An oracle compares the push API's journal with the record.
type oracle struct {
	report  *Report
	record  *record
	calls   []pushed
	dropped map[int64]map[string]bool
	clock   *clock // the database's clock, to compare with the journal's
}

// A pushed is a call of the journal with its occurrence.
type pushed struct {
	*sandbox.Call
	occurrence
	targets []string
}

// newOracle makes an oracle, and finds the occurrence of each call.
func newOracle(report *Report, rec *record, calls []sandbox.Call, dropped map[int64]map[string]bool, c *clock) *oracle {
	o := &oracle{report: report, record: rec, dropped: dropped, clock: c}
	for i := range calls {
		c := &calls[i]
		report.count("calls", 1)
		if c.Outcome == sandbox.Accepted {
			report.count("calls accepted", 1)
		}
		if p, ok := o.locate(c); ok {
			o.calls = append(o.calls, p)
		} else if c.Signature != "" {
			report.violate("every call belongs to a task", "call %d: keys %v, delivery %s", c.Seq, c.MsgKeys[:min(len(c.MsgKeys), 2)], c.DeliveryID)
		}
	}
	return o
}

// locate finds the occurrence by the keys of the call's messages, or, for APIs
// without such keys, by the delivery's id.
func (o *oracle) locate(c *sandbox.Call) (pushed, bool) {
	p := pushed{Call: c, targets: c.Targets}
	if len(c.MsgKeys) > 0 {
		occ, ok := parseKey(c.MsgKeys[0])
		p.occurrence = occ
		return p, ok
	}
	id, _, ok := strings.Cut(strings.TrimPrefix(c.DeliveryID, "t"), "-")
	task, err := strconv.ParseInt(id, 36, 64)
	if !ok || err != nil {
		return p, c.Outcome != sandbox.Accepted // a call that was refused before it was read needs no occurrence
	}
	p.occurrence, ok = o.record.byID[task]
	return p, ok
}

// parseKey reads a message key: c<campaign>i<installation>-<due>[-<target>], or
// the author's own key, which in these campaigns has no dash, the campaign with the
// installation and the due time.
func parseKey(key string) (occurrence, bool) {
	parts := strings.Split(key, "-")
	if len(parts) < 2 {
		return occurrence{}, false
	}
	if !strings.HasPrefix(key, "c") {
		parts = parts[1:]
	}
	if len(parts) < 2 {
		return occurrence{}, false
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(parts[0], "c"), "i")
	campaign, err1 := strconv.ParseInt(id, 10, 64)
	due, err2 := strconv.ParseInt(parts[1], 36, 64)
	return occurrence{campaign, due}, err1 == nil && err2 == nil
}

// judge checks every promise that a finished run can show.
func (o *oracle) judge(bans []*ban, hushes []*hush) {
	o.everyOccurrenceDecided()
	o.nothingTwice()
	o.acceptedIsRecorded()
	o.succeededWasAccepted()
	o.resentUntilCertain()
	o.neverEarly()
	o.nothingDecidedIsPushed()
	o.quotaHeld()
	o.rateHeld()
	o.quietHoursHeld(hushes)
	o.spreadHeld()
	o.lostWasUnderWay()
	o.decisionsAgree()
	byCampaign := make(map[int64][]pushed)
	for _, c := range o.calls {
		byCampaign[c.campaign] = append(byCampaign[c.campaign], c)
	}
	for _, b := range bans {
		o.nothingAfter(b, byCampaign[b.campaign])
	}
	o.lateness()
}

// everyOccurrenceDecided: each occurrence has a decision. It works the
// occurrences out again from each strategy that was ever valid. The record's
// key allows no second decision.
func (o *oracle) everyOccurrenceDecided() {
	if o.record.open > 0 {
		o.report.violate(decided, "%d tasks or campaigns are due and still open at the end", o.record.open)
	}
	expected := make(map[occurrence]bool)
	for i := range o.record.versions {
		v := &o.record.versions[i]
		dues, err := v.due(o.record.now.Add(-time.Second))
		if err != nil {
			o.report.violate("every strategy can be read again", "campaign %d: %v", v.campaign, err)
		}
		for _, due := range dues {
			occ := occurrence{v.campaign, due.UnixMicro()}
			expected[occ] = true
			if o.record.tasks[occ] == nil {
				o.report.violate(decided, "%v has no decision", occ)
			}
		}
	}
	o.report.count("occurrences", len(expected))
	for _, t := range o.record.tasks {
		o.report.count("decisions", 1)
		o.report.count("decided "+t.status, 1)
	}
}

// nothingTwice: no message is accepted twice, unless its author allowed it.
func (o *oracle) nothingTwice() {
	seen := make(map[string]*pushed)
	for i := range o.calls {
		c := &o.calls[i]
		if c.Outcome != sandbox.Accepted {
			continue
		}
		keys := c.MsgKeys
		if len(keys) == 0 {
			keys = []string{c.DeliveryID}
		}
		for _, key := range keys {
			o.report.count("messages accepted", 1)
			first := seen[key]
			switch {
			case first == nil:
				seen[key] = c
			case o.record.resend[c.campaign]:
				o.report.count("messages repeated by choice", 1)
			default:
				o.report.count("duplicates", 1)
				o.report.violate(twice, "%s of %v: calls %d and %d, recorded %s", key, c.occurrence, first.Seq, c.Seq, o.status(c.occurrence))
			}
		}
	}
	o.report.count("duplicates", 0)
}

func (o *oracle) status(occ occurrence) string {
	if t := o.record.tasks[occ]; t != nil {
		return t.status + " (" + t.reason + ")"
	}
	return "nowhere"
}

// acceptedIsRecorded: each accepted call is recorded as succeeded, or as
// unknown.
func (o *oracle) acceptedIsRecorded() {
	for _, c := range o.calls {
		if c.Outcome != sandbox.Accepted {
			continue
		}
		t := o.record.tasks[c.occurrence]
		if t == nil {
			o.report.violate(recorded, "call %d for %v, which has no decision", c.Seq, c.occurrence)
			continue
		}
		if s := t.statusOf(c.targets); s != "succeeded" && s != "accepted" && s != "unknown" {
			o.report.violate(recorded, "call %d for %v was accepted; recorded %s: %s", c.Seq, c.occurrence, s, t.reason)
		}
	}
}

// statusOf returns the recorded status of the delivery with these targets.
func (t *task) statusOf(targets []string) string {
	if len(t.slices) == 0 {
		return t.status
	}
	if len(targets) == 0 {
		return t.slices[0].status
	}
	if t.sliceOf == nil { // a large audience has hundreds of thousands
		t.sliceOf = make(map[string]int)
		for i, s := range slices.Backward(t.slices) { // the first delivery that names a target is the target's
			for _, name := range s.targets {
				t.sliceOf[name] = i
			}
			if len(s.targets) == 0 {
				t.unnamed = s.status
			}
		}
	}
	if i, ok := t.sliceOf[targets[0]]; ok {
		return t.slices[i].status
	}
	return cmp.Or(t.unnamed, t.status)
}

// decisionsAgree: a decision agrees with its stored deliveries. This shows a
// decision that a daemon wrote after others had ruled on its call, and an outcome
// that came after the decision.
func (o *oracle) decisionsAgree() {
	for occ, t := range o.record.tasks {
		if len(t.slices) == 0 {
			continue
		}
		n := make(map[string]int)
		for _, s := range t.slices {
			n[s.status]++
		}
		if open := n["waiting"] + n["held"] + n["running"]; open > 0 {
			o.report.violate(agrees, "%v is decided as %s, and %d of its deliveries are open", occ, o.status(occ), open)
			continue
		}
		o.report.count("decisions held against deliveries", 1)
		if want := ended(n, len(t.slices)); t.status != want || t.count != len(t.slices) || t.accepted != n["accepted"] {
			o.report.violate(agrees, "%v is decided as %s with %d of %d deliveries accepted; %d of %d are, which is %s",
				occ, o.status(occ), t.accepted, t.count, n["accepted"], len(t.slices), want)
		}
	}
}

// ended returns the decision of a task, by how many of its n deliveries ended in which
// way.
func ended(by map[string]int, n int) string {
	switch {
	case by["accepted"] == n:
		return "succeeded"
	case by["unknown"] > 0:
		return "unknown"
	case by["failed"]+by["accepted"] > 0:
		return "failed"
	case by["cancelled"] > 0:
		return "cancelled"
	}
	return "missed"
}

// succeededWasAccepted: each delivery that is recorded as accepted was accepted.
func (o *oracle) succeededWasAccepted() {
	accepted := make(map[occurrence]map[string]bool)
	for _, c := range o.calls {
		if c.Outcome != sandbox.Accepted {
			continue
		}
		if accepted[c.occurrence] == nil {
			accepted[c.occurrence] = make(map[string]bool)
		}
		for _, target := range c.targets {
			accepted[c.occurrence][target] = true
		}
	}
	for occ, t := range o.record.tasks {
		if t.status == "succeeded" && accepted[occ] == nil && t.reason != "empty audience" && !o.allDropped(occ, t) {
			o.report.violate("succeeded means accepted", "%v is recorded as succeeded and no call was accepted", occ)
			continue
		}
		for _, target := range t.acceptedTargets() {
			if !accepted[occ][target] && !o.dropped[occ.campaign][target] {
				o.report.violate("succeeded means accepted", "%v: target %s is recorded as sent and was not", occ, target)
			}
		}
	}
}

func (o *oracle) allDropped(occ occurrence, t *task) bool {
	targets := t.acceptedTargets()
	return len(targets) > 0 && !slices.ContainsFunc(targets, func(name string) bool { return !o.dropped[occ.campaign][name] })
}

func (t *task) acceptedTargets() []string {
	if len(t.slices) == 0 {
		if t.status == "succeeded" {
			return t.targets
		}
		return nil
	}
	var out []string
	for _, s := range t.slices {
		if s.status == "accepted" {
			out = append(out, s.targets...)
		}
	}
	return out
}

// lastWait is how long before the end of its window a push may be given up: a
// little more than the longest pause between two tries.
const lastWait = 5 * time.Second

// resentUntilCertain: where the author chose so, no push stays unknown while it
// could still be made again.
func (o *oracle) resentUntilCertain() {
	if o.clock.jumped() {
		o.report.cannotJudge(certain, "a window's end cannot be told from a clock that jumps")
		return
	}
	for occ, t := range o.record.tasks {
		window, ok := o.record.windows[occ.campaign]
		final := strings.Contains(t.reason, "an earlier attempt may have been taken") || // the last attempt was refused
			strings.Contains(t.reason, "overdue when the hold was released") // an operator ended it
		if ok && t.status == "unknown" && !final && t.decided.Before(time.UnixMicro(occ.due).Add(window-lastWait)) {
			o.report.violate(certain, "%v: recorded %s %s before its window's end",
				occ, o.status(occ), time.UnixMicro(occ.due).Add(window).Sub(t.decided))
		}
	}
}

// quietHoursHeld: no call of an app begins while the app certainly has quiet hours.
// They end by the database's clock, which must not have jumped.
func (o *oracle) quietHoursHeld(hushes []*hush) {
	if o.clock.jumped() {
		return
	}
	for _, h := range hushes {
		if h.until.Sub(h.at) <= hushSlack {
			continue
		}
		o.report.count("quiet hours that were watched", 1)
		for _, c := range o.calls {
			if c.AppID == h.app && c.ReceivedAt.After(h.at.Add(hushSlack)) && c.ReceivedAt.Before(h.until) {
				o.report.violate(hushed, "call %d of app %s for %v arrived %s after they were there, %s before their end; recorded %s",
					c.Seq, h.app, c.occurrence, c.ReceivedAt.Sub(h.at), h.until.Sub(c.ReceivedAt), o.status(c.occurrence))
			}
		}
	}
}

// neverEarly: no call arrives before its occurrence.
func (o *oracle) neverEarly() {
	for _, c := range o.calls {
		_, ahead := o.clock.ahead(c.ReceivedAt)
		arrived := c.ReceivedAt.Add(ahead)
		if due := time.UnixMicro(c.due); arrived.Before(due.Add(-10 * time.Millisecond)) {
			o.report.violate(early, "call %d for %v arrived %s early", c.Seq, c.occurrence, due.Sub(arrived))
		}
	}
}

// nothingDecidedIsPushed: no call arrives after its delivery was decided. A
// daemon that does not know that others count it as dead would make such calls.
func (o *oracle) nothingDecidedIsPushed() {
	if o.clock.jumped() {
		o.report.cannotJudge(afterDecision, "which came first cannot be told from a clock that jumps")
		return
	}
	for _, c := range o.calls {
		t := o.record.tasks[c.occurrence]
		if t == nil || o.report.excused(c.ReceivedAt) {
			continue
		}
		ahead, _ := o.clock.ahead(c.ReceivedAt)
		if late := c.ReceivedAt.Add(ahead).Sub(t.decided); late > 10*time.Millisecond {
			o.report.violate(afterDecision, "call %d for %v arrived %s after the decision: %s", c.Seq, c.occurrence, late, o.status(c.occurrence))
		}
	}
}

// quotaHeld: no app makes more label sends than its quota allows. A run is
// shorter than the quota's week.
func (o *oracle) quotaHeld() {
	sent := make(map[string]int)
	for _, c := range o.calls {
		if c.Outcome == sandbox.Accepted && c.API == "alipay.label_send" {
			sent[c.AppID]++
		}
	}
	for _, a := range apps {
		if a.labelQuota > 0 {
			o.report.count("quota used of "+strconv.Itoa(a.labelQuota), sent[a.id])
			if sent[a.id] > a.labelQuota {
				o.report.violate(quota, "app %s: %d label sends, allowed %d", a.id, sent[a.id], a.labelQuota)
			}
		}
	}
}

// rateSpan is the time in which calls are counted. Twice as many as the bound
// allows are accepted: two daemons may serve the app in turn, and calls of a
// daemon that was frozen begin together.
const rateSpan = 2 * time.Second

// rateHeld: no app gets more calls or targets a second than its daemons'
// configuration allows.
func (o *oracle) rateHeld() {
	calls := make(map[string][]pushed)
	for _, c := range o.calls {
		if !o.report.excused(c.ReceivedAt) {
			calls[c.AppID] = append(calls[c.AppID], c)
		}
	}
	for _, a := range apps {
		slices.SortFunc(calls[a.id], func(x, y pushed) int { return x.ReceivedAt.Compare(y.ReceivedAt) })
		o.rateOf(a.id, "calls", a.perSecond, calls[a.id], func(pushed) int { return 1 })
		o.rateOf(a.id, "targets", a.targetsPerSecond, calls[a.id], func(c pushed) int { return max(len(c.targets), 1) })
	}
}

// rateOf: within rateSpan, the calls of an app have no more of a counted size than
// its bound allows. calls are in the order of their arrival.
func (o *oracle) rateOf(app, what string, perSecond int, calls []pushed, size func(pushed) int) {
	if perSecond == 0 {
		return
	}
	sum, first, most, largest := 0, 0, 0, 0
	for _, c := range calls {
		for ; c.ReceivedAt.Sub(calls[first].ReceivedAt) >= rateSpan; first++ {
			sum -= size(calls[first])
		}
		sum += size(c)
		most, largest = max(most, sum), max(largest, size(c))
	}
	// There are two daemons while one takes over. Each may begin a tenth of a second's
	// calls at once, and a call pays for its targets afterwards.
	allowed := 2 * (perSecond*int(rateSpan/time.Second) + max(largest, perSecond/10, 1))
	if what == "targets" {
		allowed += 2 * largest
	}
	o.report.count(what+" of "+app+" in 2 s, at most", most)
	if most > allowed {
		o.report.violate(rated, "app %s: %d %s within %s, the bound is %d a second", app, most, what, rateSpan, perSecond)
	}
}

// spreadHeld: no delivery of a spread task begins before its part of the spread
// has passed. It looks at campaigns whose spread and window did not change.
func (o *oracle) spreadHeld() {
	o.report.count("deliveries that were spread", o.record.spread)
	for _, e := range o.record.early {
		o.report.violate(spread, "%s", e)
	}
}

// lostClaims is by how many times the deliveries begun at once may exceed an
// app's max_in_flight where answers to claims are lost.
const lostClaims = 3

// lostWasUnderWay: few of the deliveries that became unknown in one statement,
// since their daemons died, have never arrived.
func (o *oracle) lostWasUnderWay() {
	type sent struct {
		occurrence
		target string
	}
	arrived := make(map[sent]bool)
	for _, c := range o.calls {
		for _, target := range c.targets {
			arrived[sent{c.occurrence, target}] = true
		}
	}
	type ruling struct{ transaction, app string }
	never := make(map[ruling]int)
	for occ, t := range o.record.tasks {
		for _, s := range t.slices {
			if s.status == "unknown" && s.lost && len(s.targets) > 0 && !arrived[sent{occ, s.targets[0]}] {
				never[ruling{s.transaction, o.record.appOf[occ.campaign]}]++
			}
		}
	}
	for r, n := range never {
		o.report.count("lost deliveries that never arrived", n)
		if allowed := (lostClaims + 1) * appOf(r.app).inFlight; r.app != "" && n > allowed {
			o.report.violate(lost, "app %s: %d deliveries became unknown at once that never arrived, max_in_flight %d", r.app, n, appOf(r.app).inFlight)
		}
	}
}

// nothingAfter: after a change has committed, no call that it forbids arrives,
// except calls of deliveries that had begun and had not arrived yet.
// nothingDecidedIsPushed judges deliveries that were decided before the change
// because their daemon was lost.
func (o *oracle) nothingAfter(b *ban, calls []pushed) {
	arrived := make(map[string]int)
	for _, c := range calls {
		began := b.hadBegun(c)
		ahead, _ := o.clock.ahead(c.ReceivedAt)
		switch {
		case !c.ReceivedAt.After(b.at):
			if c.ReceivedAt.Add(ahead).After(began.since) && !o.clock.jumped() {
				arrived[c.name()]++
			}
		case !b.until.IsZero() && !c.ReceivedAt.Before(b.until), !b.forbids(c):
		case o.decidedBefore(c.occurrence, b.at):
		case arrived[c.name()] < began.calls:
			arrived[c.name()]++
			o.report.count("calls under way at a change", 1)
		default:
			o.report.violate(afterChange, "%v: call %d (%s, %s) for %v arrived %s later; recorded %s",
				b, c.Seq, c.Outcome, c.TaskName, c.occurrence, c.ReceivedAt.Sub(b.at), o.status(c.occurrence))
		}
	}
}

// name returns a text that differs between the deliveries of a campaign.
func (c *pushed) name() string {
	name := strconv.FormatInt(c.due, 10)
	if len(c.targets) > 0 {
		name += c.targets[0]
	}
	return name
}

func (b *ban) forbids(c pushed) bool {
	switch {
	case b.targets != nil:
		return slices.ContainsFunc(c.targets, func(t string) bool { return slices.Contains(b.targets, t) })
	case b.revision > 0 && c.TaskName == "":
		return false // this push API's calls do not have the name
	case b.revision > 0:
		_, rev, _ := strings.Cut(c.TaskName, ".r")
		n, _ := strconv.Atoi(rev)
		return n < b.revision
	default:
		return true
	}
}

// decidedBefore says whether an occurrence was decided before a moment.
func (o *oracle) decidedBefore(occ occurrence, at time.Time) bool {
	t := o.record.tasks[occ]
	_, ahead := o.clock.ahead(at)
	return t != nil && t.decided.Before(at.Add(ahead))
}

// hadBegun returns the call's delivery if it had begun when the change
// committed, else the zero value.
func (b *ban) hadBegun(c pushed) begun {
	i := slices.IndexFunc(b.begun, func(x begun) bool {
		return x.due.UnixMicro() == c.due && (x.targets == nil || len(c.targets) == 0 || slices.Contains(x.targets, c.targets[0]))
	})
	if i < 0 {
		return begun{}
	}
	return b.begun[i]
}

// lateness notes how late the pushes were, including those delayed by faults.
func (o *oracle) lateness() {
	var late []time.Duration
	for occ, t := range o.record.tasks {
		if t.status == "succeeded" && t.sent != nil {
			late = append(late, t.sent.Sub(time.UnixMicro(occ.due)))
		}
	}
	if len(late) == 0 {
		return
	}
	slices.Sort(late)
	at := func(q float64) time.Duration { return late[int(q*float64(len(late)-1))].Round(time.Millisecond) }
	o.report.note("lateness of what succeeded: p50 %s, p90 %s, p99 %s, max %s", at(0.5), at(0.9), at(0.99), at(1))
}

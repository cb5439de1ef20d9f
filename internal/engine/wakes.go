package engine

import "time"

// wakes says who wakes whom: the parts of an engine tell it what has happened, and
// it wakes those that have something to do then. A wake never blocks and is only a
// hint. Each service also looks by itself, so a lost wake costs a second or, where
// the text says so, a sweep. The parts are found when a wake is called, which is
// never before the engine has started.
type wakes struct{ e *Engine }

// beat is the pulse's first wake, some 200 ms after each second: the lease is
// renewed, and claims whose answer was lost are looked for.
func (w wakes) beat() {
	w.e.lease.Wake() // wakes deliveries and settler when there is something for them to do
	w.e.lost.Wake()
}

// prepare is the pulse's second wake, 300 ms later, for services that look ahead
// or clear up.
func (w wakes) prepare() {
	w.e.dispatcher.Wake()
	w.e.planner.Wake()
	w.e.finisher.Wake()
	w.e.revoker.Wake()
	w.e.rejudge.Wake()
	w.e.zoneRules.Wake()
	w.e.cache.age(compiledAge)
}

// everything is for the start, a reload and a new connection of the listener: much
// may have changed.
func (w wakes) everything() {
	w.beat()
	w.e.deliveries.Wake()
	w.e.settler.Wake()
	w.prepare()
}

// draining is for a stop, once a second: the lease has to last while outcomes are
// recorded.
func (w wakes) draining() {
	w.e.lease.Wake()
	w.e.recorder.Wake()
	w.e.deliveries.writer.Wake()
}

// campaignsChanged is a notification from authors' statements.
func (w wakes) campaignsChanged() {
	w.e.planner.Wake()
	w.e.settler.Wake()
}

// tasksReady is a notification from a planner, this daemon's or another's: tasks are
// due within the horizon.
func (w wakes) tasksReady() { w.e.dispatcher.Wake() }

// campaignsToPlan is for whoever wrote that campaigns are to be judged or planned
// again: the dispatcher, the compile cache, the rejudge and the zone rules.
func (w wakes) campaignsToPlan() { w.e.planner.Wake() }

// rejectedTouched is for the planner: something happened to a rejected campaign, so
// that its request may be good now. The rejudge looks with the next beat.
func (w wakes) rejectedTouched(campaign int64) { w.e.rejudge.rejected(campaign) }

// tasksBegun is for the dispatcher: the apps have room, which the planner fills in
// time for occurrences that are due by then. Without the hint, the planner's sweep
// finds the room.
func (w wakes) tasksBegun(by time.Time, apps ...int32) { w.e.planner.Hint(by, apps...) }

// deliveriesStored is for the dispatcher and the settler: a task's deliveries were
// stored, or are ready at another time.
func (w wakes) deliveriesStored() { w.e.deliveries.Wake() }

// deliveriesFound is for the lease: the heartbeat or the reaper saw deliveries that
// may be ready, or tasks that may be complete.
func (w wakes) deliveriesFound() {
	w.e.deliveries.Wake()
	w.e.settler.Wake()
}

// deliveriesEnded is for the deliveries: these tasks may be complete. The settler's
// sweep finds those that were not named.
func (w wakes) deliveriesEnded(tasks ...int64) { w.e.settler.hint(tasks...) }

// tasksDecided is for the recorder, the dispatcher and the settler: these campaigns
// may be finished. The finisher looks with the next beat; its sweep finds the rest.
func (w wakes) tasksDecided(campaigns []int64) { w.e.finisher.hint(campaigns) }

// shareChanged is for the lease: it was taken, or daemons came or went, so that other
// apps are this daemon's to begin. Both did nothing while there was no lease.
func (w wakes) shareChanged() {
	w.e.dispatcher.Wake()
	w.e.deliveries.Wake()
}

// paceChanged is for the lease: an app has another ceiling of targets per second. What
// was read ahead waits for the old one, and may be another daemon's to begin.
func (w wakes) paceChanged() {
	w.e.dispatcher.reloaded.Store(true)
	w.e.dispatcher.Wake()
	w.e.deliveries.reload()
}

// daemonsGone is for the lease: daemons died that had begun tasks. The planner's
// next pass counts the room that this left.
func (w wakes) daemonsGone() { w.e.planner.Recount() }

// leaseLost is for the lease, when it is lost or a hold began: tasks and
// deliveries that were read ahead are forgotten, and read again later.
func (w wakes) leaseLost() {
	w.e.dispatcher.due.clear()
	w.e.deliveries.queue.clear()
}

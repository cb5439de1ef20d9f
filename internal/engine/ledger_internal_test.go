package engine

import (
	"fmt"
	"testing"

	"github.com/campaign-scheduler/scheduler/store"
)

// The ledger holds no names of a large audience, and as many of its deliveries as of
// any other task's: what it takes does not grow with the audience.
func TestLedgerKeepsNoAudience(t *testing.T) {
	t.Parallel()
	const beats, each = 10, 1000
	names := make([]string, maxTargets)
	for i := range names {
		names[i] = fmt.Sprintf("user-%d", i)
	}
	l := newLedger()
	for beat := range beats {
		outcomes := make([]store.DeliveryOutcome, each)
		for i := range outcomes {
			outcomes[i].Delivery = store.Delivery{ID: int64(beat*each + i), Attempts: 1, Targets: names}
		}
		l.note(l.open(), func(p *page) { p.keepOutcomes(outcomes) })
		l.turn(int64(beat + 1))
		if len(outcomes[0].Delivery.Targets) != maxTargets {
			t.Fatal("the outcomes themselves have lost their names")
		}
	}
	c := l.copy()
	if c.since != 0 || len(c.outcomes) != beats*each {
		t.Errorf("%d of %d outcomes are held, since heartbeat %d", len(c.outcomes), beats*each, c.since)
	}
	for _, o := range c.outcomes {
		if len(o.Delivery.Targets) > 0 {
			t.Fatalf("%d names of a delivery are held", len(o.Delivery.Targets))
		}
	}
}

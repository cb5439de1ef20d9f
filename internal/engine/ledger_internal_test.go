package engine

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// An outcome comes out of the ledger with everything that it was recorded with, but
// for the names of its targets. The outcomes of a task share what is alike.
func TestLedgerKeepsOutcomesWhole(t *testing.T) {
	t.Parallel()
	var o store.DeliveryOutcome
	n := 0
	fillFields(reflect.ValueOf(&o).Elem(), &n)
	next := o
	next.Delivery.ID, next.Delivery.SliceNo, next.RequestID, next.MessageID = 100, 101, "next", "one"
	refused := o
	refused.Delivery.ID, refused.Status = 102, "failed"
	all := []store.DeliveryOutcome{o, next, refused, refused}
	p := &page{}
	p.keepOutcomes(all[:1])
	p.keepOutcomes(all[1:])
	for i := range all {
		all[i].Delivery.Targets = nil
		if diff := cmp.Diff(all[i], p.outcomes[i].outcome()); diff != "" {
			t.Errorf("outcome %d (-want +got):\n%s", i, diff)
		}
	}
	if p.outcomes[0].alike != p.outcomes[1].alike || p.outcomes[2].alike != p.outcomes[3].alike {
		t.Error("outcomes that are alike share nothing")
	}
}

// fillFields gives every field of a struct a value of its own.
func fillFields(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
		return
	case []string:
		v.Set(reflect.ValueOf([]string{"target"}))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range v.Fields() {
			fillFields(f, n)
		}
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetInt(int64(*n))
	}
}

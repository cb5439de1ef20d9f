package sandbox

import (
	"sync"
	"sync/atomic"
	"time"
)

// chaos draws the faults of calls. The nth call to arrive meets the same fate
// in every run with the same seed and faults.
type chaos struct {
	mu     sync.RWMutex
	faults []*Fault
	seed   uint64
	drawn  atomic.Uint64
}

func (x *chaos) set(faults []*Fault, seed *uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range faults {
		f.left.Store(f.Times)
	}
	x.faults = faults
	if seed != nil {
		x.seed = *seed
		x.drawn.Store(0)
	}
}

func (x *chaos) get() ([]*Fault, uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.faults, x.seed
}

// A fate is what was drawn for one call, before it is known which faults have
// it in scope.
type fate struct {
	faults      []*Fault
	kind, delay float64 // uniform in [0, 1)
}

func (x *chaos) draw() fate {
	faults, seed := x.get()
	if len(faults) == 0 {
		return fate{}
	}
	n := x.drawn.Add(1)
	return fate{faults, uniform(seed + 2*n), uniform(seed + 2*n + 1)}
}

// fault returns the fault of a call, or nil. The faults in scope share the
// unit interval, in their order.
func (t fate) fault(c *call) *Fault {
	at := 0.0
	for _, f := range t.faults {
		if f.Kind == Delay || !f.covers(c) || (f.Times > 0 && f.left.Load() <= 0) {
			continue
		}
		if at += f.Probability; t.kind < at {
			if f.spend() {
				return f
			}
			return nil
		}
	}
	return nil
}

// pause returns how long a call is held back.
func (t fate) pause(c *call) time.Duration {
	for _, f := range t.faults {
		if f.Kind == Delay && f.covers(c) && t.delay < f.Probability && f.spend() {
			return time.Duration(f.Delay)
		}
	}
	return 0
}

// uniform maps a counter to [0, 1) by the finaliser of splitmix64 (Steele,
// Lea and Flood, 2014), which needs no state between calls.
func uniform(n uint64) float64 {
	n *= 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	n ^= n >> 31
	return float64(n>>11) / (1 << 53)
}

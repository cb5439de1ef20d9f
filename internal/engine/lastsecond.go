package engine

import (
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A lastSecond counts the calls that began within the last second, and their targets.
// It counts by bins of 6.25 ms: a second's, one more for calls that are longer on their
// way than others, and that of now.
type lastSecond struct {
	zero   time.Time // when bin 0 began
	newest int64     // the number of the bin of now
	bins   []amount  // bin n is at n modulo their number; nil: nothing was counted yet
	sum    amount
}

const (
	binLength = time.Second / 160
	binCount  = int64(dispatch.SecondOfBounds / binLength)
)

// An amount is a number of calls and of their targets.
type amount struct{ calls, targets int32 }

func (a *amount) add(calls, targets int) {
	a.calls += int32(calls)
	a.targets += int32(targets)
}

// add counts a call.
func (s *lastSecond) add(now time.Time, targets int) {
	s.turn(now)
	s.bins[s.newest%binCount].add(1, targets)
	s.sum.add(1, targets)
}

// turn drops the bins that count no more.
func (s *lastSecond) turn(now time.Time) {
	if s.bins == nil {
		s.zero, s.bins = now, make([]amount, binCount)
	}
	n := int64(now.Sub(s.zero) / binLength)
	if n >= s.newest+binCount {
		clear(s.bins)
		s.newest, s.sum = n, amount{}
	}
	for s.newest < n {
		s.newest++
		s.drop(&s.sum, s.newest)
		s.bins[s.newest%binCount] = amount{}
	}
}

// drop takes from sum what counts no more when bin n is the newest.
func (s *lastSecond) drop(sum *amount, n int64) (dropped bool) {
	over := s.bins[n%binCount]
	sum.add(-int(over.calls), -int(over.targets))
	return over.calls > 0
}

// when returns the first moment from now on at which what counts then satisfies fits,
// if nothing else begins; at the latest, when nothing counts any more.
func (s *lastSecond) when(now time.Time, fits func(amount) bool) time.Time {
	s.turn(now)
	sum, n := s.sum, s.newest
	if fits(sum) {
		return now
	}
	for n++; n < s.newest+binCount; n++ {
		if s.drop(&sum, n) && fits(sum) {
			break
		}
	}
	return s.zero.Add(time.Duration(n) * binLength)
}

// pace is how many calls would have begun within a second, had it gone on as it has
// since the app's last pause ended: an audience may have begun just now. What begins
// within a tenth of a second may begin together, and is no pace.
func (s *lastSecond) pace(now, resumed time.Time) float64 {
	s.turn(now)
	first, n, calls := now, s.newest, int32(0)
	for ; n >= 0 && n > s.newest-binCount && !s.zero.Add(time.Duration(n+1)*binLength).Before(resumed); n-- {
		if here := s.bins[n%binCount].calls; here > 0 {
			first, calls = s.zero.Add(time.Duration(n)*binLength), calls+here
		}
	}
	return max(float64(s.sum.calls), float64(calls)/max(now.Sub(first), time.Second/10).Seconds())
}

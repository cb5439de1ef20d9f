//go:build unix

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A sample is one figure per round.
type sample []float64

func (s sample) sorted() sample { return slices.Sorted(slices.Values(s)) }

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	v := s.sorted()
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// over is the ratio of two samples, taken round by round.
func (s sample) over(t sample) sample {
	out := make(sample, 0, len(s))
	for i := range min(len(s), len(t)) {
		out = append(out, s[i]/t[i])
	}
	return out
}

// A unit writes a figure.
type unit func(float64) string

func perSecond(v float64) string { return thousands(v) + "/s" }

func millis(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func micros(v float64) string { return fmt.Sprintf("%.1f µs", v) }

func nanos(v float64) string { return fmt.Sprintf("%.0f ns", v) }

func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v) }

func percent(v float64) string { return fmt.Sprintf("%.2f %%", v) }

func times(v float64) string { return fmt.Sprintf("%.2f ×", v) }

func plain(v float64) string { return fmt.Sprintf("%.1f", v) }

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (s sample) text(u unit) string {
	switch v := s.sorted(); len(v) {
	case 0:
		return "–"
	case 1:
		return u(v[0])
	default:
		return fmt.Sprintf("%s (%s–%s)", u(s.median()), trim(u(v[0])), trim(u(v[len(v)-1])))
	}
}

// trim leaves the number of a figure.
func trim(s string) string {
	number, _, _ := strings.Cut(s, " ")
	return strings.TrimSuffix(number, "/s")
}

// A goal is a bound on a row's ratio, or on its figure where it has no ratio.
type goal struct {
	atLeast bool
	bound   float64
}

func atLeast(v float64) goal { return goal{true, v} }

func atMost(v float64) goal { return goal{false, v} }

func (g goal) met(v float64) bool {
	if g.atLeast {
		return v >= g.bound
	}
	return v <= g.bound
}

// A row is one line of the table.
type row struct {
	what    string
	goal    *goal
	ratio   sample // empty: the goal is about ours
	ours    sample
	unit    unit
	against string // whose figure it is held against
	theirs  sample
}

type table []row

func (t *table) add(r row) { *t = append(*t, r) }

// compare adds a row whose ratio is ours over theirs.
func (t *table) compare(what string, g *goal, u unit, ours sample, against string, theirs sample) {
	t.add(row{what: what, goal: g, ratio: ours.over(theirs), ours: ours, unit: u, against: against, theirs: theirs})
}

// hold adds a row whose goal is about the figure itself.
func (t *table) hold(what string, g *goal, u unit, ours sample) {
	t.add(row{what: what, goal: g, ours: ours, unit: u})
}

func (t table) markdown() string {
	var b strings.Builder
	b.WriteString("| ratio | goal | | what | ours | against |\n|---:|---:|:-:|---|---:|---:|\n")
	for _, r := range t {
		against := ""
		if r.against != "" {
			against = r.against + ": " + r.theirs.text(r.unit)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.ratioText(), r.goalText(), r.verdict(), r.what, r.ours.text(r.unit), against)
	}
	return b.String()
}

func (r row) ratioText() string {
	if len(r.ratio) == 0 {
		return ""
	}
	return r.ratio.text(times)
}

func (r row) goalText() string {
	if r.goal == nil {
		return ""
	}
	sign := "≤ "
	if r.goal.atLeast {
		sign = "≥ "
	}
	if len(r.ratio) == 0 {
		return sign + r.unit(r.goal.bound)
	}
	return sign + times(r.goal.bound)
}

func (r row) verdict() string {
	v := r.ratio
	if len(v) == 0 {
		v = r.ours
	}
	switch {
	case r.goal == nil:
		return ""
	case r.goal.met(v.median()):
		return "met"
	default:
		return "**short**"
	}
}

// quantile returns the q-th part of the durations, which it sorts.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[max(int(math.Ceil(q*float64(len(d))))-1, 0)]
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

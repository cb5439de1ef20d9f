// Package picture draws the console's pictures as SVG and lists, from values
// handed in. Each has its numbers as text beside it, so that nothing is told by
// colour or shape alone. It has no styles of its own but classes.
package picture

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// A Mark is one outcome in a strip.
type Mark struct{ Status, Label, Link string }

// A Column is one hour of lateness.
type Column struct {
	Label         string
	P50, P95, P99 time.Duration
}

// The size of a picture of columns, in its own units. The legend stands above them.
const (
	columnWidth  = 14
	columnHeight = 120
	legend       = 22
	footer       = 18
)

// Lateness draws a column an hour with the bands of its percentiles, on a
// logarithmic scale from 1 ms to the largest value.
func Lateness(title, desc string, columns []Column) template.HTML {
	top := time.Second
	for _, c := range columns {
		top = max(top, c.P99)
	}
	var b strings.Builder
	width := max(len(columns)*columnWidth+60, 210)
	open(&b, title, desc, width, legend+columnHeight+footer)
	for i, name := range []string{"p50", "p95", "p99"} {
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="1" width="10" height="10"/><text x="%d" y="10">%s</text>`, name, 56+i*50, 70+i*50, name)
	}
	const floor = legend + columnHeight
	for _, line := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute, 10 * time.Minute} {
		if line > top {
			break
		}
		y := floor - height(line, top)
		fmt.Fprintf(&b, `<line class="axis" x1="52" x2="%d" y1="%d" y2="%d" stroke-dasharray="2 4"/><text x="0" y="%d">%s</text>`, width, y, y, y+4, line)
	}
	for i, c := range columns {
		x := 56 + i*columnWidth
		for _, band := range []struct {
			class string
			value time.Duration
		}{{"p99", c.P99}, {"p95", c.P95}, {"p50", c.P50}} {
			h := height(band.value, top)
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d"/>`, band.class, x, floor-h, columnWidth-3, h)
		}
		if i%6 == 0 {
			fmt.Fprintf(&b, `<text x="%d" y="%d">%s</text>`, x, floor+footer-4, template.HTMLEscapeString(c.Label))
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // every text is escaped
}

// height is how high a value stands where top stands at the full height.
func height(value, top time.Duration) int {
	least := float64(time.Millisecond)
	v := math.Max(float64(value), least)
	return 2 + int(math.Log10(v/least)/math.Log10(float64(top)/least)*(columnHeight-4))
}

// The size of a bar, in its own units.
const (
	barWidth = 160
	barHigh  = 12
)

// Meter draws how much of a limit is used, and a limit that is reached in another
// colour.
func Meter(title string, used, limit int64) template.HTML {
	class := "bar"
	if used >= limit {
		class = "over"
	}
	return bar(title, class, used, limit)
}

// Share draws how many of all there are.
func Share(title string, n, all int64) template.HTML { return bar(title, "bar", n, all) }

func bar(title, class string, n, all int64) template.HTML {
	share := 0.0
	if all > 0 {
		share = math.Min(float64(n)/float64(all), 1)
	}
	var b strings.Builder
	open(&b, title, fmt.Sprintf("%d / %d", n, all), barWidth, barHigh)
	fmt.Fprintf(&b, `<rect class="track" width="%d" height="%d"/><rect class="%s" width="%d" height="%d"/></svg>`, barWidth, barHigh, class, int(share*barWidth), barHigh)
	return template.HTML(b.String()) //nolint:gosec // every text is escaped
}

// Week draws the calls of the seven days before now as marks on a line, the oldest,
// which stops counting next, on the left.
func Week(title, desc string, now time.Time, calls []time.Time) template.HTML {
	const days, mark = 7, 3
	from := now.AddDate(0, 0, -days)
	var b strings.Builder
	open(&b, title, desc, barWidth, barHigh)
	fmt.Fprintf(&b, `<rect class="track" width="%d" height="%d"/>`, barWidth, barHigh)
	for day := 1; day < days; day++ {
		fmt.Fprintf(&b, `<line class="axis" x1="%[1]d" x2="%[1]d" y1="%[2]d" y2="%[3]d"/>`, day*barWidth/days, barHigh-3, barHigh)
	}
	for _, at := range calls {
		if share := at.Sub(from).Hours() / (24 * days); share >= 0 && share <= 1 {
			fmt.Fprintf(&b, `<rect class="bar" x="%d" width="%d" height="%d"/>`, int(share*(barWidth-mark)), mark, barHigh)
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // every text is escaped
}

func open(b *strings.Builder, title, desc string, width, height int) {
	fmt.Fprintf(b, `<svg role="img" width="%d" height="%d" viewBox="0 0 %d %d"><title>%s</title><desc>%s</desc>`,
		width, height, width, height, template.HTMLEscapeString(title), template.HTMLEscapeString(desc))
}

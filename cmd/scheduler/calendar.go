package main

import (
	"fmt"
	"strings"
	"time"
)

// A calendar draws months with some of their days marked.
type calendar struct {
	marked map[time.Time]bool // by midnight UTC of the date
	first  time.Time          // the first of the first month, UTC
	months int
}

// monthsInRow is the number of months that fit into 80 columns.
const monthsInRow = 3

// newCalendar returns a calendar in which the dates of the given local times, in
// ascending order, are marked. It returns nil when there are no times. The calendar
// starts with the month of the first time and has at most seven months, the longest
// span of a loop.
func newCalendar(times []time.Time) *calendar {
	if len(times) == 0 {
		return nil
	}
	c := &calendar{marked: make(map[time.Time]bool)}
	for _, t := range times {
		c.marked[dateOf(t)] = true
	}
	first, last := times[0], times[len(times)-1]
	c.first = time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC)
	c.months = min(7, 1+(last.Year()-first.Year())*12+int(last.Month())-int(first.Month()))
	return c
}

// dateOf returns midnight UTC of the date that a time has in its own zone.
func dateOf(t time.Time) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// String draws the calendar without colour.
func (c *calendar) String() string { return c.draw(func(text string) string { return text }) }

// draw draws the calendar; mark adds the colour of a marked day.
func (c *calendar) draw(mark func(string) string) string {
	var b strings.Builder
	for n := 0; n < c.months; n += monthsInRow {
		var row [][]string
		for m := n; m < min(n+monthsInRow, c.months); m++ {
			row = append(row, c.month(c.first.AddDate(0, m, 0), mark))
		}
		if n > 0 {
			b.WriteString("\n")
		}
		b.WriteString(beside(row))
	}
	return b.String()
}

// monthWidth is seven days of two digits, a mark and no space between.
const monthWidth = 7 * 3

// month returns the lines of one month: its name, the weekdays and six weeks. The
// lines are padded here, since later the codes of colours would count as width.
func (c *calendar) month(first time.Time, mark func(string) string) []string {
	title := first.Format("January 2006")
	left := (monthWidth - 1 - len(title)) / 2
	lines := []string{fmt.Sprintf("%-*s", monthWidth, strings.Repeat(" ", left)+title), "Mo Tu We Th Fr Sa Su "}
	day := first.AddDate(0, 0, -(int(first.Weekday())+6)%7)
	for range 6 {
		var week strings.Builder
		for range 7 {
			week.WriteString(c.cell(day, first.Month(), mark))
			day = day.AddDate(0, 0, 1)
		}
		lines = append(lines, week.String())
	}
	return lines
}

func (c *calendar) cell(day time.Time, month time.Month, mark func(string) string) string {
	switch {
	case day.Month() != month:
		return "   "
	case c.marked[day]:
		return mark(fmt.Sprintf("%2d*", day.Day()))
	}
	return fmt.Sprintf("%2d ", day.Day())
}

// beside writes months next to each other. Weeks that all of the months lack are left
// out.
func beside(months [][]string) string {
	var b strings.Builder
	for line := range months[0] {
		var text strings.Builder
		for _, m := range months {
			text.WriteString(m[line] + "   ")
		}
		if shown := strings.TrimRight(text.String(), " "); shown != "" {
			b.WriteString(shown + "\n")
		}
	}
	return b.String()
}

package ics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/ics"
)

// file is a calendar of events, each of lines.
func file(events ...string) []byte {
	var b strings.Builder
	b.WriteString("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test\r\n")
	for i, e := range events {
		fmt.Fprintf(&b, "BEGIN:VEVENT\r\nUID:%d\r\nDTSTAMP:20260101T000000Z\r\n%s\r\nEND:VEVENT\r\n", i, strings.ReplaceAll(e, "\n", "\r\n"))
	}
	b.WriteString("END:VCALENDAR\r\n")
	return []byte(b.String())
}

func read(t *testing.T, text []byte, o ics.Options) string {
	t.Helper()
	o.Until = time.Date(2028, 12, 31, 0, 0, 0, 0, time.UTC)
	r, err := ics.Read(text, o)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, d := range r.Days {
		fmt.Fprintf(&b, "%s %v %s\n", d.Date.Format(time.DateOnly), d.Open, d.Word)
	}
	if r.Timed+r.Cancelled > 0 {
		fmt.Fprintf(&b, "timed %d, cancelled %d\n", r.Timed, r.Cancelled)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		text   []byte
		option ics.Options
		want   string
	}{
		{"a day", file("DTSTART;VALUE=DATE:20270101\nSUMMARY:元旦"), ics.Options{}, "2027-01-01 false 元旦\n"},
		{"the end is not a day", file("DTSTART;VALUE=DATE:20271001\nDTEND;VALUE=DATE:20271004\nSUMMARY:国庆节"), ics.Options{}, "2027-10-01 false 国庆节\n2027-10-02 false 国庆节\n2027-10-03 false 国庆节\n"},
		{"a duration", file("DTSTART;VALUE=DATE:20271001\nDURATION:P2D"), ics.Options{}, "2027-10-01 false \n2027-10-02 false \n"},
		{"an end on the first day", file("DTSTART;VALUE=DATE:20271001\nDTEND;VALUE=DATE:20271001"), ics.Options{}, "2027-10-01 false \n"},
		{"make-up workdays", file("DTSTART;VALUE=DATE:20271009\nSUMMARY:补班"), ics.Options{Open: true}, "2027-10-09 true 补班\n"},
		{"both in one file", file("DTSTART;VALUE=DATE:20271009\nSUMMARY:国庆节（班）", "DTSTART;VALUE=DATE:20271001\nSUMMARY:国庆节（休）"), ics.Options{OpenIf: "班"}, "2027-10-01 false 国庆节（休）\n2027-10-09 true 国庆节（班）\n"},
		{"escapes and folded lines", file("DTSTART;VALUE=DATE:20270101\nSUMMARY;LANGUAGE=en:New Year\\, the\n  first\\ntwo"), ics.Options{}, "2027-01-01 false New Year, the first two\n"},
		{"two on a day", file("DTSTART;VALUE=DATE:20270101\nSUMMARY:a", "DTSTART;VALUE=DATE:20270101\nSUMMARY:b", "DTSTART;VALUE=DATE:20270101\nSUMMARY:a"), ics.Options{}, "2027-01-01 false a, b\n"},
		{"yearly", file("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nSUMMARY:x"), ics.Options{}, "2026-12-25 false x\n2027-12-25 false x\n2028-12-25 false x\n"},
		{"the last Monday of May, without one", file("DTSTART;VALUE=DATE:20260525\nRRULE:FREQ=YEARLY;BYMONTH=5;BYDAY=-1MO\nEXDATE;VALUE=DATE:20270531"), ics.Options{}, "2026-05-25 false \n2028-05-29 false \n"},
		{"more dates", file("DTSTART;VALUE=DATE:20270101\nRDATE;VALUE=DATE:20270105,20270107"), ics.Options{}, "2027-01-01 false \n2027-01-05 false \n2027-01-07 false \n"},
		{"left out", file("DTSTART:20270101T090000Z\nSUMMARY:a meeting", "DTSTART;VALUE=DATE:20270102\nSTATUS:CANCELLED"), ics.Options{}, "timed 1, cancelled 1\n"},
		{"no events", file(), ics.Options{}, ""},
		{
			"a recurrence that moved",
			[]byte(strings.ReplaceAll(string(file("DTSTART;VALUE=DATE:20271225\nRRULE:FREQ=YEARLY;COUNT=2", "DTSTART;VALUE=DATE:20281224\nRECURRENCE-ID;VALUE=DATE:20281225")), "UID:1", "UID:0")),
			ics.Options{},
			"2027-12-25 false \n2028-12-24 false \n",
		},

		{"both open and closed", file("DTSTART;VALUE=DATE:20270101\nSUMMARY:休", "DTSTART;VALUE=DATE:20270101\nSUMMARY:班"), ics.Options{OpenIf: "班"}, `event 2 ("班"): 2027-01-01 is both open and closed`},
		{"hourly", file("DTSTART;VALUE=DATE:20270101\nRRULE:FREQ=HOURLY"), ics.Options{}, `event 1 (""): RRULE must recur daily or more seldom`},
		{"a rule that is none", file("DTSTART;VALUE=DATE:20270101\nRRULE:FREQ=SOMETIMES"), ics.Options{}, `event 1 (""): ical: error parsing rrule: undefined frequency: SOMETIMES`},
		{"daily for ever", file("DTSTART;VALUE=DATE:19700101\nRRULE:FREQ=DAILY"), ics.Options{}, `event 1 (""): RRULE recurs more than 5000 times`},
		{"a long one", file("DTSTART;VALUE=DATE:20270101\nDTEND;VALUE=DATE:20290101"), ics.Options{}, `event 1 (""): it has 731 days, at most 366 are read`},
		{"no start", file("SUMMARY:x"), ics.Options{}, `event 1 ("x"): it has no DTSTART`},
		{"an end that is a time", file("DTSTART;VALUE=DATE:20270101\nDTEND:20270102T000000Z"), ics.Options{}, `event 1 (""): DTEND must be a date, as DTSTART is`},
		{"half a day", file("DTSTART;VALUE=DATE:20270101\nDURATION:PT12H"), ics.Options{}, `event 1 (""): DURATION must be whole days`},
		{"no calendar", []byte("hello"), ics.Options{}, "the file is no iCalendar: ical: malformed content line: missing colon"},
		{"nothing", nil, ics.Options{}, "the file is no iCalendar: EOF"},
		{"a line that stops", []byte("BEGIN:VCALENDAR\r\nX;A=b"), ics.Options{}, "the file is no iCalendar: a line has no end"},
		{"another encoding", []byte("BEGIN:VCALENDAR\r\nX:\xff"), ics.Options{}, "the file is not UTF-8"},
		{"a long line", []byte("BEGIN:VCALENDAR\r\nX:" + strings.Repeat("x", 17<<10)), ics.Options{}, "the file has a line longer than 16384 bytes"},
		{"a long folded line", []byte("BEGIN:VCALENDAR\r\nX:" + strings.Repeat("x\r\n ", 5<<10)), ics.Options{}, "the file has a line longer than 16384 bytes"},
		{"a long file", make([]byte, ics.MaxBytes+1), ics.Options{}, "the file is longer than 1048576 bytes"},
		{"many events", file(make([]string, 5001)...), ics.Options{}, "the file has 5001 events, at most 5000 are read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, read(t, c.text, c.option)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A word is cut to what a calendar keeps, between two characters.
func TestALongWordIsCut(t *testing.T) {
	t.Parallel()
	r, err := ics.Read(file("DTSTART;VALUE=DATE:20270101\nSUMMARY:"+strings.Repeat("节", 100)), ics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if word := r.Days[0].Word; len(word) > 200 || !strings.HasSuffix(word, "节…") {
		t.Errorf("%d bytes: %s", len(word), word)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nSUMMARY:x"))
	f.Add([]byte("BEGIN:VCALENDAR\r\nX;A=b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ics.Read(text, ics.Options{Until: time.Date(2028, 12, 31, 0, 0, 0, 0, time.UTC)})
		if err == nil && len(r.Days) > 5000 {
			t.Errorf("%d days", len(r.Days))
		}
	})
}

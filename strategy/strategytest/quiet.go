package strategytest

import (
	"time"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// A QuietCase is an instant and the quiet hours that it is held against, in package
// strategy and in SQL alike.
type QuietCase struct {
	Name        string
	From, Until string // times of day
	Zone        string
	At          string        // RFC 3339
	End         string        // of the quiet hours that At lies in; empty: it lies in none
	Window      time.Duration // of an occurrence that is due then
	WindowFrom  string        // where its window counts from
}

// QuietCases is the table of cases.
var QuietCases = []QuietCase{
	{Name: "before", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T12:00:00+08:00", Window: time.Hour, WindowFrom: "2026-11-29T12:00:00+08:00"},
	{Name: "the last second before", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T21:59:59.999999+08:00", Window: time.Microsecond, WindowFrom: "2026-11-29T21:59:59.999999+08:00"},
	{Name: "the first second", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T22:00:00+08:00", End: "2026-11-30T08:00:00+08:00", Window: time.Hour, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "midnight", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-30T00:00:00+08:00", End: "2026-11-30T08:00:00+08:00", Window: time.Hour, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "the last second", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-30T07:59:59.999999+08:00", End: "2026-11-30T08:00:00+08:00", Window: time.Minute, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "the end", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-30T08:00:00+08:00", Window: time.Hour, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "a window that meets them", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T21:50:00+08:00", Window: time.Hour, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "a window that ends as they begin", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T21:00:00+08:00", Window: time.Hour, WindowFrom: "2026-11-29T21:00:00+08:00"},
	{Name: "a window of days: the first night counts", From: "22:00", Until: "08:00", Zone: "Asia/Shanghai", At: "2026-11-29T21:00:00+08:00", Window: 72 * time.Hour, WindowFrom: "2026-11-30T08:00:00+08:00"},
	{Name: "within a day", From: "12:00", Until: "14:00", Zone: "UTC", At: "2026-11-29T13:00:00Z", End: "2026-11-29T14:00:00Z", Window: time.Hour, WindowFrom: "2026-11-29T14:00:00Z"},
	{Name: "all but a second", From: "08:00:01", Until: "08:00:00", Zone: "UTC", At: "2026-11-29T08:00:01Z", End: "2026-11-30T08:00:00Z", Window: time.Hour, WindowFrom: "2026-11-30T08:00:00Z"},
	{Name: "the second that is left", From: "08:00:01", Until: "08:00:00", Zone: "UTC", At: "2026-11-29T08:00:00.5Z", Window: 500 * time.Millisecond, WindowFrom: "2026-11-29T08:00:00.5Z"},
	{Name: "from midnight", From: "00:00", Until: "06:00", Zone: "Asia/Shanghai", At: "2026-11-29T23:59:59+08:00", Window: time.Second, WindowFrom: "2026-11-29T23:59:59+08:00"},
	{Name: "until midnight", From: "20:00", Until: "00:00", Zone: "Asia/Shanghai", At: "2026-11-29T23:59:59+08:00", End: "2026-11-30T00:00:00+08:00", Window: time.Second, WindowFrom: "2026-11-30T00:00:00+08:00"},
	// In New York the clocks went forward at 02:00 on 8 March 2026, and back at 02:00
	// on 1 November.
	{Name: "a shorter night", From: "22:00", Until: "08:00", Zone: "America/New_York", At: "2026-03-07T22:00:00-05:00", End: "2026-03-08T08:00:00-04:00", Window: time.Hour, WindowFrom: "2026-03-08T08:00:00-04:00"},
	{Name: "a longer night", From: "22:00", Until: "08:00", Zone: "America/New_York", At: "2026-10-31T22:00:00-04:00", End: "2026-11-01T08:00:00-05:00", Window: time.Hour, WindowFrom: "2026-11-01T08:00:00-05:00"},
	{Name: "an end in the gap is later by it", From: "22:00", Until: "02:30", Zone: "America/New_York", At: "2026-03-08T03:15:00-04:00", End: "2026-03-08T03:30:00-04:00", Window: time.Hour, WindowFrom: "2026-03-08T03:30:00-04:00"},
	{Name: "a start in the gap is later by it", From: "02:30", Until: "05:00", Zone: "America/New_York", At: "2026-03-08T03:15:00-04:00", Window: 15 * time.Minute, WindowFrom: "2026-03-08T03:15:00-04:00"},
	{Name: "none that day: the gap moves the start behind the end", From: "02:30", Until: "03:15", Zone: "America/New_York", At: "2026-03-08T03:10:00-04:00", Window: time.Hour, WindowFrom: "2026-03-08T03:10:00-04:00"},
	{Name: "an end that occurs twice: the first", From: "22:00", Until: "01:30", Zone: "America/New_York", At: "2026-11-01T01:45:00-04:00", Window: time.Hour, WindowFrom: "2026-11-01T01:45:00-04:00"},
	{Name: "before an end that occurs twice", From: "22:00", Until: "01:30", Zone: "America/New_York", At: "2026-11-01T01:29:59-04:00", End: "2026-11-01T01:30:00-04:00", Window: time.Hour, WindowFrom: "2026-11-01T01:30:00-04:00"},
	{Name: "a start that occurs twice: the first", From: "01:30", Until: "05:00", Zone: "America/New_York", At: "2026-11-01T01:30:00-04:00", End: "2026-11-01T05:00:00-05:00", Window: time.Hour, WindowFrom: "2026-11-01T05:00:00-05:00"},
	{Name: "the second time around is still within", From: "01:30", Until: "05:00", Zone: "America/New_York", At: "2026-11-01T01:15:00-05:00", End: "2026-11-01T05:00:00-05:00", Window: time.Hour, WindowFrom: "2026-11-01T05:00:00-05:00"},
	{Name: "one day's begin before the last have ended", From: "03:15", Until: "02:30", Zone: "America/New_York", At: "2026-03-08T01:00:00-05:00", End: "2026-03-09T02:30:00-04:00", Window: time.Hour, WindowFrom: "2026-03-09T02:30:00-04:00"},
	// Samoa had no 30 December 2011.
	{Name: "a day that is missing", From: "22:00", Until: "08:00", Zone: "Pacific/Apia", At: "2011-12-29T23:00:00-10:00", End: "2011-12-31T08:00:00+14:00", Window: time.Hour, WindowFrom: "2011-12-31T08:00:00+14:00"},
	{Name: "a half hour's change", From: "01:45", Until: "06:00", Zone: "Australia/Lord_Howe", At: "2026-10-04T02:15:00+10:30", End: "2026-10-04T06:00:00+11:00", Window: time.Minute, WindowFrom: "2026-10-04T06:00:00+11:00"},
}

// Hours are the case's quiet hours.
func (c QuietCase) Hours() strategy.QuietHours {
	return strategy.NewQuietHours(clockOf(c.From), clockOf(c.Until), c.Zone)
}

// clockOf is a time of day since midnight; the table's are good.
func clockOf(text string) time.Duration {
	if len(text) == len("15:04") {
		text += ":00"
	}
	at, err := time.Parse(time.TimeOnly, text)
	if err != nil {
		panic(err)
	}
	return at.Sub(at.Truncate(24 * time.Hour))
}

// Moment reads an instant of a case; empty is the zero time.
func Moment(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return at
}

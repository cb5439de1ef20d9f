package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCalendar(t *testing.T) {
	t.Parallel()
	shanghai := time.FixedZone("", 8*3600)
	var days []time.Time
	for day := time.Date(2026, 11, 26, 3, 0, 0, 0, shanghai); day.Before(time.Date(2027, 2, 2, 0, 0, 0, 0, shanghai)); day = day.AddDate(0, 0, 7) {
		days = append(days, day)
	}
	days = append(days, time.Date(2027, 2, 1, 23, 59, 59, 0, shanghai))
	want := `   November 2026           December 2026            January 2027
Mo Tu We Th Fr Sa Su    Mo Tu We Th Fr Sa Su    Mo Tu We Th Fr Sa Su
                   1        1  2  3* 4  5  6                 1  2  3
 2  3  4  5  6  7  8     7  8  9 10*11 12 13     4  5  6  7* 8  9 10
 9 10 11 12 13 14 15    14 15 16 17*18 19 20    11 12 13 14*15 16 17
16 17 18 19 20 21 22    21 22 23 24*25 26 27    18 19 20 21*22 23 24
23 24 25 26*27 28 29    28 29 30 31*            25 26 27 28*29 30 31
30

   February 2027
Mo Tu We Th Fr Sa Su
 1* 2  3  4  5  6  7
 8  9 10 11 12 13 14
15 16 17 18 19 20 21
22 23 24 25 26 27 28
`
	if diff := cmp.Diff(want, newCalendar(days).String()); diff != "" {
		t.Error(diff)
	}
	if newCalendar(nil) != nil {
		t.Error("a calendar without days is drawn")
	}
}

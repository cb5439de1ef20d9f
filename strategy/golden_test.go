package strategy_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

var update = flag.Bool("update", false, "write the want files in testdata anew")

func TestCases(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, c := range strategytest.Cases(t, "testdata") {
		if _, ok := got[c.Name]; ok {
			t.Errorf("there are two cases %s", c.Name)
		}
		got[c.Name] = outcome(t, c.Spec)
		if *update {
			continue
		}
		if diff := cmp.Diff(c.Want, got[c.Name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, diff)
		}
	}
	if *update {
		rewrite(t, got)
	}
}

// outcome writes everything a Spec comes to: the judgement, the schedule in
// words and its occurrences in the campaign's zone.
func outcome(t *testing.T, spec strategy.Spec) string {
	t.Helper()
	schedule, warnings, err := strategy.Parse(spec)
	text := strategytest.Judgement(warnings, problemsOf(t, err))
	if err != nil {
		return text
	}
	zone, err := time.LoadLocation(spec.Zone)
	if err != nil {
		t.Fatal(err)
	}
	return text + schedule.Describe() + "\n" + occurrences(schedule, zone)
}

// occurrences lists the first and the last few, and in between those with a note.
func occurrences(s strategy.Schedule, zone *time.Location) string {
	const shown = 3
	all := walk(s)
	var b strings.Builder
	for i, at := range all {
		note := s.Note(at)
		if i == shown && len(all) > 2*shown {
			fmt.Fprintf(&b, "... %d more\n", len(all)-2*shown)
		}
		if i >= shown && i < len(all)-shown && note == "" {
			continue
		}
		line := at.In(zone).Format("Mon 2006-01-02 15:04:05.999999 -07:00") + " " + note
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// walk returns all occurrences of a schedule.
func walk(s strategy.Schedule) []time.Time {
	var all []time.Time
	for at := s.Next(time.Time{}); !at.IsZero(); at = s.Next(at) {
		all = append(all, at)
	}
	return all
}

func problemsOf(t rapid.TB, err error) strategy.Problems {
	t.Helper()
	if err == nil {
		return nil
	}
	problems, ok := err.(strategy.Problems) //nolint:errorlint // Parse promises this very type
	if !ok {
		t.Fatalf("Parse returned %T: %v", err, err)
	}
	return problems
}

func rewrite(t *testing.T, got map[string]string) {
	t.Helper()
	themes, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range themes {
		theme, ok := strings.CutSuffix(entry.Name(), ".txtar")
		if !ok {
			continue
		}
		archive, err := txtar.ParseFile("testdata/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for i, file := range archive.Files {
			if name, ok := strings.CutSuffix(file.Name, "/want"); ok {
				archive.Files[i].Data = []byte(got[theme+"/"+name])
			}
		}
		if err := os.WriteFile("testdata/"+entry.Name(), txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

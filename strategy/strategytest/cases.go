// Package strategytest holds what the tests of package strategy and those of its
// twin in SQL share: the table of cases and a source of random Specs.
package strategytest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/campaign-scheduler/scheduler/strategy"
)

// A Case is one entry of the table of cases in strategy/testdata/*.txtar. There
// it is two files, NAME/spec and NAME/want.
type Case struct {
	Name string
	Spec strategy.Spec
	// TextOnly marks content that means something else once it is jsonb, for
	// example because a key stands there twice.
	TextOnly bool
	// Want is the judgement as Judgement writes it, followed in package
	// strategy's own tests by the occurrences.
	Want string
}

// Cases reads the table of cases in a folder.
func Cases(t testing.TB, dir string) []Case {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	var cases []Case
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		theme := strings.TrimSuffix(filepath.Base(file), ".txtar")
		for i := 0; i+1 < len(archive.Files); i += 2 {
			c, err := parseCase(archive.Files[i], archive.Files[i+1])
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			c.Name = theme + "/" + c.Name
			cases = append(cases, c)
		}
	}
	return cases
}

func parseCase(spec, want txtar.File) (Case, error) {
	name, ok := strings.CutSuffix(spec.Name, "/spec")
	if !ok || want.Name != name+"/want" {
		return Case{}, fmt.Errorf("want %s/spec and then %s/want, have %s and %s", name, name, spec.Name, want.Name)
	}
	c := Case{Name: name, Spec: Defaults(), Want: string(want.Data)}
	for line := range strings.Lines(string(spec.Data)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		if err := c.set(key, value); err != nil {
			return Case{}, fmt.Errorf("%s: %q: %w", name, line, err)
		}
	}
	return c, nil
}

// Defaults is the Spec that a case's lines change: a loop written on Sunday
// 2026-11-22 at 10:00 in Shanghai.
func Defaults() strategy.Spec {
	return strategy.Spec{
		Type: strategy.Loop, Zone: "Asia/Shanghai",
		ShortMonth: strategy.ShortMonthSkip, DSTGap: strategy.DSTGapShift,
		CatchUpWindow: time.Hour,
		WrittenAt:     time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC),
	}
}

func (c *Case) set(key, value string) (err error) {
	switch key {
	case "type":
		_, err = fmt.Sscan(value, &c.Spec.Type)
	case "content":
		c.Spec.Content = []byte(value)
	case "zone":
		c.Spec.Zone = value
	case "short_month":
		c.Spec.ShortMonth = strategy.ShortMonthPolicy(value)
	case "dst_gap":
		c.Spec.DSTGap = strategy.DSTGapPolicy(value)
	case "catch_up":
		c.Spec.CatchUpWindow, err = time.ParseDuration(value)
	case "written":
		c.Spec.WrittenAt, err = time.Parse(time.RFC3339, value)
	case "times":
		c.Spec.Times = strings.Split(value, ",")
	case "calendar":
		c.Spec.Calendar = value
	case "calendar_policy":
		c.Spec.CalendarPolicy = strategy.CalendarPolicy(value)
	case "closed":
		c.Spec.Closed, err = parseInstants(value)
	case "since":
		c.Spec.Since, err = time.Parse(time.RFC3339, value)
	case "text_only":
		c.TextOnly = true
	default:
		err = fmt.Errorf("unknown line")
	}
	return err
}

func parseInstants(list string) (out []time.Time, err error) {
	for text := range strings.SplitSeq(list, ",") {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, err
		}
		out = append(out, at)
	}
	return out, nil
}

// Judgement writes warnings and problems as the table of cases has them.
func Judgement(warnings []strategy.Warning, problems []strategy.Problem) string {
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning %s: %s\n", w.Field, w.Message)
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "problem %s: %s\n", p.Field, p.Message)
		if p.Value != "" {
			fmt.Fprintf(&b, "  value %s\n", p.Value)
		}
		fmt.Fprintf(&b, "  hint %s\n", p.Hint)
	}
	return b.String()
}

package strategy_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// FuzzParse feeds raw text to every type of strategy.
func FuzzParse(f *testing.F) {
	for _, c := range strategytest.Cases(f, "testdata") {
		f.Add(int(c.Spec.Type), string(c.Spec.Content), c.Spec.Zone)
	}
	f.Fuzz(func(t *testing.T, kind int, content, zone string) {
		s := strategytest.Defaults()
		s.Type, s.Content, s.Zone = strategy.Type(kind), []byte(content), zone
		checkSound(t, s)
	})
}

func TestParseOfAnythingIsSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkSound(t, strategytest.Any(t)) })
}

// checkSound holds Parse to what it promises of any Spec at all.
func checkSound(t rapid.TB, s strategy.Spec) {
	t.Helper()
	schedule, warnings, err := strategy.Parse(s)
	for _, w := range warnings {
		if w.Field == "" || w.Message == "" {
			t.Errorf("an empty warning: %+v", w)
		}
	}
	if problems := problemsOf(t, err); err != nil {
		if len(problems) == 0 {
			t.Error("an error without problems")
		}
		for _, p := range problems {
			if p.Field == "" || p.Message == "" || p.Hint == "" || utf8.RuneCountInString(p.Value) > 83 {
				t.Errorf("a problem that does not help: %#v", p)
			}
		}
		if all := walk(schedule); len(all) != 0 {
			t.Errorf("refused, and yet has occurrences: %v", all)
		}
		return
	}
	if len(s.Content) > 0 && !json.Valid(s.Content) {
		t.Errorf("accepted content that is no JSON: %q", s.Content)
	}
	all := walk(schedule)
	if len(all) == 0 || len(all) > (strategy.MaxDays+1)*max(1, len(s.Times)) {
		t.Errorf("accepted with %d occurrences: %s", len(all), s.Content)
	}
	if s.Type == strategy.Loop && all[0].Before(s.WrittenAt) {
		t.Errorf("an occurrence at %s, before %s", all[0], s.WrittenAt)
	}
}

package words

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// english finds words of sentences that were left in English; names of keys,
// columns, values and zones are none.
var english = regexp.MustCompile(`\b(must|is|write|from|every|with|the|without|on|and|moved|at)\b`)

// Every problem, warning, schedule and note of the strategy's own cases has a
// Chinese text, which keeps the values.
func TestTheStrategysSentencesAreTranslated(t *testing.T) {
	t.Parallel()
	zh, en := For("zh", ""), For("en", "")
	seen := map[string]int{}
	check := func(kind, text, got, same string) {
		t.Helper()
		seen[kind]++
		if same != text {
			t.Errorf("in English %q becomes %q", text, same)
		}
		if !regexp.MustCompile(`\p{Han}`).MatchString(got) {
			t.Errorf("no Chinese for %s %q", kind, text)
		}
	}
	for _, c := range strategytest.Cases(t, "../../../strategy/testdata") {
		schedule, warnings, err := strategy.Parse(c.Spec)
		for _, p := range judge.OfStrategy(err) {
			check("problem", p.Message, zh.Judged(p.Message), en.Judged(p.Message))
		}
		if found, ok := errors.AsType[strategy.Problems](err); ok {
			for _, p := range found {
				if got := zh.Judged(p.Message); english.MatchString(got) {
					t.Errorf("the rule %q is half English: %q", p.Message, got)
				}
				if got, ok := said(mends, p.Hint); p.Hint != "" && !ok {
					t.Errorf("no Chinese for the mend %q: %q", p.Hint, got)
				}
				whole := judge.OfStrategy(strategy.Problems{p})[0].Message
				if got := zh.Judged(whole); p.Value != "" && !strings.Contains(got, "现为 "+p.Value) {
					t.Errorf("%q lost its value: %q", whole, got)
				}
			}
		}
		for _, w := range warnings {
			check("warning", w.Message, zh.Judged(w.Message), en.Judged(w.Message))
		}
		if err != nil {
			continue
		}
		words := schedule.Describe()
		check("schedule", words, zh.Schedule(words), en.Schedule(words))
		if got := zh.Schedule(words); english.MatchString(got) {
			t.Errorf("the schedule %q is half English: %q", words, got)
		}
		at := schedule.Next(c.Spec.WrittenAt.Add(-time.Hour))
		for range 40 {
			if note := schedule.Note(at); note != "" {
				check("note", note, zh.Note(note), en.Note(note))
				if got := zh.Note(note); english.MatchString(got) {
					t.Errorf("the note %q is half English: %q", note, got)
				}
			}
			at = schedule.Next(at)
		}
	}
	for kind, least := range map[string]int{"problem": 50, "warning": 3, "schedule": 20, "note": 3} {
		if seen[kind] < least {
			t.Errorf("only %d sentences of the kind %s were tried", seen[kind], kind)
		}
	}
}

// A value may look like the end of the sentence, and a text of a push API stays.
func TestSentencesWithOddValues(t *testing.T) {
	t.Parallel()
	zh := For("zh", "")
	for text, want := range map[string]string{
		`must not be empty; it is "; it is 1; keep one"; keep one`:         `不能为空；现为 "; it is 1; keep one"；请只保留一个`,
		"must not be empty; it is []":                                      "不能为空；现为 []",
		"miss: the catch-up window closed":                                 "记为错过：补推窗口已关闭",
		"nobody has this rule":                                             "nobody has this rule",
		`must be start, update or end, not "a or b"`:                       `必须是 start、update 或 end，不能是 "a or b"`,
		"must be an object, not a list":                                    "必须是对象，不能是列表",
		"holds a target that has 1025 bytes, and at most 1024 are allowed": "其中一个目标有 1025 字节，最多允许 1024 字节",
		"is required: filter.template names ${a}":                          "必填：filter.template 用到了 a",
		`must be "text", not "a; b"`:                                       `必须是 "text"，不能是 "a; b"`,
		"":                                                                 "",
		// Taking it apart would take days.
		`must be an interval such as '1 hour', not "` + strings.Repeat("; ", 500_000) + `"`: `must be an interval such as '1 hour', not "` + strings.Repeat("; ", 500_000) + `"`,
		"every Monday, Tuesday and Sunday at 10:00:00 (UTC), on 2026-01-05 only":            "每周一、周二和周日 10:00:00（UTC），仅 2026-01-05",
	} {
		got := zh.Judged(text)
		if strings.HasPrefix(text, "every") {
			got = zh.Schedule(text)
		}
		if got != want {
			t.Errorf("%.200q: %.200q, want %.200q", text, got, want)
		}
	}
}

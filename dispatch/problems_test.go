package dispatch_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// However many problems a request has and whatever it quotes, what is said of
// them is short, and says how many were left out.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	var p dispatch.Problems
	huge := strings.Repeat("名", 1<<20)
	raw := []byte(huge)
	for range 20000 {
		p.Add(huge, "is %q: %s, %s", huge, raw, huge)
	}
	list := p.List()
	if p.Len() != 20000 || len(list) != dispatch.MaxProblems+1 {
		t.Fatalf("%d problems, %d told", p.Len(), len(list))
	}
	if last := list[len(list)-1]; last.Text != "… and 19,980 more problems" {
		t.Errorf("the last says %+v", last)
	}
	for _, l := range list {
		if len(l.Field) > 128 || len(l.Text) > 400 || !utf8.ValidString(l.Field) || !utf8.ValidString(l.Text) {
			t.Errorf("field of %d bytes, text of %d", len(l.Field), len(l.Text))
		}
	}
	var few dispatch.Problems
	few.Add("f", "has %d", 1)
	if got := few.List(); len(got) != 1 || got[0] != (dispatch.Problem{Field: "f", Text: "has 1"}) {
		t.Errorf("got %+v", got)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		s     string
		limit int
		want  string
	}{{"abc", 3, "abc"}, {"abcdef", 5, "ab…"}, {"名名名", 8, "名…"}, {"abc", 0, "…"}, {"", 0, ""}} {
		if got := dispatch.Clip(tt.s, tt.limit); got != tt.want {
			t.Errorf("%q to %d: %q, want %q", tt.s, tt.limit, got, tt.want)
		}
	}
}

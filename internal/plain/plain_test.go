package plain_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/plain"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, text, line string }{
		{"spring 春 sale", "spring 春 sale", "spring 春 sale"},
		{"x\x1b[31m\nforged", "x�[31m\nforged", "x�[31m forged"},
		{"tried:\n\tone", "tried:\n�one", "tried: one"},
		{"a\tb\rc\x00d\x7f\u0085", "a�b�c�d��", "a�b�c�d��"},
		{"left\u202eright\u2066", "left�right�", "left�right�"},
		{"one\u2028two", "one�two", "one�two"},
	} {
		if got := plain.Text(c.in); got != c.text {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.text)
		}
		if got := plain.Line(c.in); got != c.line {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.line)
		}
	}
}

func TestCell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "plain": "plain", "a=b": "a=b", "7": "7",
		"=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\t=1": "'\t=1", "\r=1": "'\r=1",
	} {
		if got := plain.Cell(in); got != want {
			t.Errorf("Cell(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	if got, want := plain.JSON("{\"a\":\"x\u009b31m\u202e\x7f 春\"}\n"), "{\"a\":\"x\\u009b31m\\u202e\\u007f 春\"}\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

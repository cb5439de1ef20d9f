package main

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/strategy"
)

func TestParseInterval(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1h30m":               90 * time.Minute,
		"90s":                 90 * time.Second,
		"1 hour":              time.Hour,
		"01:30:00":            90 * time.Minute,
		"2 days 01:00:05":     49*time.Hour + 5*time.Second,
		"1 week 1 min 10 sec": 7*24*time.Hour + 70*time.Second,
		"-1h":                 -time.Hour, // the window's own rule refuses it
		"0":                   0,
		"32767 weeks 1 hour":  strategy.MaxCatchUpWindow + 1,
	} {
		if got, err := judge.Interval(text); err != nil || got != want {
			t.Errorf("%q: %s %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "1", "1 month", "hour 1", "1:30", "a:b:c", "1 hour 5", "-1 hours", "99999 hours"} {
		if got, err := judge.Interval(text); err == nil {
			t.Errorf("%q: %s, want an error", text, got)
		}
	}
}

// An error of several lines stays readable; what commands a terminal is replaced.
func TestComplaint(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	p := &program{stderr: &said}
	p.complain("connect: failed:\n\thost one: refused\n\thost \x1b[31mtwo: refused")
	if want := "scheduler: connect: failed:\n  host one: refused\n  host �[31mtwo: refused\n"; said.String() != want {
		t.Errorf("got %q, want %q", said.String(), want)
	}
}

func TestRelative(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0:                          "now",
		-time.Millisecond:          "now",
		time.Second:                "in 1 second",
		59 * time.Minute:           "in 59 minutes",
		47 * time.Hour:             "in 47 hours",
		3*day + 23*time.Hour:       "in 3 days",
		-(time.Hour + time.Minute): "1 hour ago",
	} {
		if got := relative(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestTableAlignsByCharacters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	table := table{header: []string{"NAME", "STATE"}}
	table.add("größte", "ok")
	table.add("a", "")
	table.add("春季促销", "ok")
	table.add("\x1b[2Jx\ny", "no")
	if err := table.write(&program{stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if want := "NAME      STATE\ngrößte    ok\na\n春季促销  ok\n\ufffd[2Jx y   no\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestClipCountsColumns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{{"abcde", "abcde"}, {"abcdef", "abcd…"}, {"春季促销", "春季…"}, {"a春季促销", "a春…"}, {"春季a", "春季a"}} {
		if got := runewidth.Truncate(c.text, 5, "…"); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// TestColour takes the null device for a terminal: it is a character device too.
func TestColour(t *testing.T) {
	t.Parallel()
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	for _, c := range []struct {
		name    string
		program program
		want    bool
	}{
		{"a terminal", program{stdout: terminal, environ: []string{"NO_COLOR="}}, true},
		{"NO_COLOR", program{stdout: terminal, environ: []string{"NO_COLOR=1"}}, false},
		{"a dumb terminal", program{stdout: terminal, environ: []string{"TERM=xterm", "TERM=dumb"}}, false},
		{"a pipe", program{stdout: new(bytes.Buffer)}, false},
	} {
		if got := c.program.coloured(); got != c.want {
			t.Errorf("%s: coloured is %t, want %t", c.name, got, c.want)
		}
	}
}

func TestAFailedWriteIsAFailure(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"version", "-o", "json"}, {"preview", "--strategy-type", "0"}} {
		var complaint bytes.Buffer
		p := &program{stdout: brokenPipe{}, stderr: &complaint, now: func() time.Time { return scriptNow }}
		if got := p.run(t.Context(), args); got != exitFailed || complaint.Len() == 0 {
			t.Errorf("%v: exit status %d saying %q, want %d", args, got, complaint.String(), exitFailed)
		}
	}
}

// brokenPipe is the output of a command whose reader has gone.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

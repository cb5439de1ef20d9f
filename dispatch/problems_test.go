package dispatch_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
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

// hostile are requests that a judge which is not linear does not get through.
func hostile(n int) map[string]string {
	members := func(format string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(parts, ",")
	}
	value := strings.Repeat("v", n*8)
	return map[string]string{
		"many keys":                 `{` + members(`"k%d":"v"`) + `}`,
		"many long keys":            `{` + members(`"`+strings.Repeat("k", 60)+`%d":"v"`) + `}`,
		"keys repeated":             `{` + members(`"title%[1]d":1,"title%[1]d":1`) + `}`,
		"one key, often":            `{` + members(`"title":%d`) + `}`,
		"one long key":              `{"` + value + `":1}`,
		"one long value":            `{"title":"` + value + `","notifyType":"` + value + `","msg_type":"` + value + `"}`,
		"extended params":           `{"extendedParams":{` + members(`"action":%d`) + `}}`,
		"placeholders":              `{"templateKeyValue":{` + members(`"k%d":null`) + `}}`,
		"a deep tree":               `{"transparentMessagePayload":` + strings.Repeat(`{"a":`, 9000) + `1` + strings.Repeat(`}`, 9000) + `}`,
		"a deep text":               `{"extendedParams":"` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `"}`,
		"a wide tree":               `{"transparentMessagePayload":{` + members(`"k%d":{"a":{"b":{"c":1}}}`) + `}}`,
		"many targets":              `{"targetMsgs":[` + members(`{"target":"t","msgKey":%d,"x":1}`) + `]}`,
		"many targets, mapped":      `{"targetMsgkey":{` + members(`"t%d":1`) + `}}`,
		"targets that repeat":       `{"targetMsgkey":{` + members(`"t":%d`) + `}}`,
		"many articles":             `{"msg_type":"image-text","articles":[` + members(`{"x%d":1}`) + `]}`,
		"many conditions":           `{"filter":{"template":"${a}","context":{` + members(`"c%d":1`) + `}}}`,
		"conditions of a long name": `{"filter":{"template":"${a}","context":{"` + value + `":{` + members(`"c%d":1`) + `}}}}`,
		"many words":                `{"template":{"template_id":"t","context":{` + members(`"c%d":1`) + `}}}`,
		"a long template":           `{"filter":{"template":"` + strings.Repeat("${a} and ", n) + `","context":{}}}`,
	}
}

// Judging is linear in the request and bounded in what it says, on every
// channel. A judge that is not takes minutes here, and the test's own time-out
// ends it.
func TestJudgingIsLinearAndBounded(t *testing.T) {
	t.Parallel()
	bodies := hostile(20000)
	for _, adapter := range []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}} {
		for _, c := range adapter.Channels() {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				for name, body := range bodies {
					_, problems := adapter.Compile(dispatch.Request{Channel: c.Name, TaskName: "t", Body: json.RawMessage(body)})
					size := 0
					for _, p := range problems {
						size += len(p.Field) + len(p.Text)
					}
					if len(problems) > dispatch.MaxProblems+1 || size > 16<<10 {
						t.Errorf("%s: %d problems, %d bytes", name, len(problems), size)
					}
					if c.Name != "webhook" && len(problems) == 0 {
						t.Errorf("%s: no problem", name)
					}
				}
			})
		}
	}
}

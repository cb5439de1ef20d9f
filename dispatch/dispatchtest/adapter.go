package dispatchtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func (s Subject) testAdapter(t *testing.T) {
	t.Parallel()
	provider := s.Adapter.Provider()
	if !snake.MatchString(provider) {
		t.Errorf("provider %q is not in snake case", provider)
	}
	seen := map[string]bool{}
	for _, c := range s.Adapter.Channels() {
		if c.Name != provider && !strings.HasPrefix(c.Name, provider+".") {
			t.Errorf("channel %q does not begin with %q", c.Name, provider)
		}
		if seen[c.Name] || c.MaxTargets < 0 || c.WeeklyQuota < 0 {
			t.Errorf("channel %+v", c)
		}
		seen[c.Name] = true
	}
	if len(seen) == 0 {
		t.Error("no channels")
	}
	options := map[string]bool{}
	for _, o := range s.Adapter.Options() {
		if !snake.MatchString(o.Name) || o.Help == "" || options[o.Name] {
			t.Errorf("option %+v", o)
		}
		options[o.Name] = true
	}
}

func (s Subject) testCompile(t *testing.T) {
	t.Parallel()
	sample := s.Request("http://127.0.0.1:1")
	bodies := []string{
		"", "null", "[]", `"text"`, "1", "{", "{}}", strings.Repeat("[", 20000), "{\"a\":" + strings.Repeat("[", 20000), "\xff",
	}
	if !s.AnyParameter {
		bodies = append(bodies, `{"noSuchParameter":1}`, `{"noSuchParameter":1,"noSuchParameter":1}`)
	}
	for _, body := range bodies {
		r := sample
		r.Body = json.RawMessage(body)
		m, problems := s.Adapter.Compile(r)
		if m != nil || len(problems) == 0 {
			t.Errorf("%.40q: got %v, %v, want problems and no message", body, m, problems)
		}
		for _, p := range problems {
			if p.Field == "" || p.Text == "" {
				t.Errorf("%.40q: problem %+v names no field or no rule", body, p)
			}
		}
	}
	r := sample
	r.Channel = "no.such_channel"
	if m, problems := s.Adapter.Compile(r); m != nil || len(problems) == 0 {
		t.Errorf("an unknown channel: got %v, %v", m, problems)
	}
	m := s.compile(t, "http://127.0.0.1:1")
	if m.Channel.Name != sample.Channel {
		t.Errorf("the message's channel is %q, want %q", m.Channel.Name, sample.Channel)
	}
	if m.Channel.MaxTargets > 0 {
		s.testJudge(t, m)
	}
}

// testJudge checks that the sample's targets are good, and that a target without a
// name is not.
func (s Subject) testJudge(t *testing.T, m *dispatch.Message) {
	t.Helper()
	if m.Judge == nil {
		t.Fatal("a message that takes targets has no Judge")
	}
	for _, target := range s.Targets {
		if problem := m.Judge(&target); problem != "" {
			t.Errorf("target %q: %s", target.Target, problem)
		}
	}
	for _, name := range []string{"", " \t\n", strings.Repeat("t", dispatch.MaxTarget+1)} {
		if m.Judge(&dispatch.Target{Target: name}) == "" {
			t.Errorf("target %.20q is good", name)
		}
	}
}

// testNew checks that a missing required option leads to an error that names it,
// and that neither an error nor the pusher's own text holds a secret.
func (s Subject) testNew(t *testing.T) {
	t.Parallel()
	const endpoint = "http://127.0.0.1:1"
	for _, o := range s.Adapter.Options() {
		if o.Required {
			_, err := s.Adapter.New(s.without(endpoint, o.Name))
			if err == nil || !strings.Contains(err.Error(), o.Name) {
				t.Errorf("New without %s: %v", o.Name, err)
			}
			s.checkSecrets(t, fmt.Sprint(err))
		}
		if o.Secret {
			const garbage = "-garbage-\x01-"
			set := s.without(endpoint, o.Name)
			set.Options[o.Name] = garbage
			if _, err := s.Adapter.New(set); err != nil && strings.Contains(err.Error(), "garbage") {
				t.Errorf("New with a bad %s quotes it: %v", o.Name, err)
			}
		}
	}
	p := s.newPusher(t, endpoint)
	for _, format := range []string{"%v", "%+v", "%s"} {
		s.checkSecrets(t, fmt.Sprintf(format, p))
	}
}

func (s Subject) without(endpoint, option string) dispatch.Settings {
	set := s.Settings(endpoint)
	set.Options = maps.Clone(set.Options)
	if set.Options == nil {
		set.Options = map[string]string{}
	}
	delete(set.Options, option)
	return set
}

// testMisuse checks that pushes that no message allows are refused before a call.
func (s Subject) testMisuse(t *testing.T) {
	t.Parallel()
	r := s.answer(t, s.Accepted)
	foreign := *r.message
	foreign.Encoded = struct{ foreign bool }{true}
	tooMany := slices.Repeat([]dispatch.Target{{Target: "t", MsgKey: "k"}}, r.message.Channel.MaxTargets+1)
	misuses := map[string]*dispatch.Push{
		"no message":       {DeliveryID: "d", MsgKey: "k", Targets: s.Targets},
		"foreign message":  {DeliveryID: "d", MsgKey: "k", Targets: s.Targets, Message: &foreign},
		"too many targets": {DeliveryID: "d", MsgKey: "k", Targets: tooMany, Message: r.message},
	}
	if r.message.Channel.MaxTargets > 0 {
		misuses["no targets"] = &dispatch.Push{DeliveryID: "d", MsgKey: "k", Message: r.message}
	}
	for name, p := range misuses {
		o := r.pusher.Push(t.Context(), p)
		s.checkOutcome(t, o)
		if o.Class != dispatch.Permanent || o.Reason != dispatch.ReasonInvalid {
			t.Errorf("%s: got %v %+v, want permanent, invalid", name, o.Class, o)
		}
	}
	if n := r.received.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// testDeliveryID checks that every attempt of a delivery carries the same id.
func (s Subject) testDeliveryID(t *testing.T) {
	t.Parallel()
	if s.DeliveryID == nil {
		return // the API has no place for an id
	}
	r := s.answer(t, func(c Call) Answer { return s.Throttled(c, "again") })
	p := r.next()
	p.DeliveryID = "abcdefghijklmnopqrstuvwxyz_-0189"
	for range 2 {
		want(t, r.pusher.Push(t.Context(), p), dispatch.NotSent)
	}
	calls := r.recorded()
	for _, c := range calls {
		if got := s.DeliveryID(c); got != p.DeliveryID {
			t.Errorf("the call carries delivery id %q, want %q", got, p.DeliveryID)
		}
	}
	if len(calls) != 2 || calls[0].Method != http.MethodPost {
		t.Errorf("got %d calls, want 2 of method POST", len(calls))
	}
}

// A TargetCase is one target of a channel and whether it can be sent. The tests
// of the adapters' rules, of a request's own targets and of the database's
// triggers use the same cases.
type TargetCase struct {
	Name, Channel                            string
	Target, TemplateKeyValue, ExtendedParams string // the latter two are JSON, or empty
	Bad                                      string // a word of the fault that is reported; empty: the target is good
}

// Of returns the case's target.
func (c TargetCase) Of() *dispatch.Target {
	t := &dispatch.Target{Target: c.Target, MsgKey: "k"}
	if c.TemplateKeyValue != "" {
		t.TemplateKeyValue = []byte(c.TemplateKeyValue)
	}
	if c.ExtendedParams != "" {
		t.ExtendedParams = []byte(c.ExtendedParams)
	}
	return t
}

// TargetCases lists good and bad targets of every channel that takes targets.
func TargetCases() []TargetCase {
	const (
		multiple, template, simple = "mpaas.push_multiple", "mpaas.push_template", "mpaas.push_simple"
		single, webhook            = "alipay.single_send", "webhook"
	)
	nine, ten := keys(9), keys(10)
	cases := []TargetCase{
		{"values", multiple, "u", `{"a": "b", "n": 1, "t": true}`, `{"x": "y"}`, ""},
		{"nine extended parameters", multiple, "u", "", nine, ""},
		{"ten extended parameters", multiple, "u", "", ten, "has 10 keys"},
		{"a null value", multiple, "u", `{"name": null}`, "", `"name" is null`},
		{"a nested value", multiple, "u", `{"name": {"a": 1}}`, "", `"name" is an object`},
		{"a list", multiple, "u", `{"a": 1, "name": ["a"]}`, "", `"name" is a list`},
		{"an empty list", multiple, "u", `{"name": []}`, "", `"name" is a list`},
		{"a reserved key", multiple, "u", "", `{"action": "1"}`, `"action"`},
		{"another reserved key", multiple, "u", "", `{"a": "1", "taskId": "1"}`, `"taskId"`},
		{"odd extended values", multiple, "u", "", `{"a": null, "b": {"c": []}}`, ""},
		{"values of its own", template, "u", `{"a": "b"}`, "", "values of its own"},
		{"parameters of its own", simple, "u", "", `{"a": "b"}`, "values of its own"},
		{"keywords", single, "u", `{"first": {"value": "v", "color": "#333333"}, "keyword1": "w", "url": "https://a.example"}`, "", ""},
		{"a strange keyword", single, "u", `{"frist": "x"}`, "", "frist"},
		{"a keyword without value", single, "u", `{"first": {"color": "c"}}`, "", "first.value"},
		{"a keyword that is a number", single, "u", `{"first": 1}`, "", "first"},
		{"extended parameters", single, "u", "", `{"a": 1}`, "a single send has none"},
		{"anything", webhook, "u", `{"a": {"b": [null]}}`, `{"action": null}`, ""},
	}
	for _, channel := range []string{multiple, template, simple, single, webhook} {
		cases = append(cases,
			TargetCase{"plain", channel, "u", "", "", ""},
			TargetCase{"empty objects", channel, "u", "{}", "{}", ""},
			TargetCase{"blank", channel, " \t", "", "", "is empty"},
			TargetCase{"the longest", channel, strings.Repeat("u", dispatch.MaxTarget), "", "", ""},
		)
	}
	return cases
}

// keys is an object of n members.
func keys(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = `"k` + string(rune('a'+i)) + `": "v"`
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

const (
	goroutines = 32
	each       = 16
)

// testConcurrency has many goroutines share one pusher and one message. It checks
// that every call is whole, accepted and different from every other. Run it with
// -race.
func (s Subject) testConcurrency(t *testing.T) {
	t.Parallel()
	r := s.answer(t, s.Accepted)
	outcomes := make(chan dispatch.Outcome, goroutines*each)
	var running sync.WaitGroup
	for range goroutines {
		running.Go(func() {
			for range each {
				outcomes <- r.pusher.Push(t.Context(), r.next())
			}
		})
	}
	running.Wait()
	close(outcomes)
	for o := range outcomes {
		s.checkOutcome(t, o)
		want(t, o, dispatch.Accepted)
	}
	calls := r.recorded()
	if len(calls) != goroutines*each {
		t.Errorf("%d calls arrived, want %d", len(calls), goroutines*each)
	}
	for _, c := range calls {
		if s.Check == nil {
			break
		}
		if err := s.Check(c); err != nil {
			t.Errorf("a call is not whole: %v", err)
		}
	}
	checkDistinct(t, "nonce", s.Nonce, calls)
	checkDistinct(t, "delivery id", s.DeliveryID, calls)
}

// checkDistinct checks that find finds another text in every call.
func checkDistinct(t *testing.T, what string, find func(Call) string, calls []Call) {
	t.Helper()
	if find == nil {
		return
	}
	seen := map[string]bool{}
	for _, c := range calls {
		v := find(c)
		if v == "" || seen[v] {
			t.Errorf("%s %q is empty or was used before", what, v)
		}
		seen[v] = true
	}
}

package engine_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/store"
)

// really compiles with the real adapters, and keeps the rig's way of telling
// calls apart.
func really(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
	r := dispatch.Request{
		Channel: c.Channel, TaskName: c.Name, Body: json.RawMessage(c.Request), StrategyType: int(c.StrategyType),
		StoredTargets: c.Targets > 0 || c.AudienceView != "",
	}
	adapters := map[string]dispatch.Adapter{"mpaas": mpaas.Adapter{}, "alipay": alipay.Adapter{}, "webhook": webhook.Adapter{}}
	provider, _, _ := strings.Cut(c.Channel, ".")
	m, problems := adapters[provider].Compile(r)
	if m != nil {
		m.Encoded = c.ID
	}
	return m, problems
}

const (
	multipleRequest = `{"deliveryType": 3, "expiredSeconds": 600, "templateName": "w"}`
	singleRequest   = `{"template": {"template_id": "T1", "context": {}}}`
)

// An odd row of a view costs itself and not its call: it is left out, the rest
// goes out, and the task says how many and why. The same rules hold for rows of
// the table that were stored before they were judged.
func TestOddTargetsCostThemselves(t *testing.T) {
	t.Parallel()
	// 150 rows, of which the 50th and the 60th are odd.
	view := func(column, odd string) string {
		columns := map[string]string{"target": `'u' || n`, "template_key_value": `NULL::jsonb`, "extended_params": `NULL::jsonb`}
		columns[column] = fmt.Sprintf(`CASE WHEN n IN (50, 60) THEN %s ELSE %s END`, odd, columns[column])
		return fmt.Sprintf(`SELECT %s AS target, %s AS template_key_value, %s AS extended_params FROM generate_series(1, 150) n`,
			columns["target"], columns["template_key_value"], columns["extended_params"])
	}
	ten := `(SELECT jsonb_object_agg('k' || g, 'v') FROM generate_series(1, 10) g)`
	cases := map[string]struct {
		channel, request, view string
		reached                int
		want                   []string // in the reason
	}{
		"empty":                {"mpaas.push_multiple", multipleRequest, view("target", `''`), 148, []string{"1 targets left out: ", `target "": target is empty`}},
		"blank":                {"mpaas.push_multiple", multipleRequest, view("target", `repeat(' ', n)`), 148, []string{"2 targets left out: ", "target is empty"}},
		"no name":              {"mpaas.push_multiple", multipleRequest, view("target", `NULL`), 148, []string{"1 targets left out: ", "target is empty"}},
		"too long":             {"mpaas.push_multiple", multipleRequest, view("target", `repeat('x', 2000 + n)`), 148, []string{"2 targets left out: ", "at most 1024 are allowed"}},
		"a null value":         {"mpaas.push_multiple", multipleRequest, view("template_key_value", `'{"name": null}'::jsonb`), 148, []string{"2 targets left out: ", `"name" is null`}},
		"a nested value":       {"mpaas.push_multiple", multipleRequest, view("template_key_value", `'{"name": {"a": 1}}'::jsonb`), 148, []string{"2 targets left out: "}},
		"no object":            {"mpaas.push_multiple", multipleRequest, view("template_key_value", `'[1]'::jsonb`), 148, []string{"2 targets left out: ", "must be a JSON object"}},
		"too much of it":       {"mpaas.push_multiple", multipleRequest, view("template_key_value", `jsonb_build_object('a', repeat('x', 5000))`), 148, []string{"2 targets left out: "}},
		"a reserved key":       {"mpaas.push_multiple", multipleRequest, view("extended_params", `'{"action": "1"}'::jsonb`), 148, []string{"2 targets left out: ", `"action"`}},
		"too many":             {"mpaas.push_multiple", multipleRequest, view("extended_params", ten), 148, []string{"2 targets left out: ", "has 10 keys"}},
		"values in a template": {"mpaas.push_template", multipleRequest, view("template_key_value", `'{"a": "b"}'::jsonb`), 148, []string{"2 targets left out: ", "values of its own"}},
		"webhook, empty":       {"webhook", `{}`, view("target", `''`), 148, []string{"1 targets left out: "}},
		"webhook, no object":   {"webhook", `{}`, view("extended_params", `'7'::jsonb`), 148, []string{"2 targets left out: "}},
	}
	viewOf := func(name string) string { return strings.NewReplacer(" ", "_", ",", "").Replace(name) }
	r := newRig(t)
	pushers := make(map[string]*pusher)
	for name, tt := range cases {
		provider, _, _ := strings.Cut(tt.channel, ".")
		pushers[name] = r.tenant(t, name, provider)
		r.run(t, fmt.Sprintf(`CREATE VIEW audience.%s AS %s`, viewOf(name), tt.view))
	}
	cfg := r.config(t)
	cfg.Compile = really
	start(t, cfg)
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := r.insert(t, name, tt.channel, 0, nil, "audience_view", viewOf(name), "request", tt.request)
			got := r.decided(t, id, 1)
			if len(got) != 1 || !strings.HasPrefix(got[0], "succeeded: ") {
				t.Errorf("decided %q", got)
			}
			for _, part := range tt.want {
				if !strings.Contains(got[0], part) {
					t.Errorf("the reason %q lacks %q", got[0], part)
				}
			}
			reached := slices.Sorted(slices.Values(pushers[name].reached()))
			if len(reached) != tt.reached || slices.Contains(reached, "") || len(slices.Compact(reached)) != tt.reached {
				t.Errorf("%d targets were reached, want %d", len(reached), tt.reached)
			}
		})
	}
}

// A single call leaves an odd row out as well, and one of which nothing is left
// is not made.
func TestOddTargetsOfOneCall(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	r.app(t, "ali", "alipay", nil)
	some := r.insert(t, "app", "mpaas.push_multiple", 0, nil, "request", multipleRequest, "status", "paused")
	none := r.insert(t, "ali", "alipay.single_send", 0, nil, "request", singleRequest, "status", "paused")
	// As rows are that were stored before they were judged.
	r.run(t, `ALTER TABLE scheduler.campaign_targets DISABLE TRIGGER ALL`)
	r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target, template_key_value) VALUES ($1, 'u1', '{"a": null}'), ($1, 'u2', NULL), ($2, 'u1', '{"frist": "x"}')`, some, none)
	r.run(t, `ALTER TABLE scheduler.campaign_targets ENABLE TRIGGER ALL`)
	r.run(t, `UPDATE scheduler.campaigns SET status = 'active'`)
	cfg := r.config(t)
	cfg.Compile = really
	start(t, cfg)
	got := append(r.decided(t, some, 1), r.decided(t, none, 1)...)
	want := []string{
		`succeeded: 1 of 2 targets left out: target "u1": template_key_value must hold texts for placeholders, and "a" is null`,
		`failed: invalid: 1 of 1 targets left out: target "u1": template_key_value has frist, which is not a parameter of this call; did you mean "first"?`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"u2"}, r.pusher.reached()); diff != "" {
		t.Error(diff)
	}
}

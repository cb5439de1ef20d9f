package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

func status(t *testing.T, r *rig, id int64) string {
	t.Helper()
	return get[string](t, r, `SELECT status FROM scheduler.campaigns WHERE id = $1`, id)
}

// Whatever makes a judged campaign bad without a change of its row is seen, with
// the reason; when the cause goes it is pushed.
func TestTargetsTurnACampaignBadAndGood(t *testing.T) {
	t.Parallel()
	for channel, request := range map[string]string{
		"mpaas.push_broadcast": `{"deliveryType": 1, "expiredSeconds": 60, "templateName": "x", "bindPeriod": 4}`,
		"mpaas.push_multiple":  `{"deliveryType": 3, "expiredSeconds": 60, "templateName": "x", "targetMsgs": [{"target": "inline"}]}`,
		"alipay.total_send":    `{"msg_type": "text", "text": {"title": "t", "content": "c"}}`,
		"alipay.single_send":   `{"to_user_id": "2088", "template": {"template_id": "T1", "context": {}}}`,
	} {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			provider := channel[:len("mpaas")]
			if provider == "alipa" {
				provider = "alipay"
			}
			r.app(t, "app", provider, nil)
			id := r.insert(t, "app", channel, 1, fixed(time.Now().Add(4*time.Second)), "request", request)
			cfg := r.config(t)
			cfg.Compile = really
			start(t, cfg)
			until(t, "a pending task", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`) == 1 })
			r.run(t, `INSERT INTO scheduler.campaign_targets (campaign_id, target) VALUES ($1, 'only-me')`, id)
			until(t, "the rejection", func() bool { return status(t, r, id) == "rejected" })
			if n := get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`); n != 0 {
				t.Errorf("%d tasks are pending", n)
			}
			r.run(t, `DELETE FROM scheduler.campaign_targets`)
			until(t, "the acceptance", func() bool { return status(t, r, id) == "active" || status(t, r, id) == "finished" })
			if got := r.decided(t, id, 1); got[0] != "succeeded" {
				t.Errorf("decided %q", got)
			}
		})
	}
}

// A configuration that forbids what it allowed, or the reverse, is told of at
// once, also of a campaign that is not due for long.
func TestConfigurationTurnsACampaignBadAndGood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(time.Now().Add(time.Hour)))
	var strict atomic.Bool
	cfg := r.config(t)
	cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		if strict.Load() {
			return nil, []dispatch.Problem{{Field: "TagId", Text: "is forbidden here"}}
		}
		return r.compile(c)
	}
	e := start(t, cfg)
	until(t, "a pending task", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`) == 1 })
	strict.Store(true)
	e.Reload(10)
	until(t, "the rejection", func() bool { return status(t, r, id) == "rejected" })
	if got := get[string](t, r, `SELECT status_reason FROM scheduler.campaigns`); got != "TagId: is forbidden here" {
		t.Errorf("the reason is %q", got)
	}
	strict.Store(false)
	e.Reload(10)
	until(t, "the acceptance", func() bool { return status(t, r, id) == "active" })
	until(t, "the task again", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`) == 1 })
}

// What nothing told of is seen when it is due at the latest, and a daemon that
// starts looks at all.
func TestACampaignThatIsBadWhenDueIsRejected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "app", "mpaas", nil)
	var strict atomic.Bool
	cfg := r.config(t)
	cfg.Compile = func(c *store.Campaign) (*dispatch.Message, []dispatch.Problem) {
		if strict.Load() {
			return nil, []dispatch.Problem{{Field: "title", Text: "is too long now"}}
		}
		return r.compile(c)
	}
	start(t, cfg)
	id := r.insert(t, "app", "mpaas.push_broadcast", 1, fixed(time.Now().Add(5*time.Second)))
	until(t, "a pending task", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.pending_tasks`) == 1 })
	strict.Store(true)
	until(t, "the rejection", func() bool { return status(t, r, id) == "rejected" })
	strict.Store(false)
	second := r.config(t)
	start(t, second)
	if got := r.decided(t, id, 1); got[0] != "succeeded" {
		t.Errorf("decided %q", got)
	}
}

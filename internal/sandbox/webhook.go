package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// webhook stands in for a receiver that users write themselves.
type webhook struct {
	secrets map[string]string // by app id
	now     func() time.Time
}

// webhookWindow is how far the timestamp may be from the clock, either way.
const webhookWindow = 5 * time.Minute

func newWebhook(cfg Config) (*webhook, error) {
	h := &webhook{secrets: map[string]string{}, now: cfg.Now}
	for _, app := range cfg.Apps.Webhook {
		if app.AppID == "" || app.Secret == "" {
			return nil, errors.New("webhook app: app id and secret are needed")
		}
		h.secrets[app.AppID] = app.Secret
	}
	return h, nil
}

func (h *webhook) judge(c *call) *refusal {
	app, _, _ := strings.Cut(strings.TrimPrefix(string(c.path), "/webhook/"), "/")
	c.appID = []byte(app)
	c.deliveryID = c.header("idempotency-key")
	if err := h.verify(c, app); err != nil {
		c.signature = err.Error()
		return &refusal{http.StatusUnauthorized, "signature", err.Error()}
	}
	c.signature = signatureOK
	return h.judgeBody(c)
}

// verify checks X-Scheduler-Signature: v1= and the hexadecimal HMAC-SHA256 of
// the timestamp, a dot and the body.
func (h *webhook) verify(c *call, app string) error {
	secret, ok := h.secrets[app]
	if !ok {
		secret, ok = h.secrets[AnyApp]
	}
	if !ok {
		return errors.New("unknown app")
	}
	timestamp := c.header("x-scheduler-timestamp")
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%s.%s", timestamp, c.body)
	want := "v1=" + hex.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), c.header("x-scheduler-signature")) {
		return errors.New("the signature does not match")
	}
	seconds, err := strconv.ParseInt(string(timestamp), 10, 64)
	if d := h.now().Sub(time.Unix(seconds, 0)); err != nil || d > webhookWindow || d < -webhookWindow {
		return errors.New("the timestamp is more than 5 minutes off")
	}
	if len(c.deliveryID) == 0 {
		return errors.New("Idempotency-Key is missing")
	}
	return nil
}

// judgeBody finds the targets and msgKeys of a push for the journal.
func (h *webhook) judgeBody(c *call) *refusal {
	var body struct {
		Kind     string `json:"kind"`
		TaskName string `json:"task_name"`
		MsgKey   string `json:"msg_key"`
		Targets  []struct {
			Target string `json:"target"`
			MsgKey string `json:"msg_key"`
		} `json:"targets"`
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		return &refusal{http.StatusBadRequest, "body", "the body is not the JSON of a push"}
	}
	if body.Kind == "revoke" { // it takes back a push that was accepted
		c.api = apiWebhookRevoke
		return nil
	}
	c.taskName = []byte(body.TaskName)
	for _, t := range body.Targets {
		c.addTarget([]byte(t.Target), []byte(t.MsgKey))
	}
	if len(body.Targets) == 0 && body.MsgKey != "" {
		c.msgKeys = append(c.msgKeys, []byte(body.MsgKey))
	}
	return nil
}

func (h *webhook) confirm(c *call) {
	c.answer.body = append(appendField(append(c.answer.body, `{"ok":true`...), "request_id", c.requestID), '}')
}

func (h *webhook) refuse(c *call, r *refusal) {
	c.answer.status = r.status
	b := appendField(append(c.answer.body, `{"ok":false`...), "code", r.code)
	c.answer.body = append(appendField(b, "message", r.message), '}')
}

package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// Headers of a call.
const (
	// headerTimestamp is when the call was signed, in Unix seconds.
	headerTimestamp = "X-Scheduler-Timestamp"
	// headerSignature is "v1=" and the hex HMAC-SHA256 of the timestamp, a dot
	// and the body.
	headerSignature = "X-Scheduler-Signature"
	// headerKey is the delivery's id, the same for every attempt.
	headerKey = "Idempotency-Key"
)

// A pusher calls one receiver.
type pusher struct {
	client             *httpcall.Client
	endpoint           *url.URL
	appID, workspaceID string
	secret             []byte
	redactor           httpcall.Redactor
	now                func() time.Time
}

// String names the app. Without this method, a printed pusher would show the
// secret.
func (p *pusher) String() string { return "webhook app " + p.appID }

// CloseIdleConnections closes the connections that carry no call.
func (p *pusher) CloseIdleConnections() { p.client.CloseIdleConnections() }

// Push makes one call.
func (p *pusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	return p.redactor.Outcome(p.push(ctx, push))
}

func (p *pusher) push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	body, err := p.body(push)
	if err != nil {
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: err.Error()}
	}
	return p.post(ctx, push.DeliveryID, body)
}

// post makes one signed call.
func (p *pusher) post(ctx context.Context, key string, body []byte) dispatch.Outcome {
	answer, failure := p.client.Post(ctx, &httpcall.Request{URL: p.endpoint, Header: p.header(key, body), Body: body})
	switch {
	case failure == nil:
		return judge(answer)
	case failure.Head != nil: // the status came, and it decides
		return judge(failure.Head)
	default:
		return failure.Outcome()
	}
}

// call is the JSON of a body.
type call struct {
	DeliveryID  string          `json:"delivery_id"`
	AppID       string          `json:"app_id"`
	WorkspaceID string          `json:"workspace_id"`
	TaskName    string          `json:"task_name"`
	MsgKey      string          `json:"msg_key,omitempty"`
	Request     json.RawMessage `json:"request"`
	Targets     []target        `json:"targets,omitempty"`
}

type target struct {
	Target           string          `json:"target"`
	MsgKey           string          `json:"msg_key,omitempty"`
	TemplateKeyValue json.RawMessage `json:"template_key_value,omitempty"`
	ExtendedParams   json.RawMessage `json:"extended_params,omitempty"`
}

var (
	errNoMessage = errors.New("the push has no message")
	errNotOurs   = errors.New("the message was not compiled by the webhook adapter")
	errTargets   = errors.New("the push has more targets than its message takes, or none where it needs some")
)

func (p *pusher) body(push *dispatch.Push) ([]byte, error) {
	if push.Message == nil {
		return nil, errNoMessage
	}
	c, ok := push.Message.Encoded.(*content)
	if !ok {
		return nil, errNotOurs
	}
	limit := push.Message.Channel.MaxTargets
	if n := len(push.Targets); n > limit || limit > 0 && n == 0 {
		return nil, errTargets
	}
	targets := make([]target, len(push.Targets))
	for i, t := range push.Targets {
		targets[i] = target(t)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(call{
		DeliveryID: push.DeliveryID, AppID: p.appID, WorkspaceID: p.workspaceID, TaskName: c.taskName,
		MsgKey: push.MsgKey, Request: c.request, Targets: targets,
	})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (p *pusher) header(deliveryID string, body []byte) []httpcall.Field {
	timestamp := strconv.FormatInt(p.now().Unix(), 10)
	return []httpcall.Field{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "application/json"},
		{Name: headerKey, Value: deliveryID},
		{Name: headerTimestamp, Value: timestamp},
		{Name: headerSignature, Value: "v1=" + hex.EncodeToString(sign(p.secret, timestamp, body))},
	}
}

func sign(secret []byte, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp))
	mac.Write([]byte("."))
	mac.Write(body)
	return mac.Sum(nil)
}

// words are the members of the JSON object that a receiver may send with its
// status. All are optional.
type words struct {
	Code      httpcall.Word `json:"code"`
	Message   httpcall.Word `json:"message"`
	MessageID httpcall.Word `json:"message_id"`
	RequestID httpcall.Word `json:"request_id"`
}

// judge classes an answer by its status alone: a receiver need not write a body,
// and a body that was cut changes nothing. A redirect is not followed. It is
// classed as unknown, since the receiver may have acted before it answered.
func judge(a *httpcall.Answer) dispatch.Outcome {
	o, decided := a.ByStatus()
	switch {
	case decided:
	case a.Status/100 == 2:
		o.Class = dispatch.Accepted
	default:
		o = dispatch.Outcome{
			Class: dispatch.Permanent, Reason: refusal(a.Status),
			Code: strconv.Itoa(a.Status), Message: a.Describe(),
		}
	}
	o.RequestID = a.Header.Get("X-Request-Id")
	return say(o, a)
}

func refusal(status int) dispatch.Reason {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return dispatch.ReasonAuth
	}
	return dispatch.ReasonRefused
}

// say adds the receiver's words to the outcome. It leaves out words of another
// form, since a machine on the way may have written them.
func say(o dispatch.Outcome, a *httpcall.Answer) dispatch.Outcome {
	var w words
	if a.TooLong || json.Unmarshal(a.Text(), &w) != nil {
		return o
	}
	if w.Code != "" {
		o.Code = string(w.Code)
	}
	if w.Message != "" {
		o.Message = string(w.Message)
	}
	if w.RequestID != "" {
		o.RequestID = string(w.RequestID)
	}
	o.MessageID = string(w.MessageID)
	return o
}

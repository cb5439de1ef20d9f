package dispatchtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The smallest adapter that is right passes the suite.
func TestConformance(t *testing.T) {
	t.Parallel()
	dispatchtest.Run(t, dispatchtest.Subject{
		Adapter: toy{},
		Settings: func(endpoint string) dispatch.Settings {
			return dispatch.Settings{Endpoint: endpoint, Options: map[string]string{"key": "toy-s3cret"}}
		},
		Request: func(string) dispatch.Request {
			return dispatch.Request{Channel: "toy", Body: json.RawMessage(`{"text":"hello"}`)}
		},
		Targets:  []dispatch.Target{{Target: "u1", MsgKey: "k1"}},
		Accepted: func(dispatchtest.Call) dispatchtest.Answer { return words("yes") },
		Refused:  func(_ dispatchtest.Call, text string) dispatchtest.Answer { return words("no " + text) },
		Throttled: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
			return words("wait " + text)
		},
		DeliveryID: func(c dispatchtest.Call) string { return c.Header.Get("Toy-Delivery") },
	})
}

func words(s string) dispatchtest.Answer { return dispatchtest.Answer{Body: []byte(s)} }

// toy answers in words: "yes", "no" and why, or "wait" and why.
type toy struct{}

func (toy) Provider() string { return "toy" }

func (toy) Channels() []dispatch.Channel { return []dispatch.Channel{{Name: "toy", MaxTargets: 2}} }

func (toy) Options() []dispatch.Option {
	return []dispatch.Option{{Name: "key", Required: true, Secret: true, Help: "the key of the toy"}}
}

type toyText string

func (toy) Compile(r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	if r.Channel != "toy" {
		return nil, []dispatch.Problem{{Field: "channel", Text: "is not toy"}}
	}
	var body struct{ Text *string }
	d := json.NewDecoder(bytes.NewReader(r.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || body.Text == nil || d.More() {
		return nil, []dispatch.Problem{{Field: "request", Text: `must be {"text": "…"}`}}
	}
	return &dispatch.Message{Channel: toy{}.Channels()[0], Judge: dispatch.TargetJudge((*dispatch.Target).Judge), Encoded: toyText(*body.Text)}, nil
}

func (toy) New(s dispatch.Settings) (dispatch.Pusher, error) {
	u, err := httpcall.ParseEndpoint(s.Endpoint)
	if err != nil {
		return nil, err
	}
	if s.Options["key"] == "" {
		return nil, errors.New("key is missing")
	}
	client, err := httpcall.NewClientFor(u, httpcall.Way{Transport: s.Transport, Proxy: s.Proxy, Authorities: s.Authorities})
	if err != nil {
		return nil, err
	}
	return &toyPusher{url: u, key: s.Options["key"], redact: httpcall.NewRedactor(s.Options["key"]), Client: client}, nil
}

type toyPusher struct {
	*httpcall.Client
	url    *url.URL
	key    string
	redact httpcall.Redactor
}

func (p *toyPusher) String() string { return "toy" }

func (p *toyPusher) Push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	return p.redact.Outcome(p.push(ctx, push))
}

func (p *toyPusher) push(ctx context.Context, push *dispatch.Push) dispatch.Outcome {
	invalid := dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid}
	if push.Message == nil || len(push.Targets) == 0 || len(push.Targets) > push.Message.Channel.MaxTargets {
		return invalid
	}
	text, ok := push.Message.Encoded.(toyText)
	if !ok {
		return invalid
	}
	a, f := p.Post(ctx, &httpcall.Request{
		URL:    p.url,
		Header: []httpcall.Field{{Name: "Toy-Delivery", Value: push.DeliveryID}, {Name: "Toy-Key", Value: p.key}},
		Body:   strconv.AppendQuote(nil, string(text)),
	})
	if f != nil {
		return f.Outcome()
	}
	return judge(a)
}

func judge(a *httpcall.Answer) dispatch.Outcome {
	if o, decided := a.ByStatus(); decided {
		return o
	}
	word, why, _ := bytes.Cut(a.Body, []byte(" "))
	switch {
	case a.Status >= 400 || string(word) == "no":
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonRefused, Message: string(why)}
	case string(word) == "wait":
		return dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, Message: string(why)}
	case string(word) == "yes":
		return dispatch.Outcome{Class: dispatch.Accepted}
	default:
		return a.BadAnswer()
	}
}

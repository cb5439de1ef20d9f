package alipay

import (
	"errors"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

// A payload is what Compile makes of a request. It is never changed.
type payload struct {
	path   string
	fixed  []byte  // the body of a call that names its own audience
	single *single // makes the body of a call to one user
}

// Compile judges a request by the API's description and encodes it. The body
// keeps the order of the author's members.
func (Adapter) Compile(r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
	a, ok := apiOf(r.Channel)
	if !ok {
		return nil, []dispatch.Problem{{Field: "channel", Text: "is not a channel of alipay"}}
	}
	document, err := parseDocument(r.Body)
	if err != nil {
		return nil, []dispatch.Problem{{Field: "request", Text: err.Error()}}
	}
	j := &judge{}
	a.rule(j, "", document)
	if document.kind == rawjson.Object {
		audience(j, a, r, document)
	}
	if j.problems.Len() > 0 {
		return nil, j.problems.List()
	}
	return encode(a, document), nil
}

func audience(j *judge, a api, r dispatch.Request, document node) {
	switch {
	case a.channel.MaxTargets > 0:
		singleAudience(j, r, document)
	case r.StoredTargets:
		j.report("request", "%s reaches the audience it names itself: remove the campaign's targets", a.channel.Name)
	}
}

func encode(a api, document node) *dispatch.Message {
	if a.channel.MaxTargets > 0 {
		s, inline := newSingle(document)
		return &dispatch.Message{Channel: a.channel, Inline: inline, Judge: dispatch.TargetJudge(judgeTarget), Encoded: &payload{path: a.path, single: s}}
	}
	return &dispatch.Message{
		Channel: a.channel,
		Encoded: &payload{path: a.path, fixed: document.appendJSON(nil)},
	}
}

var (
	errNoMessage = errors.New("the push has no message")
	errNotOurs   = errors.New("the message was not compiled by the alipay adapter")
	errNoTargets = errors.New("this call reaches the audience it names itself and takes no targets")
)

func payloadOf(push *dispatch.Push) (*payload, error) {
	if push.Message == nil {
		return nil, errNoMessage
	}
	p, ok := push.Message.Encoded.(*payload)
	if !ok {
		return nil, errNotOurs
	}
	return p, nil
}

// body returns the plain body of one push.
func (p *payload) body(targets []dispatch.Target) ([]byte, error) {
	if p.single != nil {
		return p.single.body(targets)
	}
	if len(targets) > 0 {
		return nil, errNoTargets
	}
	return p.fixed, nil
}

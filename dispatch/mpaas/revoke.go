package mpaas

import (
	"context"
	"errors"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

var _ dispatch.Revoker = (*pusher)(nil)

var errNoMessageID = errors.New("mPaaS gave no id of the message, and takes nothing back without one")

// Revoke calls RevokePushTask, or RevokePushMessage for one target [sdk]. That the
// id in a push's answer serves both as TaskId and as MessageId is [inferred].
func (p *pusher) Revoke(ctx context.Context, r *dispatch.Revocation) dispatch.Outcome {
	if r.MessageID == "" {
		return invalid(errNoMessageID)
	}
	action, pairs := "RevokePushTask", []string{"TaskId", r.MessageID}
	if r.Target != "" {
		action, pairs = "RevokePushMessage", []string{"MessageId", r.MessageID, "TargetId", r.Target}
	}
	body := append([]byte("AppId="), p.appID...)
	for i := 0; i < len(pairs); i += 2 {
		body = append(append(append(body, '&'), pairs[i]...), '=')
		body = appendEscaped(body, pairs[i+1])
	}
	body = append(append(body, "&WorkspaceId="...), p.workspaceID...)
	answer, failure := p.client.Post(ctx, &httpcall.Request{URL: p.endpoint, Header: p.header(action, body), Body: body})
	if failure != nil {
		return p.redact.Outcome(failure.Outcome())
	}
	return p.redact.Outcome(classify(answer))
}

package webhook

import (
	"context"
	"encoding/json"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

var _ dispatch.Revoker = (*pusher)(nil)

// revocation is the JSON of a call that takes a delivery back.
type revocation struct {
	Kind        string `json:"kind"` // revoke
	DeliveryID  string `json:"delivery_id"`
	AppID       string `json:"app_id"`
	WorkspaceID string `json:"workspace_id"`
	MessageID   string `json:"message_id,omitempty"`
	RequestID   string `json:"request_id,omitempty"`
	Target      string `json:"target,omitempty"`
}

// Revoke makes a signed call of kind revoke, whose answer counts as a push's does.
func (p *pusher) Revoke(ctx context.Context, r *dispatch.Revocation) dispatch.Outcome {
	body, err := json.Marshal(revocation{
		Kind: "revoke", DeliveryID: r.DeliveryID, AppID: p.appID, WorkspaceID: p.workspaceID,
		MessageID: r.MessageID, RequestID: r.RequestID, Target: r.Target,
	})
	if err != nil {
		return dispatch.Outcome{Class: dispatch.Permanent, Reason: dispatch.ReasonInvalid, Message: err.Error()}
	}
	answer, failure := p.client.Post(ctx, &httpcall.Request{URL: p.endpoint, Header: p.header("revoke-"+r.DeliveryID, body), Body: body})
	if failure != nil {
		return p.redactor.Outcome(failure.Outcome())
	}
	return p.redactor.Outcome(judge(answer))
}

package api

import (
	"context"
	"errors"

	"github.com/campaign-scheduler/scheduler/store"
)

// revoke answers RevokePushTask and RevokePushMessage: OK says that the revocation is
// stored and will be carried out, delivery by delivery.
func (s *Server) revoke(ctx context.Context, c *call) (*reply, error) {
	var bad problems
	appID, workspaceID := needApp(c.params, &bad)
	name, target := "TaskId", ""
	if c.action == "RevokePushMessage" {
		name, target = "MessageId", c.params.Get("TargetId")
		if target == "" {
			bad.add("TargetId", "is missing")
		}
	}
	wanted, ok := parseID(c.params.Get(name))
	switch {
	case c.params.Get(name) == "":
		bad.add(name, "is missing")
	case !ok:
		bad.add(name, "is no id of a push")
	}
	if len(bad) > 0 {
		return s.refuseCall(ctx, c, bad, 0)
	}
	tasks, err := s.cfg.Store.Revoke(ctx, c.caller, appID, workspaceID, store.Cancelled{CampaignID: wanted.campaign, DueAt: wanted.due}, target, "revoked by a call of the API")
	switch {
	case errors.Is(err, store.ErrNoCampaign): // taken back, the nonce with it
		bad.add(name, "is of nothing that was sent")
		return s.refuseCall(ctx, c, bad, 0)
	case err != nil:
		return nil, err
	case tasks == 0:
		bad.add(name, "is of nothing that the push service accepted")
		return refused(bad, 0), nil
	}
	return pushed(wanted), nil
}

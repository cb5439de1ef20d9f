package api

import (
	"context"
	"errors"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
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
		return s.refuseRevoke(ctx, c, bad)
	}
	tasks, err := s.cfg.Store.Revoke(ctx, c.caller, appID, workspaceID, store.Cancelled{CampaignID: wanted.campaign, DueAt: wanted.due}, target, "revoked by a call of the API")
	switch {
	case errors.Is(err, store.ErrNoCampaign): // taken back, the nonce with it
		bad.add(name, "is of nothing that was sent")
		return s.refuseRevoke(ctx, c, bad)
	case err != nil:
		return nil, err
	case tasks == 0:
		bad.add(name, "is of nothing that the push service accepted")
		return refused(bad, 0), nil
	}
	return &reply{code: "OK", fields: aliyun.Fields{
		{Name: "ResultCode", Value: "OK"},
		{Name: "ResultMessage", Value: "success"},
		{Name: "PushResult", Value: aliyun.Fields{{Name: "Success", Value: true}, {Name: "ResultMsg", Value: "success"}, {Name: "Data", Value: wanted.String()}}},
	}}, nil
}

func (s *Server) refuseRevoke(ctx context.Context, c *call, bad problems) (*reply, error) {
	if err := s.cfg.Store.UseNonce(ctx, c.caller.Nonce); err != nil {
		return nil, err
	}
	return refused(bad, 0), nil
}

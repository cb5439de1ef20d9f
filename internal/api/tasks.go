package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/store"
)

const (
	maxPage       = 500
	maxPageNumber = 1_000_000
	maxIDs        = 100
	lastMilli     = 253402300799999 // the end of the year 9999
)

// list answers QueryPushSchedulerList and QueryMpsSchedulerList.
func (s *Server) list(ctx context.Context, c *call) (*reply, error) {
	var bad problems
	f := store.OccurrenceFilter{
		Since: milli(c.params, "StartTime", &bad), Until: milli(c.params, "EndTime", &bad), Channel: channelOf(c.params, &bad),
	}
	f.AppID, f.WorkspaceID = needApp(c.params, &bad)
	page := whole(c.params, "PageNumber", 1, maxPageNumber, &bad)
	f.Limit = whole(c.params, "PageSize", maxPage, maxPage, &bad)
	f.Offset = (page - 1) * f.Limit
	if len(bad) == 0 && f.Until.Before(f.Since) {
		bad.add("EndTime", "must not be before StartTime")
	}
	if text := c.params.Get("UniqueId"); text != "" {
		wanted, ok := parseID(text)
		if !ok { // a client cannot tell ids apart, so this one is an id of nothing
			wanted.campaign = -1
		}
		f.CampaignID, f.DueAt = wanted.campaign, wanted.due
	}
	if len(bad) > 0 {
		return s.refuseTasks(ctx, c, bad)
	}
	found, total, err := s.cfg.Store.Occurrences(ctx, c.caller, f)
	if err != nil {
		return nil, err
	}
	rows := make([]aliyun.Fields, len(found))
	for i := range found {
		rows[i] = row(&found[i])
	}
	return done(aliyun.Fields{{Name: "Data", Value: aliyun.Fields{{Name: "TotalCount", Value: total}, {Name: "List", Value: rows}}}}), nil
}

// row returns one scheduled task. An occurrence of a loop has an id of its own; a
// fixed time has the campaign's id.
func row(o *store.Occurrence) aliyun.Fields {
	parent := id{campaign: o.CampaignID}
	child := parent
	if o.StrategyType == 2 {
		child.due = o.DueAt
	}
	executed := "0"
	if o.Executed {
		executed = "1"
	}
	title := cmp.Or(o.Title, o.Name)
	delivery, _ := strconv.ParseInt(o.DeliveryType, 10, 64)
	kind := int64(max(0, slices.Index(types, o.Channel)))
	return aliyun.Fields{
		{Name: "UniqueId", Value: child.String()},
		{Name: "ParentId", Value: parent.String()},
		{Name: "PushTime", Value: o.DueAt.UnixMilli()},
		{Name: "PushTitle", Value: title},
		{Name: "PushContent", Value: o.Content},
		{Name: "Type", Value: kind},
		{Name: "DeliveryType", Value: delivery},
		{Name: "StrategyType", Value: int64(o.StrategyType)},
		{Name: "ExecutedStatus", Value: executed},
		{Name: "CreateType", Value: int64(0)},
		{Name: "GmtCreate", Value: o.CreatedAt.UnixMilli()},
	}
}

// cancel answers CancelPushScheduler and CancelMpsScheduler. It cancels parents
// with all their coming occurrences, or single occurrences of loops: all of the
// ids, or none.
func (s *Server) cancel(ctx context.Context, c *call) (*reply, error) {
	var bad problems
	appID, workspaceID := needApp(c.params, &bad)
	channel := channelOf(c.params, &bad)
	var what []store.Cancelled
	var texts []string
	ids := c.params.Get("UniqueIds")
	if items, err := c.params.List("UniqueIds"); ids == "" && err == nil { // generic clients send a list
		for _, item := range items {
			ids += "," + item.Fields[""]
		}
	}
	for text := range strings.SplitSeq(ids, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		one, ok := parseID(text)
		if !ok {
			bad.add("UniqueIds", "%.64q is no id of a scheduled task", text)
		}
		what, texts = append(what, store.Cancelled{CampaignID: one.campaign, DueAt: one.due}), append(texts, text)
	}
	switch {
	case len(texts) == 0:
		bad.add("UniqueIds", "is missing")
	case len(texts) > maxIDs:
		bad = problems{{"UniqueIds", fmt.Sprintf("names %d tasks, and at most %d are allowed", len(texts), maxIDs)}}
	}
	if len(bad) > 0 {
		return s.refuseTasks(ctx, c, bad)
	}
	found, err := s.cfg.Store.Cancel(ctx, c.caller, appID, workspaceID, channel, what, "cancelled by a call of the API")
	if err != nil {
		return nil, err
	}
	for i, why := range found {
		if why != "" {
			bad.add("UniqueIds", "%.64s %s", texts[i], why)
		}
	}
	if len(bad) > 0 { // the transaction was rolled back, with the use of the nonce
		return s.refuseTasks(ctx, c, bad)
	}
	return done("success"), nil
}

// revoke answers RevokePushTask and RevokePushMessage. OK means that the revocation
// is stored and will be carried out, delivery by delivery.
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
	case errors.Is(err, store.ErrNoCampaign): // rolled back, with the use of the nonce
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

func done(content any) *reply {
	return &reply{code: "OK", fields: aliyun.Fields{
		{Name: "ResultCode", Value: "OK"}, {Name: "ResultMessage", Value: "success"}, {Name: "ResultContent", Value: content},
	}}
}

func (s *Server) refuseTasks(ctx context.Context, c *call, bad problems) (*reply, error) {
	if err := s.cfg.Store.UseNonce(ctx, c.caller.Nonce); err != nil {
		return nil, err
	}
	code := bad.code(0)
	return &reply{code: code, fields: aliyun.Fields{{Name: "ResultCode", Value: code}, {Name: "ResultMessage", Value: bad.String()}}}, nil
}

func needApp(params aliyun.Params, bad *problems) (appID, workspaceID string) {
	for _, name := range []string{"AppId", "WorkspaceId"} {
		if params.Get(name) == "" {
			bad.add(name, "is missing")
		}
	}
	return params.Get("AppId"), params.Get("WorkspaceId")
}

func channelOf(params aliyun.Params, bad *problems) string {
	text := params.Get("Type")
	if text == "" {
		return ""
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= len(types) {
		bad.add("Type", "must be 0 simple, 1 template, 2 multiple or 3 broadcast, not %.20q", text)
		return ""
	}
	return types[n]
}

func milli(params aliyun.Params, name string, bad *problems) time.Time {
	text := params.Get(name)
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case text == "":
		bad.add(name, "is missing")
	case err != nil || n < 0 || n > lastMilli:
		bad.add(name, "must be a time in Unix milliseconds, not %.30q", text)
	}
	return time.UnixMilli(n).UTC()
}

func whole(params aliyun.Params, name string, otherwise, most int, bad *problems) int {
	text := params.Get(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		bad.add(name, "must be from 1 to %d, not %.20q", most, text)
	}
	return n
}

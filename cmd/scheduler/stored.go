package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// previewStored shows what is to come of a campaign that is in the database.
func (p *program) previewStored(ctx context.Context, s *store.Store, cfg *config.Config, flags previewFlags) error {
	if flags.limit < 1 {
		return p.refuse("the preview", []problem{{Field: "limit", Message: "must be at least 1"}}, flags.asJSON)
	}
	c, err := s.Campaign(ctx, flags.campaign)
	if err != nil {
		return err
	}
	what := "campaign " + campaignName(c.ID, c.Name)
	plan, problems, err := p.planOf(ctx, s, c, flags.limit)
	if err != nil {
		return err
	}
	if problems = append(problems, storedProblems(c, cfg)...); len(problems) > 0 {
		return p.refuse(what, problems, flags.asJSON)
	}
	return p.showPlan(plan, flags)
}

// planOf lists what is to come of a campaign, by the database's clock.
func (p *program) planOf(ctx context.Context, s *store.Store, c store.CampaignRow, limit int) (plan, []problem, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return plan{}, nil, err
	}
	quotas, err := s.QuotaUsages(ctx)
	if err != nil {
		return plan{}, nil, err
	}
	spec := specOf(c)
	schedule, warnings, err := strategy.Parse(spec)
	if problems := judge.OfStrategy(err); len(problems) > 0 {
		return plan{}, problems, nil
	}
	out := newPlan(schedule, spec, now, now, limit)
	skips, err := s.Skips(ctx, c.ID, now)
	if err != nil {
		return plan{}, nil, err
	}
	out.skip(skips)
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	out.Warnings = append(out.Warnings, reachWarnings(out.pushed(), storedQuota(c, quotas))...)
	if c.Status != "active" {
		out.Warnings = append([]string{"the campaign is " + c.Status + ": nothing is pushed"}, out.Warnings...)
	}
	return out, nil, nil
}

// specOf is the strategy of a stored campaign. It was judged when it was
// written, so it is not held against a window its author shortened since.
func specOf(c store.CampaignRow) strategy.Spec {
	return strategy.Spec{
		Type: strategy.Type(c.StrategyType), Content: c.StrategyContent, Zone: c.TimeZone, WrittenAt: c.WrittenAt,
		ShortMonth: strategy.ShortMonthPolicy(c.ShortMonthPolicy), DSTGap: strategy.DSTGapPolicy(c.DSTGapPolicy),
		CatchUpWindow: strategy.MaxCatchUpWindow,
	}
}

// storedProblems judges a stored campaign's request as the daemon would.
func storedProblems(c store.CampaignRow, cfg *config.Config) []problem {
	adapter, _ := channel(c.Channel)
	if adapter == nil {
		return []problem{{Field: "channel", Message: fmt.Sprintf("this program has no adapter for %s", c.Channel)}}
	}
	request := dispatch.Request{
		Channel: c.Channel, TaskName: c.Name, Body: c.Request, StrategyType: int(c.StrategyType), StoredTargets: c.Targets > 0 || c.AudienceView != "",
	}
	for _, a := range cfg.Apps {
		if a.AppID == c.AppID && a.WorkspaceID == c.WorkspaceID {
			request.AllowAudienceSchedules, request.Region = a.AllowAudienceSchedules, a.Region()
		}
	}
	var problems []problem
	_, found := adapter.Compile(request)
	for _, f := range found {
		problems = append(problems, problem{Field: cmp.Or(f.Field, "request"), Message: f.Text})
	}
	return problems
}

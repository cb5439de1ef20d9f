package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ForecastCampaign is an active campaign as a forecast needs it.
type ForecastCampaign struct {
	*CampaignPlan
	Quota      int   // calls of the app's channel in any 7 days; zero: no quota
	MaxTargets int   // that a call of its channel may carry; zero: a call takes no targets
	Targets    int64 // rows of campaign_targets, as far as they were counted; zero: they were not counted
}

// A QuotaCall is a call that counts against a quota.
type QuotaCall struct {
	AppID, WorkspaceID, Channel string
	At                          time.Time
}

// A StoredOccurrence is an occurrence that is stored: a pending task, or a
// coming occurrence that somebody skipped.
type StoredOccurrence struct {
	CampaignID int64
	DueAt      time.Time
	Skipped    bool
}

// ForecastRows are the rows from which a forecast is made.
type ForecastRows struct {
	Campaigns []ForecastCampaign // the earliest written first
	Apps      []App              // the campaigns' apps, and the app that was asked for
	Calls     []QuotaCall        // of the last 7 days, of these apps
	Stored    []StoredOccurrence // of the campaigns
	Partial   bool               // not all stored rows were read
}

// Bounds of what a forecast reads.
const (
	forecastLooked  = 20_000 // campaigns that are looked at for active ones
	forecastStored  = 30_000 // stored occurrences of each kind
	forecastCalls   = 30_000
	forecastTargets = 100_000 // for all campaigns together, and below for one:
	mostTargets     = 10_001
	leastTargets    = 100
)

// A ForecastFilter chooses the rows of a forecast.
type ForecastFilter struct {
	AppID     string   // empty: every app
	Campaigns int      // at most so many are read
	CountFor  []string // app_ids whose campaigns' targets are counted, beside those with a quota, a spread or a ceiling of targets per second
	Until     time.Time
	Known     *KnownCampaigns // of earlier reads; nil: there are none
}

// ForecastRows reads the campaigns that will push, with their stored
// occurrences, and the calls of the last 7 days that count against quotas.
// Where there are too many campaigns, it reads the newest.
func (s *Store) ForecastRows(ctx context.Context, f ForecastFilter) (out ForecastRows, err error) {
	err = s.read(ctx, "read what a forecast needs", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		chosen, err := out.chooseCampaigns(ctx, tx, f, some)
		if err != nil {
			return err
		}
		if err := out.readCampaigns(ctx, tx, f.Known, chosen); err != nil {
			return err
		}
		apps := out.appIDs(f.AppID)
		for _, part := range []func() error{
			func() error { return out.readApps(ctx, tx, apps) },
			func() error { return out.readQuotas(ctx, tx, apps, some) },
			func() error { return out.countTargets(ctx, tx, f.CountFor) },
			func() error { return out.readStored(ctx, tx, f.Until, some) },
		} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// chooseCampaigns returns the newest campaigns that will push. It looks through few of
// all campaigns first, since most will push where there are many.
func (r *ForecastRows) chooseCampaigns(ctx context.Context, tx pgx.Tx, f ForecastFilter, some bool) (chosen []campaignVersion, err error) {
	of, byApp := Filter{AppID: f.AppID}, some || f.AppID != ""
	for _, looked := range []int{min(2*f.Campaigns, forecastLooked), forecastLooked} {
		downTo, err := of.newestDownTo(ctx, tx, 0, byApp, looked+1)
		if err != nil {
			return nil, err
		}
		where := &conditions{}
		add(where, "c.id > ?", downTo)
		// A campaign that pushes at once will push while it has a task. With LIMIT the
		// server reads one campaign's tasks at a time; with EXISTS it would read every
		// pending task.
		where.where = append(where.where, "c.status = 'active' AND (c.strategy_type <> 0 OR (SELECT true FROM scheduler.upcoming u WHERE u.campaign_id = c.id LIMIT 1))")
		sql, args := of.newest(versionColumn, where, byApp, f.Campaigns+1)
		rows, _ := tx.Query(ctx, sql, args...)
		chosen = make([]campaignVersion, 0, f.Campaigns+1)
		var c campaignVersion
		if _, err := pgx.ForEachRow(rows, []any{&c.id, &c.version}, func() error {
			chosen = append(chosen, c)
			return nil
		}); err != nil {
			return nil, err
		}
		if len(chosen) > f.Campaigns {
			r.Partial = true
			return chosen[:f.Campaigns], nil
		}
		if r.Partial = downTo > 0; !r.Partial {
			break
		}
	}
	return chosen, nil
}

// readCampaigns takes the chosen campaigns from those that are known, and reads the others.
func (r *ForecastRows) readCampaigns(ctx context.Context, tx pgx.Tx, known *KnownCampaigns, chosen []campaignVersion) error {
	plans, unknown := known.find(chosen)
	if len(unknown) > 0 {
		read, err := readPlans(ctx, tx, unknown)
		if err != nil {
			return err
		}
		known.add(read)
		for _, p := range read {
			plans = append(plans, p.plan)
		}
	}
	slices.SortFunc(plans, func(a, b *CampaignPlan) int { return cmp.Compare(a.ID, b.ID) })
	r.Campaigns = make([]ForecastCampaign, len(plans))
	for i, p := range plans {
		r.Campaigns[i].CampaignPlan = p
	}
	return nil
}

// readQuotas reads the bounds of the campaigns' channels and, where apps have their own
// quotas, theirs. Whoever sees only some apps reads their quotas in a view.
func (r *ForecastRows) readQuotas(ctx context.Context, tx pgx.Tx, apps []string, some bool) error {
	type channel struct{ maxTargets, quota int }
	channels := make(map[string]channel)
	var name string
	var of channel
	rows, _ := tx.Query(ctx, `SELECT channel, max_targets, weekly_quota FROM scheduler.channels`)
	if _, err := pgx.ForEachRow(rows, []any{&name, &of.maxTargets, &of.quota}, func() error {
		channels[name] = of
		return nil
	}); err != nil {
		return err
	}
	type key struct{ app, workspace, channel string }
	quotas := make(map[key]int)
	var k key
	var quota int
	sql := `SELECT a.app_id, a.workspace_id, q.channel, q.weekly_quota FROM scheduler.app_quotas q JOIN scheduler.apps a USING (app_no) WHERE a.app_id = ANY ($1)`
	if some {
		sql = `SELECT q.app_id, q.workspace_id, q.channel, q.weekly_quota FROM scheduler.quota_usage q WHERE q.app_id = ANY ($1)`
	}
	rows, _ = tx.Query(ctx, sql, apps)
	if _, err := pgx.ForEachRow(rows, []any{&k.app, &k.workspace, &k.channel, &quota}, func() error {
		quotas[k] = quota
		return nil
	}); err != nil {
		return err
	}
	for i := range r.Campaigns {
		c := &r.Campaigns[i]
		of := channels[c.Channel]
		c.MaxTargets, c.Quota = of.maxTargets, of.quota
		if own, has := quotas[key{c.AppID, c.WorkspaceID, c.Channel}]; has || some { // the view leaves out what has no quota
			c.Quota = own
		}
	}
	return nil
}

// appIDs returns the app ids of the campaigns, and one more.
func (r *ForecastRows) appIDs(more string) []string {
	ids := []string{more}
	for _, c := range r.Campaigns {
		if last := ids[len(ids)-1]; c.AppID != last {
			ids = append(ids, c.AppID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// countTargets counts the targets of those campaigns whose calls a quota, a rate or a
// spread holds back. The campaigns share the bound.
func (r *ForecastRows) countTargets(ctx context.Context, tx pgx.Tx, countFor []string) error {
	for _, a := range r.Apps {
		if a.TargetsPerSecond > 0 {
			countFor = append(countFor, a.AppID)
		}
	}
	at := make(map[int64]int)
	var ids []int64
	for i, c := range r.Campaigns {
		if c.MaxTargets > 0 && (c.Quota > 0 || c.Spread > 0 || slices.Contains(countFor, c.AppID)) {
			at[c.ID] = i
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	most := min(mostTargets, max(leastTargets, forecastTargets/len(ids)))
	rows, _ := tx.Query(ctx, `
		SELECT k.id, (SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = k.id LIMIT $2) x) FROM unnest($1::bigint[]) AS k (id)`, ids, most)
	var id, n int64
	_, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		r.Campaigns[at[id]].Targets, r.Partial = n, r.Partial || n == int64(most)
		return nil
	})
	return err
}

// readApps reads the apps of the campaigns, and their calls that count against quotas.
func (r *ForecastRows) readApps(ctx context.Context, tx pgx.Tx, ids []string) error {
	rows, _ := tx.Query(ctx, `SELECT `+appColumns+` FROM scheduler.apps WHERE app_id = ANY ($1) ORDER BY app_no`, ids)
	var err error
	if r.Apps, err = pgx.CollectRows(rows, scanApp); err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, `SELECT app_id, workspace_id, channel, used_at FROM scheduler.quota_calls WHERE app_id = ANY ($1) ORDER BY used_at DESC LIMIT $2`, ids, forecastCalls)
	r.Calls, err = pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaCall])
	r.Partial = r.Partial || len(r.Calls) == forecastCalls
	slices.Reverse(r.Calls)
	return err
}

// readStored reads the stored occurrences of the campaigns.
func (r *ForecastRows) readStored(ctx context.Context, tx pgx.Tx, until time.Time, some bool) error {
	r.Stored = make([]StoredOccurrence, 0, len(r.Campaigns))
	ids := make([]int64, len(r.Campaigns))
	for i, c := range r.Campaigns {
		ids[i] = c.ID
	}
	// Each campaign's rows are read by its own key, since there may be many more rows
	// of other campaigns.
	for _, sql := range []string{`
		SELECT u.campaign_id, u.due_at, false FROM ` + pendingFor(some) + ` u WHERE u.campaign_id = ANY ($1) AND u.due_at <= $2 LIMIT $3`, `
		SELECT k.campaign_id, k.due_at, true FROM scheduler.skipped_occurrences k
		 WHERE k.campaign_id = ANY ($1) AND k.due_at > now() AND k.due_at <= $2 AND k.restored_at IS NULL LIMIT $3`} {
		rows, _ := tx.Query(ctx, sql, ids, until, forecastStored)
		var o StoredOccurrence
		before := len(r.Stored)
		_, err := pgx.ForEachRow(rows, []any{&o.CampaignID, &o.DueAt, &o.Skipped}, func() error { // CollectRows would allocate for each of thousands
			r.Stored = append(r.Stored, o)
			return nil
		})
		if err != nil {
			return err
		}
		r.Partial = r.Partial || len(r.Stored)-before == forecastStored
	}
	return nil
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// An Unplanned is a changed campaign that no plan has taken yet.
type Unplanned struct {
	CampaignID int64  // 0: no campaign in particular, plan the app
	place      string // of the row of campaign_changes
}

// Unplanned returns up to limit changes of the app, without those of the
// campaigns in without. It locks nothing. Once the campaigns are judged,
// PlanTx.Changes takes the changes.
func (s *Store) Unplanned(ctx context.Context, appNo int32, without []int64, limit int) ([]Unplanned, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT campaign_id, ctid::text FROM scheduler.campaign_changes WHERE app_no = $1 AND campaign_id <> ALL($2) LIMIT $3`, appNo, orEmpty(without), limit)
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u Unplanned, err error) {
		err = row.Scan(&u.CampaignID, &u.place)
		return u, err
	})
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return out, nil
}

// A Change is a changed campaign that a plan has taken.
type Change struct {
	CampaignID int64     // 0: no campaign in particular, plan the app
	RewindTo   time.Time // the earliest occurrence whose task was withdrawn; zero: none
	Campaign   *Campaign // nil: it was deleted
	Cursor     *Cursor   // nil: it was never planned
	History    []Superseded
}

// Superseded is a version of a campaign that a change ended.
type Superseded struct {
	Before        Campaign
	Action        string
	StrategyEnded bool
	ChangedAt     time.Time
}

// Changes takes those of the changes whose campaigns still are as they were
// judged, and locks these campaigns against authors until the transaction ends.
// looked holds the campaigns as they were read. A campaign that an author holds,
// or that has another revision since, stays for a later pass.
func (p *PlanTx) Changes(ctx context.Context, changes []Unplanned, looked map[int64]*Campaign) ([]Change, error) {
	taken, err := p.takeChanges(ctx, changes, looked)
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	ids := make([]int64, 0, len(taken))
	for id := range taken {
		ids = append(ids, id)
	}
	cursors, err := p.cursors(ctx, ids)
	if err != nil {
		return nil, err
	}
	var gone []int64
	campaigns := make(map[int64]*Campaign, len(taken))
	for id, t := range taken {
		switch {
		case id == 0:
		case t.gone:
			gone = append(gone, id)
		default:
			c := *looked[id]
			c.Status = t.status // the engine itself finishes and rejects without a new revision
			campaigns[id] = &c
		}
	}
	history, err := p.history(ctx, campaigns, cursors, gone)
	if err != nil {
		return nil, err
	}
	if err := p.takeUntold(ctx); err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(taken))
	for id, t := range taken {
		out = append(out, Change{CampaignID: id, RewindTo: t.rewind, Campaign: campaigns[id], Cursor: cursors[id], History: history[id]})
	}
	return out, nil
}

// A taken change is one whose campaign is locked, or gone.
type taken struct {
	rewind time.Time // the earliest of the campaign's changes; zero: none
	gone   bool
	status string
}

// takeChanges removes the changes of campaigns that are gone, or that it could
// lock and that still are as they were judged. It finds each row of
// campaign_changes by its place, and compares the campaign, since another row
// may be in that place by now.
func (p *PlanTx) takeChanges(ctx context.Context, changes []Unplanned, looked map[int64]*Campaign) (map[int64]taken, error) {
	n := len(changes)
	places, ids, revisions := make([]string, n), make([]int64, n), make([]int32, n)
	for i, u := range changes {
		places[i], ids[i] = u.place, u.CampaignID
		if c := looked[u.CampaignID]; c != nil {
			revisions[i] = c.Revision
		}
	}
	// These are values and not EXISTS, for which the server may read every
	// campaign. The OFFSET keeps the server from locking a campaign twice.
	rows, err := p.tx.Query(ctx, `
		WITH change AS MATERIALIZED (
			SELECT x.ctid, x.status, x.status IS NULL AS gone
			  FROM (SELECT x.ctid, x.campaign_id,
			               (SELECT c.status FROM scheduler.campaigns c WHERE c.id = x.campaign_id AND c.revision = u.revision FOR SHARE SKIP LOCKED) AS status
			          FROM unnest($2::text[], $3::bigint[], $4::integer[]) AS u (place, campaign_id, revision)
			          JOIN scheduler.campaign_changes x ON x.ctid = u.place::tid AND x.campaign_id = u.campaign_id AND x.app_no = $1 OFFSET 0) x
			 WHERE x.status IS NOT NULL OR (SELECT c.id FROM scheduler.campaigns c WHERE c.id = x.campaign_id) IS NULL
		)
		DELETE FROM scheduler.campaign_changes x USING change WHERE x.ctid = change.ctid
		RETURNING x.campaign_id, x.rewind_to, change.gone, coalesce(change.status, '')`, p.AppNo, places, ids, revisions)
	if err != nil {
		return nil, fmt.Errorf("take changes: %w", err)
	}
	out := make(map[int64]taken)
	var id int64
	var rewind *time.Time
	var t taken
	_, err = pgx.ForEachRow(rows, []any{&id, &rewind, &t.gone, &t.status}, func() error {
		old, seen := out[id]
		t.rewind = orZero(rewind)
		if seen && (t.rewind.IsZero() || !old.rewind.IsZero() && old.rewind.Before(t.rewind)) {
			t.rewind = old.rewind
		}
		out[id] = t
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take changes: %w", err)
	}
	return out, nil
}

// cursors loads the cursors of those campaigns that have one.
func (p *PlanTx) cursors(ctx context.Context, ids []int64) (map[int64]*Cursor, error) {
	rows, _ := p.tx.Query(ctx, `SELECT campaign_id, revision, active, next_due_at FROM scheduler.campaign_cursors WHERE campaign_id = ANY($1)`, ids)
	out := make(map[int64]*Cursor)
	var c Cursor
	var next *time.Time
	_, err := pgx.ForEachRow(rows, []any{&c.CampaignID, &c.Revision, &c.Active, &next}, func() error {
		cursor := c
		cursor.NextDueAt = orZero(next)
		out[c.CampaignID] = &cursor
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load cursors: %w", err)
	}
	return out, nil
}

// history returns, for campaigns whose revision moved since they were last
// planned, the versions in between, oldest first.
func (p *PlanTx) history(ctx context.Context, campaigns map[int64]*Campaign, cursors map[int64]*Cursor, gone []int64) (map[int64][]Superseded, error) {
	var ids []int64
	var from []int32
	ask := func(id int64) {
		ids = append(ids, id)
		rev := int32(0)
		if k := cursors[id]; k != nil {
			rev = k.Revision
		}
		from = append(from, rev)
	}
	for id, c := range campaigns {
		if k := cursors[id]; c.Revision > 1 && (k == nil || k.Revision != c.Revision) {
			ask(id)
		}
	}
	for _, id := range gone {
		ask(id)
	}
	out := make(map[int64][]Superseded)
	if len(ids) == 0 {
		return out, nil
	}
	rows, err := p.tx.Query(ctx, `
		SELECT h.campaign_id, h.action, h.strategy_ended, h.changed_at, h.before - '{name,request,audience_view}'::text[], (h.before ->> 'catch_up_window')::interval
		  FROM unnest($1::bigint[], $2::integer[]) AS u (id, from_revision)
		  JOIN scheduler.campaign_history h ON h.campaign_id = u.id AND h.revision >= u.from_revision
		 ORDER BY h.campaign_id, h.id`, ids, from)
	if err != nil {
		return nil, fmt.Errorf("load history: %w", err)
	}
	var id int64
	var window interval
	var h Superseded
	var before []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &h.Action, &h.StrategyEnded, &h.ChangedAt, &before, &window}, func() error {
		c, err := campaignFromJSON(before)
		if err != nil {
			return err
		}
		c.CatchUpWindow = time.Duration(window)
		h.Before = c
		out[id] = append(out[id], h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load history: %w", err)
	}
	return out, nil
}

// campaignFromJSON reads the strategy of a row that to_jsonb wrote.
func campaignFromJSON(row []byte) (Campaign, error) {
	var j struct {
		ID               int64           `json:"id"`
		AppNo            int32           `json:"app_no"`
		Revision         int32           `json:"revision"`
		Status           string          `json:"status"`
		Channel          string          `json:"channel"`
		StrategyType     int16           `json:"strategy_type"`
		StrategyContent  json.RawMessage `json:"strategy_content"`
		TimeZone         string          `json:"time_zone"`
		ShortMonthPolicy string          `json:"short_month_policy"`
		DSTGapPolicy     string          `json:"dst_gap_policy"`
		Times            []string        `json:"times"`
		Calendar         string          `json:"calendar"`
		CalendarPolicy   string          `json:"calendar_policy"`
		CalendarClosed   []time.Time     `json:"calendar_closed"`
		CalendarSince    time.Time       `json:"calendar_since"` // null leaves it zero
		WrittenAt        time.Time       `json:"written_at"`
	}
	if err := json.Unmarshal(row, &j); err != nil {
		return Campaign{}, err
	}
	return Campaign{
		ID: j.ID, AppNo: j.AppNo, Revision: j.Revision, Status: j.Status, Channel: j.Channel,
		StrategyType: j.StrategyType, StrategyContent: j.StrategyContent, TimeZone: j.TimeZone,
		ShortMonthPolicy: j.ShortMonthPolicy, DSTGapPolicy: j.DSTGapPolicy, Times: j.Times,
		Calendar: CalendarSays{Name: j.Calendar, Policy: j.CalendarPolicy, Closed: j.CalendarClosed, Since: j.CalendarSince}, WrittenAt: j.WrittenAt,
	}, nil
}

// ChangedApps returns up to limit apps that have changed campaigns which no
// plan has taken yet. It hops through the index from app to app, so that many
// changes of one app cost no more than one.
func (s *Store) ChangedApps(ctx context.Context, limit int) ([]int32, error) {
	rows, _ := s.db.Query(ctx, `
		WITH RECURSIVE app AS (
			(SELECT app_no FROM scheduler.campaign_changes ORDER BY app_no LIMIT 1)
			UNION ALL
			SELECT (SELECT x.app_no FROM scheduler.campaign_changes x WHERE x.app_no > app.app_no ORDER BY x.app_no LIMIT 1)
			  FROM app WHERE app.app_no IS NOT NULL
		)
		SELECT app_no FROM app WHERE app_no IS NOT NULL LIMIT $1`, limit)
	out, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("list changed apps: %w", err)
	}
	return out, nil
}

// RevisitPaused asks the planner to look at paused and rejected campaigns with
// an occurrence that has left its catch-up window, and says how many there are.
// A campaign that pushes at once is left out: its window begins when it becomes
// active.
func (s *Store) RevisitPaused(ctx context.Context, now time.Time, limit int) (int64, error) {
	tag, err := s.db.Exec(ctx, `
		INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
		SELECT k.app_no, k.campaign_id
		  FROM scheduler.campaign_cursors k JOIN scheduler.campaigns c ON c.id = k.campaign_id
		 WHERE NOT k.active AND k.next_due_at IS NOT NULL AND k.next_due_at < coalesce($1, clock_timestamp()) AND c.strategy_type <> 0
		   AND NOT `+windowOpen("k.app_no", "k.campaign_id", "k.next_due_at", "c.catch_up_window", "coalesce($1, clock_timestamp())")+`
		   AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = k.app_no AND x.campaign_id = k.campaign_id)
		 LIMIT $2`, at(now), limit)
	if err != nil {
		return 0, fmt.Errorf("revisit paused campaigns: %w", err)
	}
	return tag.RowsAffected(), nil
}

// Revisit asks the planner to look at campaigns again.
func (s *Store) Revisit(ctx context.Context, ids []int64) error {
	_, err := s.db.Exec(ctx, `
		INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
		SELECT c.app_no, c.id FROM scheduler.campaigns c WHERE c.id = ANY($1) AND c.status = 'active'
		   AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = c.app_no AND x.campaign_id = c.id)`, ids)
	if err != nil {
		return fmt.Errorf("revisit campaigns: %w", err)
	}
	return nil
}

// SetAside rejects a campaign of the app that cannot be planned, without reading
// it. It drops the campaign's changes and takes its tasks back, until the author
// has changed it. It returns false for a campaign that is gone or has ended, of
// which it only drops the changes.
func (s *Store) SetAside(ctx context.Context, appNo int32, campaignID int64, reason string) (news bool, err error) {
	err = s.asPlanner(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE scheduler.campaigns SET status = 'rejected', status_reason = $2 WHERE id = $1 AND status IN ('active', 'paused')`, campaignID, reason)
		if err != nil {
			return err
		}
		news = tag.RowsAffected() > 0
		earliest, err := (&PlanTx{tx: tx, AppNo: appNo}).Withdraw(ctx, campaignID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH done AS (DELETE FROM scheduler.campaign_changes WHERE app_no = $1 AND campaign_id = $2)
			UPDATE scheduler.campaign_cursors SET active = false, next_due_at = least(next_due_at, $3) WHERE campaign_id = $2`, appNo, campaignID, at(earliest))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("set campaign %d aside: %w", campaignID, err)
	}
	return news, nil
}

// Waiting returns the campaigns of the app that give the next tasks, at most
// limit. When the app's plan fails, one of them may be the reason.
func (s *Store) Waiting(ctx context.Context, appNo int32, limit int) ([]int64, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT campaign_id FROM scheduler.campaign_cursors WHERE app_no = $1 AND active AND next_due_at IS NOT NULL
		 ORDER BY next_due_at, campaign_id LIMIT $2`, appNo, limit)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list waiting campaigns: %w", err)
	}
	return ids, nil
}

// An UnplannedApp has changed campaigns that no planner has looked at.
type UnplannedApp struct {
	AppNo              int32
	AppID, WorkspaceID string
	Waiting            time.Duration // since the first of the changes was made
}

// Name returns the app's name for people.
func (a UnplannedApp) Name() string {
	if a.WorkspaceID == "" {
		return a.AppID
	}
	return a.AppID + "/" + a.WorkspaceID
}

// UnplannedApps lists the apps with changes that were made at least that long ago.
// A change is visible only after its author commits, which may be much later than
// it was made.
func (s *Store) UnplannedApps(ctx context.Context, least time.Duration) ([]UnplannedApp, error) {
	changed, err := s.ChangedApps(ctx, 1000)
	if err != nil {
		return nil, err
	}
	rows, _ := s.db.Query(ctx, `
		SELECT a.app_no, a.app_id, a.workspace_id, x.seconds::float8
		  FROM unnest($1::integer[]) AS u (app_no) JOIN scheduler.apps a USING (app_no)
		 CROSS JOIN LATERAL (
			SELECT extract(epoch FROM clock_timestamp() - min(l.changed_at)) AS seconds
			  FROM (SELECT changed_at FROM scheduler.campaign_changes c WHERE c.app_no = u.app_no LIMIT 1000) l) x
		 WHERE x.seconds >= $2 ORDER BY x.seconds DESC`, changed, least.Seconds())
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a UnplannedApp, err error) {
		var waiting float64
		err = row.Scan(&a.AppNo, &a.AppID, &a.WorkspaceID, &waiting)
		a.Waiting = seconds(waiting)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list unplanned apps: %w", err)
	}
	return out, nil
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Campaign is what the engine needs of a row of scheduler.campaigns.
type Campaign struct {
	ID               int64
	AppNo            int32
	Revision         int32
	Status           string
	Name             string
	Channel          string
	StrategyType     int16
	StrategyContent  []byte
	TimeZone         string
	ShortMonthPolicy string
	DSTGapPolicy     string
	MisfirePolicy    string
	CatchUpWindow    time.Duration
	ResendUnknown    bool
	WrittenAt        time.Time
	Request          []byte
	AudienceView     string
	MaxTargets       int // a call of its channel may carry
	Targets          int // rows in campaign_targets, counted up to 101, one more than any call may carry
}

// campaignColumns are Campaign's fields in order, of a row named c.
const campaignColumns = `c.id, c.app_no, c.revision, c.status, c.name, c.channel, c.strategy_type, c.strategy_content, c.time_zone,
	c.short_month_policy, c.dst_gap_policy, c.misfire_policy, c.catch_up_window, c.resend_unknown,
	c.written_at, c.request, coalesce(c.audience_view, ''),
	coalesce((SELECT k.max_targets FROM scheduler.channels k WHERE k.channel = c.channel), 0),
	(SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT 101) x)`

func scanCampaign(row pgx.CollectableRow) (Campaign, error) {
	var c Campaign
	err := row.Scan(c.columns()...)
	return c, err
}

// columns are where campaignColumns are scanned to.
func (c *Campaign) columns() []any {
	return []any{
		&c.ID, &c.AppNo, &c.Revision, &c.Status, &c.Name, &c.Channel, &c.StrategyType, &c.StrategyContent, &c.TimeZone,
		&c.ShortMonthPolicy, &c.DSTGapPolicy, &c.MisfirePolicy, (*interval)(&c.CatchUpWindow), &c.ResendUnknown,
		&c.WrittenAt, &c.Request, &c.AudienceView, &c.MaxTargets, &c.Targets,
	}
}

// interval scans the length of an interval, counted as extract(epoch) does: 24
// hours a day, 30 days a month, 365.25 days a year.
type interval time.Duration

// ScanInterval implements pgtype.IntervalScanner.
func (d *interval) ScanInterval(v pgtype.Interval) error {
	const day = 24 * 3600 * 1e6
	years, months := int64(v.Months/12), int64(v.Months%12)
	micros := v.Microseconds + (int64(v.Days)+30*months)*day + years*(365*day+day/4)
	*d = interval(time.Duration(micros) * time.Microsecond)
	return nil
}

// Campaigns returns the campaigns with the given ids, in no order; those that
// are gone are left out.
func (s *Store) Campaigns(ctx context.Context, ids []int64) ([]Campaign, error) {
	rows, _ := s.pool.Query(ctx, `SELECT `+campaignColumns+` FROM scheduler.campaigns c WHERE c.id = ANY($1)`, ids)
	out, err := pgx.CollectRows(rows, scanCampaign)
	if err != nil {
		return nil, fmt.Errorf("load campaigns: %w", err)
	}
	return out, nil
}

// A Target is a row of scheduler.campaign_targets.
type Target struct {
	CampaignID       int64
	Target           string
	MsgKey           string
	TemplateKeyValue json.RawMessage
	ExtendedParams   json.RawMessage
}

const targetColumns = `t.campaign_id, t.target, coalesce(t.msg_key, ''), t.template_key_value, t.extended_params`

// FinishCampaigns marks those of the campaigns finished that have no occurrence
// left and no task undecided. A change that the planner has not seen may bring
// occurrences back, so that it counts as one. Campaigns locked by an author are left for later.
func (s *Store) FinishCampaigns(ctx context.Context, ids []int64) (int64, error) {
	var n int64
	err := s.asDaemon(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			WITH claimed AS MATERIALIZED (
				SELECT t.campaign_id FROM scheduler.claimed_tasks t WHERE t.campaign_id = ANY($1)
			), over AS MATERIALIZED (
				SELECT c.id
				  FROM scheduler.campaigns c
				  JOIN scheduler.campaign_cursors k ON k.campaign_id = c.id
				 WHERE c.id = ANY($1) AND c.status = 'active' AND k.active AND k.revision = c.revision AND k.next_due_at IS NULL
				   AND NOT EXISTS (SELECT FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id)
				   AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = c.id)
				   AND c.id NOT IN (SELECT campaign_id FROM claimed)
				   AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = c.app_no AND x.campaign_id = c.id)
				   AND NOT EXISTS (SELECT FROM scheduler.skipped_occurrences o -- a skip of what is to come can be taken back
					WHERE o.campaign_id = c.id AND o.restored_at IS NULL AND o.due_at > clock_timestamp())
				   FOR NO KEY UPDATE OF c SKIP LOCKED
			), closed AS (
				UPDATE scheduler.campaign_cursors k SET active = false FROM over WHERE k.campaign_id = over.id
			)
			UPDATE scheduler.campaigns c SET status = 'finished' FROM over WHERE c.id = over.id`, ids)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("finish campaigns: %w", err)
	}
	return n, nil
}

// EndedCampaigns returns up to limit campaigns after the given id that look
// finished: the sweep behind FinishCampaigns.
func (s *Store) EndedCampaigns(ctx context.Context, after int64, limit int) ([]int64, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT campaign_id FROM scheduler.campaign_cursors
		 WHERE active AND next_due_at IS NULL AND campaign_id > $1 ORDER BY campaign_id LIMIT $2`, after, limit)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list ended campaigns: %w", err)
	}
	return ids, nil
}

// asDaemon runs f in a transaction that may finish and reject campaigns. Its
// statements join a few rows with tables that grow, always by an index: plans
// for tables that seem small, which would read all of them, are ruled out, to
// keep what was read of one in memory among them.
func (s *Store) asDaemon(ctx context.Context, f func(tx pgx.Tx) error) error {
	const begin = `BEGIN; SET LOCAL scheduler.daemon = 'on'; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off`
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: begin}, f)
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Campaign holds the parts of a row of scheduler.campaigns that the engine needs.
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
	Times            []string // of day, in order; none: StrategyContent's
	Calendar         CalendarSays
	MisfirePolicy    string
	CatchUpWindow    time.Duration
	QuietPolicy      string        // hold, skip or ignore; ignore only with an exemption
	Spread           time.Duration // of a task's deliveries; zero: none
	ResendUnknown    bool
	WrittenAt        time.Time
	Request          []byte
	AudienceView     string
	MaxTargets       int // that a call of its channel may carry
	Targets          int // rows in campaign_targets, counted up to 101, one more than any call may carry
	// Unreadable says why the row could not be read or is too large to be loaded;
	// empty: it was loaded. Otherwise only ID, AppNo, Revision and Status are
	// known, and perhaps not all of these.
	Unreadable string
}

// MaxCampaignBytes bounds the texts of a campaign that a daemon loads: name,
// request and strategy_content together. A larger campaign is not loaded.
const MaxCampaignBytes = 1 << 20

// loadBytes bounds the texts of the campaigns that are loaded at once.
const loadBytes = 16 << 20

// campaignBytes is the length of a campaign's texts, of a row named c. A text
// that is short as stored, compressed, is not long enough unpacked to matter.
// So it is not unpacked to be measured.
const campaignBytes = `(octet_length(c.name) + CASE WHEN pg_column_size(c.request) > 4096 THEN octet_length(c.request::text) ELSE pg_column_size(c.request) END
	+ CASE WHEN pg_column_size(c.strategy_content) > 4096 THEN octet_length(c.strategy_content::text) ELSE coalesce(pg_column_size(c.strategy_content), 0) END)`

// campaignColumns are Campaign's fields in order, of a row named c.
const campaignColumns = `c.id, c.app_no, c.revision, c.status, c.name, c.channel, c.strategy_type, c.strategy_content, c.time_zone,
	c.short_month_policy, c.dst_gap_policy, c.times, ` + calendarColumns + `, c.misfire_policy, c.catch_up_window, c.spread, ` + quietPolicy + `, c.resend_unknown,
	c.written_at, c.request, coalesce(c.audience_view, ''),
	coalesce((SELECT k.max_targets FROM scheduler.channels k WHERE k.channel = c.channel), 0),
	(SELECT count(*) FROM (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id LIMIT 101) x)`

func scanCampaign(row pgx.CollectableRow) (Campaign, error) {
	var c Campaign
	err := row.Scan(c.columns()...)
	return c, err
}

// columns returns the places into which campaignColumns are scanned.
func (c *Campaign) columns() []any {
	return []any{
		&c.ID, &c.AppNo, &c.Revision, &c.Status, &c.Name, &c.Channel, &c.StrategyType, &c.StrategyContent, &c.TimeZone,
		&c.ShortMonthPolicy, &c.DSTGapPolicy, &c.Times, &c.Calendar.Name, &c.Calendar.Policy, &c.Calendar.Closed, (*timeOrZero)(&c.Calendar.Since),
		&c.MisfirePolicy, (*interval)(&c.CatchUpWindow), (*interval)(&c.Spread), &c.QuietPolicy, &c.ResendUnknown,
		&c.WrittenAt, &c.Request, &c.AudienceView, &c.MaxTargets, &c.Targets,
	}
}

// interval scans the length of an interval, counted as extract(epoch) does: 24
// hours a day, 30 days a month, 365.25 days a year. NULL is zero.
type interval time.Duration

// ScanInterval implements pgtype.IntervalScanner.
func (d *interval) ScanInterval(v pgtype.Interval) error {
	const day = 24 * 3600 * 1e6
	years, months := int64(v.Months/12), int64(v.Months%12)
	micros := v.Microseconds + (int64(v.Days)+30*months)*day + years*(365*day+day/4)
	*d = interval(time.Duration(micros) * time.Microsecond)
	return nil
}

// Campaigns returns the campaigns with the given ids, which should be few, as
// LoadCampaigns reads them.
func (s *Store) Campaigns(ctx context.Context, ids []int64) ([]Campaign, error) {
	var out []Campaign
	err := s.LoadCampaigns(ctx, ids, func(some []Campaign) bool {
		out = append(out, some...)
		return true
	})
	return out, err
}

// LoadCampaigns gives take the campaigns with the given ids, in no order; deleted
// ones are left out. A campaign that is too large to load or cannot be read comes
// as Unreadable and holds no other up. The size loaded at once is bounded, so
// take gets some campaigns at a time. It ends the loading by returning false.
func (s *Store) LoadCampaigns(ctx context.Context, ids []int64, take func([]Campaign) bool) error {
	loaded, err := s.loadAll(ctx, ids)
	if err == nil && len(loaded) > 0 {
		take(loaded)
		return nil
	}
	for len(ids) > 0 { // some campaigns are large, cannot be read, or are gone
		some, rest, err := s.fitting(ctx, ids)
		if err != nil {
			return fmt.Errorf("measure campaigns: %w", err)
		}
		loaded, err := s.loadCampaigns(ctx, some)
		if err != nil {
			return fmt.Errorf("load campaigns: %w", err)
		}
		if !take(loaded) {
			return nil
		}
		ids = rest
	}
	return nil
}

// loadAll loads campaigns in one statement if none of them is too large and all
// together may be loaded at once. Otherwise it returns none.
func (s *Store) loadAll(ctx context.Context, ids []int64) ([]Campaign, error) {
	rows, _ := s.db.Query(ctx, `
		WITH size AS MATERIALIZED (
			SELECT sum(bytes) AS total, max(bytes) AS largest FROM (SELECT `+campaignBytes+` AS bytes FROM scheduler.campaigns c WHERE c.id = ANY($1)) x
		)
		SELECT `+campaignColumns+` FROM scheduler.campaigns c
		 WHERE c.id = ANY($1) AND (SELECT s.total <= $2 AND s.largest <= $3 FROM size s)`, ids, loadBytes, MaxCampaignBytes)
	return pgx.CollectRows(rows, scanCampaign)
}

// fitting splits the ids into those that are loaded at once and the rest. The
// first id is always among those that are loaded.
func (s *Store) fitting(ctx context.Context, ids []int64) (some, rest []int64, err error) {
	var n int
	err = s.db.QueryRow(ctx, `
		SELECT count(*) FROM (
			SELECT sum(least(coalesce((SELECT `+campaignBytes+` FROM scheduler.campaigns c WHERE c.id = u.id), 0), $2)) OVER (ORDER BY u.n) AS total
			  FROM unnest($1::bigint[]) WITH ORDINALITY AS u (id, n)) x
		 WHERE x.total <= $3`, ids, MaxCampaignBytes, loadBytes).Scan(&n)
	if err != nil {
		return nil, nil, err
	}
	n = max(n, 1)
	return ids[:n], ids[n:], nil
}

// loadCampaigns loads campaigns together, or one by one when one of them cannot
// be read.
func (s *Store) loadCampaigns(ctx context.Context, ids []int64) ([]Campaign, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT c.id, c.app_no, c.revision, c.status, `+campaignBytes+` FROM scheduler.campaigns c WHERE c.id = ANY($1) AND `+campaignBytes+` > $2`,
		ids, MaxCampaignBytes)
	var out []Campaign
	var c Campaign
	var size int64
	_, err := pgx.ForEachRow(rows, []any{&c.ID, &c.AppNo, &c.Revision, &c.Status, &size}, func() error {
		c.Unreadable = fmt.Sprintf("the campaign is too large for this program: %d bytes, at most %d", size, MaxCampaignBytes)
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) > 0 {
		ids = slices.DeleteFunc(slices.Clone(ids), func(id int64) bool {
			return slices.ContainsFunc(out, func(c Campaign) bool { return c.ID == id })
		})
	}
	rows, _ = s.db.Query(ctx, `SELECT `+campaignColumns+` FROM scheduler.campaigns c WHERE c.id = ANY($1)`, ids)
	readable, err := pgx.CollectRows(rows, scanCampaign)
	switch {
	case err == nil:
		return append(out, readable...), nil
	case !OfARow(err):
		return nil, err
	case len(ids) == 1:
		c, err := s.unreadable(ctx, ids[0], err)
		return append(out, c...), err
	}
	for half := range slices.Chunk(ids, (len(ids)+1)/2) {
		loaded, err := s.loadCampaigns(ctx, half)
		if err != nil {
			return nil, err
		}
		out = append(out, loaded...)
	}
	return out, nil
}

// unreadable returns the parts of a campaign that can be read where the whole cannot.
func (s *Store) unreadable(ctx context.Context, id int64, cause error) ([]Campaign, error) {
	rows, _ := s.db.Query(ctx, `SELECT id, app_no, revision, status FROM scheduler.campaigns WHERE id = $1`, id)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Campaign, error) {
		c := Campaign{Unreadable: "this program cannot read the row: " + cause.Error()}
		err := row.Scan(&c.ID, &c.AppNo, &c.Revision, &c.Status)
		return c, err
	})
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

// FinishCampaigns marks those of the campaigns as finished that have no occurrence left
// and no undecided task, and returns them. A change that the planner has not seen may
// bring occurrences, so a campaign with such a change is not finished. Campaigns locked
// by an author are left for later.
func (s *Store) FinishCampaigns(ctx context.Context, ids []int64) (finished []int64, err error) {
	err = s.asDaemon(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
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
			UPDATE scheduler.campaigns c SET status = 'finished' FROM over WHERE c.id = over.id RETURNING c.id`, ids)
		finished, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("finish campaigns: %w", err)
	}
	return finished, nil
}

// EndedCampaigns returns up to limit campaigns after the given id that look
// finished: the sweep behind FinishCampaigns.
func (s *Store) EndedCampaigns(ctx context.Context, after int64, limit int) ([]int64, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT campaign_id FROM scheduler.campaign_cursors
		 WHERE active AND next_due_at IS NULL AND campaign_id > $1 ORDER BY campaign_id LIMIT $2`, after, limit)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list ended campaigns: %w", err)
	}
	return ids, nil
}

// asDaemon runs f in a transaction that may finish and reject campaigns. Its
// statements join few rows with tables that grow, and must always do so by an
// index. So it rules out plans that read a whole table, or keep its rows in
// memory, because the table seems small.
func (s *Store) asDaemon(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{BeginQuery: beginDaemon}, f)
}

// asPlanner is asDaemon for transactions that must not wait for others: where
// somebody holds a lock, it soon fails with an error for which IsBlocked is
// true.
func (s *Store) asPlanner(ctx context.Context, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{BeginQuery: beginDaemon + `; SET LOCAL lock_timeout = '` + planWait + `'`}, f)
}

const beginDaemon = `BEGIN; SET LOCAL scheduler.daemon = 'on'; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off`

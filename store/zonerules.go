package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ZoneRules returns, for every zone that the database knows, a mark of the rules
// that stored occurrences follow; "" where there is none yet.
func (s *Store) ZoneRules(ctx context.Context) (map[string]string, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT z.name, coalesce(r.rules, '')
		  FROM scheduler.time_zones z
		  LEFT JOIN (SELECT DISTINCT ON (time_zone) time_zone, rules FROM scheduler.zone_rules ORDER BY time_zone, id DESC) r ON r.time_zone = z.name`)
	out := make(map[string]string)
	var name, mark string
	_, err := pgx.ForEachRow(rows, []any{&name, &mark}, func() error {
		out[name] = mark
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read zone rules: %w", err)
	}
	return out, nil
}

// A Zoned is a campaign with the future instants that were worked out for it.
type Zoned struct {
	CampaignID int64
	Instants   []time.Time // of its pending tasks, and the next occurrence after them
}

// Zoned returns up to limit active loops in the zones, after the given campaign.
func (s *Store) Zoned(ctx context.Context, zones []string, after int64, limit int) ([]Zoned, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT c.id, ARRAY(SELECT p.due_at FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id AND p.origin = 'scheduled' AND p.due_at > clock_timestamp())
		             || CASE WHEN k.next_due_at > clock_timestamp() THEN ARRAY[k.next_due_at] ELSE '{}' END
		  FROM scheduler.campaigns c JOIN scheduler.campaign_cursors k ON k.campaign_id = c.id
		 WHERE c.id > $2 AND c.status = 'active' AND c.strategy_type = 2 AND c.time_zone = ANY($1)
		 ORDER BY c.id LIMIT $3`, zones, after, limit)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Zoned])
	if err != nil {
		return nil, fmt.Errorf("list loops of zones: %w", err)
	}
	return out, nil
}

// FollowZones takes the coming tasks of campaigns back and has them planned anew,
// since the rules of their zones have changed.
func (s *Store) FollowZones(ctx context.Context, campaigns []int64) error {
	_, err := s.db.Exec(ctx, `
		WITH stale AS (
			DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = ANY($1) AND p.origin = 'scheduled' AND p.due_at > clock_timestamp()
			RETURNING p.campaign_id, p.due_at
		)
		INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)
		SELECT c.app_no, c.id, (SELECT min(s.due_at) FROM stale s WHERE s.campaign_id = c.id) FROM scheduler.campaigns c WHERE c.id = ANY($1)`, campaigns)
	if err != nil {
		return fmt.Errorf("plan by changed zone rules: %w", err)
	}
	return nil
}

// SaveZoneRules records that stored occurrences follow these rules from now on.
// moved says by zone how many campaigns have moved occurrences.
func (s *Store) SaveZoneRules(ctx context.Context, by string, rules map[string]string, moved map[string]int) error {
	var names, marks []string
	var counts []int
	for name, mark := range rules {
		names, marks, counts = append(names, name), append(marks, mark), append(counts, moved[name])
	}
	_, err := s.db.Exec(ctx, `
		INSERT INTO scheduler.zone_rules (time_zone, rules, daemon, campaigns)
		SELECT u.name, u.mark, $4, u.n FROM unnest($1::text[], $2::text[], $3::integer[]) AS u (name, mark, n)`, names, marks, counts, by)
	if err != nil {
		return fmt.Errorf("record zone rules: %w", err)
	}
	return nil
}

// ZoneOffsets returns the server's offsets of zones at instants, in the order
// of the instants.
func (s *Store) ZoneOffsets(ctx context.Context, zones []string, at []time.Time) (map[string][]time.Duration, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT z.name, ARRAY(SELECT extract(epoch FROM (t.at AT TIME ZONE z.name) - (t.at AT TIME ZONE 'UTC'))::bigint
		                       FROM unnest($2::timestamptz[]) WITH ORDINALITY AS t (at, n) ORDER BY t.n)
		  FROM unnest($1::text[]) AS z (name)`, zones, at)
	out := make(map[string][]time.Duration)
	var name string
	var seconds []int64
	_, err := pgx.ForEachRow(rows, []any{&name, &seconds}, func() error {
		list := make([]time.Duration, len(seconds))
		for i, n := range seconds {
			list[i] = time.Duration(n) * time.Second
		}
		out[name] = list
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the server's zone offsets: %w", err)
	}
	return out, nil
}

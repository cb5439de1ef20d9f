package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// notHeld is the condition under which anything may begin. Every statement that
// begins something has this condition. So a hold counts from its commit, and
// the statement fails with ErrUnrecognised on a database that is not
// recognised.
const notHeld = released + ` AND (SELECT scheduler.recognised())`

// released is the condition that nothing is held.
const released = `NOT EXISTS (SELECT FROM scheduler.hold WHERE held_since IS NOT NULL)`

// A Hold is the state of scheduler.hold.
type Hold struct {
	Since   time.Time // zero: not held
	Reason  string
	Overdue int64 // pushes that a release would begin at once, or that would be missed
	Coming  int64 // pushes that would begin when due
}

// A HeldPush is a row of scheduler.held.
type HeldPush struct {
	DueAt       time.Time
	TimeZone    string
	OnRelease   string
	CampaignID  int64
	Campaign    string
	Channel     string
	AppID       string
	WorkspaceID string
	TaskID      int64
}

// Held returns the hold, and the first pushes it holds back.
func (s *Store) Held(ctx context.Context, limit int) (Hold, []HeldPush, error) {
	var h Hold
	var since *time.Time
	err := s.db.QueryRow(ctx, `
		SELECT h.held_since, coalesce(h.reason, ''), n.overdue, n.coming
		  FROM scheduler.hold h, LATERAL (
			SELECT count(*) FILTER (WHERE due_at <= now()) AS overdue, count(*) FILTER (WHERE due_at > now()) AS coming FROM scheduler.held) n`).
		Scan(&since, &h.Reason, &h.Overdue, &h.Coming)
	if err != nil {
		return Hold{}, nil, fmt.Errorf("read hold: %w", err)
	}
	if since == nil {
		return h, nil, nil
	}
	h.Since = *since
	rows, _ := s.db.Query(ctx, `
		SELECT due_at, time_zone, on_release, campaign_id, campaign, channel, app_id, workspace_id, task_id
		  FROM scheduler.held ORDER BY due_at, task_id, slice_no LIMIT $1`, limit)
	pushes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[HeldPush])
	if err != nil {
		return Hold{}, nil, fmt.Errorf("list what is held: %w", err)
	}
	return h, pushes, nil
}

// MaxHeld is the largest count of each kind of pushes that HeldUpTo makes.
const MaxHeld = 10_000

// HeldUpTo is Held for a page: a count of MaxHeld + 1 means that there are more than
// MaxHeld. It is not for authors.
func (s *Store) HeldUpTo(ctx context.Context, limit int) (h Hold, pushes []HeldPush, err error) {
	err = s.read(ctx, "read hold", func(tx pgx.Tx) error {
		var since *time.Time
		// The view joins and sorts all held pushes. Neither the count nor the choice
		// of the first ones needs that.
		err := tx.QueryRow(ctx, fmt.Sprintf(`
			SELECT h.held_since, coalesce(h.reason, ''), (%s), (%s) FROM scheduler.hold h`,
			countHeld("<= now()", "UNION ALL (SELECT FROM scheduler.pending_tasks p WHERE p.waits_for IS NOT NULL LIMIT $1)"), countHeld("> now()", "")), MaxHeld+1).
			Scan(&since, &h.Reason, &h.Overdue, &h.Coming)
		if err != nil || since == nil {
			h = Hold{Reason: h.Reason}
			return err
		}
		h.Since = *since
		first, args := Filter{Limit: limit}.pendingIDs(false, false)
		rows, _ := tx.Query(ctx, fmt.Sprintf(`
			SELECT due_at, time_zone, on_release, campaign_id, campaign, channel, app_id, workspace_id, task_id
			  FROM scheduler.held
			 WHERE task_id = ANY (ARRAY((%s) UNION ALL
				(SELECT r.id FROM scheduler.running_tasks r
				  WHERE EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = r.id AND s.status = 'waiting') ORDER BY r.due_at, r.id LIMIT %[2]d)))
			 ORDER BY due_at, task_id, slice_no LIMIT %[2]d`, first, limit), args...)
		pushes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[HeldPush])
		return err
	})
	return h, pushes, err
}

// countHeld counts up to $1 of two kinds: pushes that have not begun, under a
// condition on when they are due, and waiting deliveries, which are due.
func countHeld(due, waiting string) string {
	return `SELECT count(*) FROM (
		(SELECT FROM scheduler.pending_tasks p WHERE p.waits_for IS NULL AND p.ready_at ` + due + ` LIMIT $1) ` + waiting + `
		UNION ALL
		(SELECT FROM scheduler.running_tasks r JOIN scheduler.slices s ON s.task_id = r.id AND s.status = 'waiting' WHERE r.due_at ` + due + ` LIMIT $1)
		LIMIT $1) x`
}

// HoldAll lets nothing begin any more, on any daemon, until Release. It returns
// false where everything was held already; then the old reason stays.
func (s *Store) HoldAll(ctx context.Context, reason, operator string) (held bool, err error) {
	if err := s.db.QueryRow(ctx, `SELECT scheduler.hold_pushes($1, $2)`, reason, operator).Scan(&held); err != nil {
		return false, fmt.Errorf("hold: %w", err)
	}
	return held, nil
}

// Skipped is what Release with skipOverdue ended.
type Skipped struct {
	Missed  int64 // pushes
	Unknown int64 // deliveries whose earlier attempt may have arrived; they wait for a ruling
}

// Release ends the hold, and says whether there was one. With skipOverdue, all
// pushes that were due until now are missed. The same holds for occurrences that
// the cap has not let in yet, when the planner reaches them, if their campaign
// was written before. Without skipOverdue, such a bound of an earlier release
// ends.
func (s *Store) Release(ctx context.Context, skipOverdue bool) (held bool, skipped Skipped, err error) {
	if skipOverdue {
		if held, skipped, err = s.skipOverdue(ctx); err != nil || !held {
			return held, skipped, err
		}
	}
	if err := s.db.QueryRow(ctx, `SELECT scheduler.release_hold($1)`, skipOverdue).Scan(&held); err != nil {
		return false, skipped, fmt.Errorf("release: %w", err)
	}
	return held, skipped, nil
}

// skipOverdue ends all pushes that are due, while nothing can begin. It commits
// the bound first. Then, app by app, it waits for a planner that may not have
// seen the bound, so that no overdue task can come afterwards.
func (s *Store) skipOverdue(ctx context.Context) (held bool, skipped Skipped, err error) {
	if err := s.db.QueryRow(ctx, `SELECT scheduler.hold_skips_overdue()`).Scan(&held); err != nil {
		return false, skipped, fmt.Errorf("skip what is overdue: %w", err)
	}
	if !held {
		return false, skipped, nil
	}
	rows, _ := s.db.Query(ctx, `SELECT app_no FROM scheduler.apps ORDER BY app_no`)
	apps, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return true, skipped, fmt.Errorf("skip what is overdue: %w", err)
	}
	for _, app := range apps {
		for more := true; more; {
			var missed, unknown int64
			if err := s.db.QueryRow(ctx, `SELECT missed, unknown, more FROM scheduler.skip_overdue($1)`, app).Scan(&missed, &unknown, &more); err != nil {
				return true, skipped, fmt.Errorf("skip what is overdue: %w", err)
			}
			skipped.Missed, skipped.Unknown = skipped.Missed+missed, skipped.Unknown+unknown
		}
	}
	return true, skipped, nil
}

// skippedReason is the reason that the planner records for occurrences that the
// cap had not let in. The database's function skip_overdue uses the same words.
const skippedReason = "overdue when the hold was released with --skip-overdue"

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Start says how a pending task becomes a running one with stored deliveries.
type Start struct {
	TaskID       int64
	Inline       []string // targets named by the request; nil: read them from the database
	PerCall      int      // targets a delivery may carry; 0: the call takes none
	AudienceView string   // read the targets from this view in schema audience
	Channel      string
	Quota        bool // the channel may have a weekly quota
}

// Started is what became of a Start.
type Started struct {
	Begun     bool      // the task left pending_tasks
	Slices    int       // its deliveries; 0 with Begun: the task is decided, its audience was empty or Failed
	Targets   int64     // its targets
	NoQuota   bool      // the task stays pending until FreeAt
	FreeAt    time.Time // when the quota frees up, at the earliest
	Cancelled bool      // its campaign is gone
	Failed    string    // its audience view cannot be read, and why: the task is decided
}

// StartTask begins a task whose deliveries are stored one by one. The audience
// is fixed in one snapshot and sliced in the database, so that its size costs
// the daemon nothing. A task that is locked or gone is left alone.
func (s *Store) StartTask(ctx context.Context, daemonID int64, now time.Time, in Start) (Started, error) {
	var out Started
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		t, ok, err := takeTask(ctx, tx, daemonID, now, in.TaskID)
		if err != nil || !ok {
			return err
		}
		if in.Quota {
			use, free, err := reserveQuota(ctx, tx, t.appNo, t.channel, t.now)
			if err != nil {
				return err
			}
			if use == 0 {
				out.NoQuota, out.FreeAt = true, free
				return deferTask(ctx, tx, in.TaskID, lookAgain(t.now, free), t.expiresAt)
			}
			t.quotaUse = max(use, 0)
		}
		out.Begun = true
		if _, err := tx.Exec(ctx, `DELETE FROM scheduler.pending_tasks WHERE id = $1`, in.TaskID); err != nil {
			return err
		}
		out.Failed, err = viewFault(pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			out.Slices, out.Targets, err = writeSlices(ctx, tx, in, t)
			return err
		}), in.AudienceView)
		if err != nil {
			return err
		}
		return t.begin(ctx, tx, daemonID, in.TaskID, out)
	})
	if err != nil {
		return Started{}, fmt.Errorf("start task %d: %w", in.TaskID, err)
	}
	return out, nil
}

// viewFault tells what is wrong with an audience view itself, which to try again
// does not mend: it or a column of it is missing, the daemon may not read it, or
// it cannot be computed. Any other error is returned.
func viewFault(err error, view string) (fault string, _ error) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || view == "" || len(pg.Code) != 5 || !slices.Contains(viewFaults, pg.Code[:2]) {
		return "", err
	}
	fault = fmt.Sprintf("audience view %s: %s (SQLSTATE %s)", view, pg.Message, pg.Code)
	if IsDenied(pg) {
		fault += fmt.Sprintf("; the daemon needs: GRANT SELECT ON audience.%s TO scheduler_daemon", pgx.Identifier{view}.Sanitize())
	}
	return fault, nil
}

// viewFaults are classes of SQLSTATEs: not supported, more than one row, bad
// data, no such schema, and everything about names, types and privileges.
var viewFaults = []string{"0A", "21", "22", "3F", "42"}

// startingTask is a locked pending task.
type startingTask struct {
	appNo, revision int32
	campaignID      int64
	channel         string
	dueAt           time.Time
	expiresAt, now  time.Time
	origin          string
	quotaUse        int64
}

func takeTask(ctx context.Context, tx pgx.Tx, daemonID int64, now time.Time, id int64) (startingTask, bool, error) {
	var t startingTask
	rows, _ := tx.Query(ctx, `
		SELECT p.app_no, p.revision, p.campaign_id, c.channel, p.due_at, p.due_at + c.catch_up_window, coalesce($3, clock_timestamp()), p.origin::text
		  FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
		 WHERE p.id = $2 AND p.ready_at <= coalesce($3, clock_timestamp())
		   AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND `+notHeld+`
		   FOR UPDATE OF p SKIP LOCKED`, daemonID, id, at(now))
	found := false
	_, err := pgx.ForEachRow(rows, []any{&t.appNo, &t.revision, &t.campaignID, &t.channel, &t.dueAt, &t.expiresAt, &t.now, &t.origin}, func() error {
		found = true
		return nil
	})
	return t, found, err
}

// deferTask lets a task without quota wait, at the latest to the end of its
// catch-up window, where it is missed.
func deferTask(ctx context.Context, tx pgx.Tx, id int64, free, expires time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE scheduler.pending_tasks SET ready_at = greatest(due_at, least($2::timestamptz, $3::timestamptz)), waits_for = 'quota' WHERE id = $1`,
		id, free, expires)
	return err
}

// writeSlices cuts the audience into deliveries of at most PerCall targets.
func writeSlices(ctx context.Context, tx pgx.Tx, in Start, t startingTask) (slices int, targets int64, err error) {
	var source string
	var args any = ""
	switch {
	case in.PerCall == 0:
		_, err := tx.Exec(ctx, `
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at) VALUES ($1, 1, $2, $3, $4)`,
			in.TaskID, t.appNo, t.campaignID, t.dueAt)
		return 1, 0, err
	case in.Inline != nil:
		source, args = `SELECT target, NULL::jsonb AS details FROM unnest($6::text[]) AS u (target)`, in.Inline
	case in.AudienceView != "":
		// A view may name a target twice; it is pushed to once. One without a name is
		// left out of its call and told of, like any other that cannot be sent.
		source = `SELECT DISTINCT ON (coalesce(target::text, '')) coalesce(target::text, '') AS target, jsonb_build_object('k', template_key_value, 'x', extended_params) AS details
			FROM audience.` + pgx.Identifier{in.AudienceView}.Sanitize() + ` WHERE $6::text = ''`
	default:
		// The key's order is the order wanted: with the statistics of a table just
		// filled, the server would read all of it and sort.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil {
			return 0, 0, err
		}
		source, args = `SELECT target, NULL::jsonb AS details FROM scheduler.campaign_targets WHERE campaign_id = $6`, t.campaignID
	}
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil { // the context bounds it
		return 0, 0, err
	}
	row := tx.QueryRow(ctx, `
		WITH target AS (
			SELECT target, details, (row_number() OVER (ORDER BY target) - 1) / $5::integer AS n FROM (`+source+`) s
		), slice AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, targets, details)
			SELECT $1, n + 1, $2, $3, $4, array_agg(target ORDER BY target), jsonb_object_agg(target, details) FILTER (WHERE details IS NOT NULL)
			  FROM target GROUP BY n
			RETURNING cardinality(targets) AS size
		)
		SELECT count(*), coalesce(sum(size), 0) FROM slice`,
		in.TaskID, t.appNo, t.campaignID, t.dueAt, in.PerCall, args)
	err = row.Scan(&slices, &targets)
	return slices, targets, err
}

// begin writes the running task, or decides it when there is nobody to push to.
func (t startingTask) begin(ctx context.Context, tx pgx.Tx, daemonID, id int64, s Started) error {
	if t.quotaUse != 0 {
		_, err := tx.Exec(ctx, `UPDATE scheduler.quota_uses SET slice_id = (SELECT id FROM scheduler.slices WHERE task_id = $2 AND slice_no = 1) WHERE id = $1`,
			t.quotaUse, id)
		if err != nil {
			return err
		}
	}
	if s.Slices == 0 {
		status, reason := "succeeded", "empty audience"
		if s.Failed != "" {
			status, reason = "failed", s.Failed
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, decided_at,
			       attempts, slices, accepted, target_count, daemon_id, reason)
			SELECT $1, $2, $3, $4, c.channel_no, $5::scheduler.task_origin, $10::scheduler.decision, $6, $7, clock_timestamp(), 0, 0, 0, 0, $8, $11
			  FROM scheduler.channels c WHERE c.channel = $9`,
			id, t.appNo, t.campaignID, t.revision, t.origin, t.dueAt, t.now, daemonID, t.channel, status, reason)
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, expires_at, started_at, slices, targets)
		VALUES ($1, $2, $3, $4, $5::scheduler.task_origin, $6, $7, $8, $9, $10)`,
		id, t.appNo, t.campaignID, t.revision, t.origin, t.dueAt, t.expiresAt, t.now, s.Slices, s.Targets)
	return err
}

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

// A Start says how a pending task becomes a running task with stored
// deliveries. The audience view and the channel are read from the campaign as
// it stands.
type Start struct {
	TaskID   int64
	Revision int32    // of the campaign from which the other fields were worked out
	Inline   []string // targets named by the request; nil: read them from the database
	PerCall  int      // the most targets of a delivery; 0: the call takes none
	Quota    bool     // the channel may have a weekly quota
}

// A Started is the result of a Start.
type Started struct {
	Begun   bool      // the task left pending_tasks
	Slices  int       // its deliveries; 0 with Begun: the task is decided, since its audience was empty or its view cannot be read
	Targets int64     // its targets
	Decided *Decision // how it was decided, if it was
	NoQuota bool      // the task stays pending until the quota frees up
	Note    string    // how the window's end shortened the spread of its deliveries; empty: it did not
}

// StartTask begins a task whose deliveries are stored one by one. The database
// reads the audience in one snapshot and slices it, so that its size costs the
// daemon nothing. A task that is locked or gone, or whose campaign has another
// revision by now, is left alone.
func (s *Store) StartTask(ctx context.Context, daemonID int64, now time.Time, in Start) (Started, error) {
	var out Started
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		t, ok, err := takeTask(ctx, tx, daemonID, now, in)
		if err != nil || !ok {
			return err
		}
		if in.Quota {
			ok, free, err := quotaAllows(ctx, tx, t)
			if err != nil {
				return err
			}
			if !ok {
				out.NoQuota = true
				return deferTask(ctx, tx, in.TaskID, lookAgain(t.now, free), t.expiresAt)
			}
		}
		out.Begun = true
		if _, err := tx.Exec(ctx, `DELETE FROM scheduler.pending_tasks WHERE id = $1`, in.TaskID); err != nil {
			return err
		}
		return t.store(ctx, tx, daemonID, in, &out)
	})
	if err != nil {
		return Started{}, fmt.Errorf("start task %d: %w", in.TaskID, err)
	}
	return out, nil
}

// store cuts the audience and begins the task with its deliveries.
func (t *startingTask) store(ctx context.Context, tx pgx.Tx, daemonID int64, in Start, out *Started) error {
	failed, err := viewFault(pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
		out.Slices, out.Targets, err = writeSlices(ctx, tx, in, t)
		return err
	}), t.audienceView)
	if err != nil {
		return err
	}
	if out.Slices > 0 {
		return t.run(ctx, tx, in.TaskID, out)
	}
	out.Decided, err = t.decide(ctx, tx, daemonID, in.TaskID, failed)
	return err
}

// viewFault turns errors of an audience view that a retry cannot fix into a text.
// The view or one of its columns is missing, the daemon may not read the view, or
// the view cannot be computed. It returns any other error as it is.
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

// viewFaults are the SQLSTATE classes of such errors: not supported, more than
// one row, bad data, no such schema, and errors of names, types and privileges.
var viewFaults = []string{"0A", "21", "22", "3F", "42"}

// startingTask is a locked task with its campaign as it stands.
type startingTask struct {
	appNo, revision int32
	campaignID      int64
	channel         string
	audienceView    string // the view in schema audience with the targets; empty: none
	dueAt           time.Time
	windowFrom      *time.Time // where its catch-up window begins, when it is not dueAt
	expiresAt, now  time.Time
	origin          string
	spread          time.Duration // of its deliveries; zero: none
	spreadBegins    time.Time     // when it begins, once the deliveries are cut,
	spreadSeconds   float64       // and over how long they go out
}

// takeTask locks a pending task. A change of a campaign also locks its tasks, and
// gives them the campaign's new revision. So where task and campaign both have
// the wanted revision, no committed change is overlooked.
func takeTask(ctx context.Context, tx pgx.Tx, daemonID int64, now time.Time, in Start) (*startingTask, bool, error) {
	t := &startingTask{}
	rows, _ := tx.Query(ctx, `
		SELECT p.app_no, p.revision, p.campaign_id, c.channel, coalesce(c.audience_view, ''), p.due_at, p.window_from, `+pendingEnd+`,
		       coalesce($3, clock_timestamp()), p.origin::text, c.spread
		  FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
		 WHERE p.id = $2 AND p.ready_at <= coalesce($3, clock_timestamp()) AND p.revision = $4 AND c.revision = $4
		   AND EXISTS (SELECT FROM scheduler.daemons d WHERE d.id = $1 AND d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AND `+notHeld+`
		   AND `+outsideQuiet("p.app_no", "p.campaign_id", "coalesce($3, clock_timestamp())", "NULL::integer[]")+`
		   FOR UPDATE OF p SKIP LOCKED`, daemonID, in.TaskID, at(now), in.Revision)
	found := false
	_, err := pgx.ForEachRow(rows, []any{&t.appNo, &t.revision, &t.campaignID, &t.channel, &t.audienceView, &t.dueAt, &t.windowFrom, &t.expiresAt, &t.now, &t.origin, (*interval)(&t.spread)}, func() error {
		found = true
		return nil
	})
	return t, found, err
}

// deferTask lets a task without quota wait, at the latest until its catch-up
// window ends. Then the task is missed.
func deferTask(ctx context.Context, tx pgx.Tx, id int64, free, expires time.Time) error {
	_, err := tx.Exec(ctx, `UPDATE scheduler.pending_tasks SET ready_at = greatest(due_at, least($2::timestamptz, $3::timestamptz)), waits_for = 'quota' WHERE id = $1`,
		id, free, expires)
	return err
}

// writeSlices cuts the audience into deliveries of at most PerCall targets.
func writeSlices(ctx context.Context, tx pgx.Tx, in Start, t *startingTask) (slices int, targets int64, err error) {
	var cut string
	var args any
	switch {
	case in.PerCall == 0:
		_, err := tx.Exec(ctx, `
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at) VALUES ($1, 1, $2, $3, $4)`,
			in.TaskID, t.appNo, t.campaignID, t.dueAt)
		return 1, 0, err
	case in.Inline != nil:
		cut, args = cutSource(`SELECT target, NULL::jsonb AS details FROM unnest($6::text[]) AS u (target)`), in.Inline
	case t.audienceView != "":
		// A view may name a target twice; the target is pushed to once. A target
		// without a name is left out of its call and reported, like any other that
		// cannot be sent.
		cut, args = cutSource(`SELECT DISTINCT ON (coalesce(target::text, '')) coalesce(target::text, '') AS target, jsonb_build_object('k', template_key_value, 'x', extended_params) AS details
			FROM audience.`+pgx.Identifier{t.audienceView}.Sanitize()+` WHERE $6::text = ''`), ""
	default:
		// The wanted order is that of the key. By the statistics of a table that
		// was just filled, the server would read the whole table and sort it.
		if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off`); err != nil {
			return 0, 0, err
		}
		cut, args = cutRows, t.campaignID
	}
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil { // the context bounds it
		return 0, 0, err
	}
	ready, all := `$4`, []any{in.TaskID, t.appNo, t.campaignID, t.dueAt, in.PerCall, args}
	if t.spread > 0 {
		if err := t.spreadOut(ctx, tx); err != nil {
			return 0, 0, err
		}
		ready = `$4::timestamptz + $7::double precision * (slice_no - 1) / (SELECT count(*) FROM cut WHERE targets IS NOT NULL) * interval '1 second'`
		all[3] = t.spreadBegins
		all = append(all, t.spreadSeconds)
	}
	row := tx.QueryRow(ctx, `
		WITH RECURSIVE `+cut+`, slice AS (
			INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at)
			SELECT $1, slice_no, $2, $3, `+ready+` FROM cut WHERE targets IS NOT NULL
			RETURNING id, slice_no
		), listed AS (
			INSERT INTO scheduler.slice_targets (slice_id, targets, details)
			SELECT s.id, c.targets, c.details FROM slice s JOIN cut c USING (slice_no)
			RETURNING cardinality(targets) AS size
		)
		SELECT count(*), coalesce(sum(size), 0) FROM listed`, all...)
	err = row.Scan(&slices, &targets)
	return slices, targets, err
}

// cutSource cuts the targets that a query returns into lists of $5.
func cutSource(query string) string {
	return `target AS (
			SELECT target, details, (row_number() OVER (ORDER BY target) - 1) / $5::integer AS n FROM (` + query + `) s
		), cut AS MATERIALIZED (
			SELECT (n + 1)::integer AS slice_no, array_agg(target ORDER BY target) AS targets, jsonb_object_agg(target, details) FILTER (WHERE details IS NOT NULL) AS details
			  FROM target GROUP BY n
		)`
}

// cutRows cuts the rows of campaign_targets: each list goes on in the key's index
// where the one before it ended. That costs half as much as numbering and sorting
// all rows, and needs no temporary file.
const cutRows = `cut AS (
			SELECT 1 AS slice_no, (SELECT array_agg(x.target) FROM (
				SELECT t.target FROM scheduler.campaign_targets t WHERE t.campaign_id = $6 ORDER BY t.target LIMIT $5::integer) x) AS targets, NULL::jsonb AS details
			UNION ALL
			SELECT c.slice_no + 1, (SELECT array_agg(x.target) FROM (
				SELECT t.target FROM scheduler.campaign_targets t WHERE t.campaign_id = $6 AND t.target > c.targets[$5::integer] ORDER BY t.target LIMIT $5::integer) x), NULL
			  FROM cut c WHERE cardinality(c.targets) = $5::integer
		)`

// run writes the running task.
func (t *startingTask) run(ctx context.Context, tx pgx.Tx, id int64, s *Started) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets, window_from)
		VALUES ($1, $2, $3, $4, $5::scheduler.task_origin, $6, $7, $8, $9, $10)`,
		id, t.appNo, t.campaignID, t.revision, t.origin, t.dueAt, t.now, s.Slices, s.Targets, t.windowFrom)
	if err == nil && t.spread > 0 && s.Slices > 1 {
		s.Note, err = t.noteSpread(ctx, tx, id, s.Slices)
	}
	return err
}

// spreadOut works out when the spread of a task that is cut now begins, and over how
// many seconds its deliveries go out.
func (t *startingTask) spreadOut(ctx context.Context, tx pgx.Tx) error {
	t.spreadBegins = t.dueAt
	if t.now.Sub(t.dueAt) > makeUpFor {
		t.spreadBegins = t.now
	}
	return tx.QueryRow(ctx, `SELECT scheduler.spread_seconds($1, 1, $2, $3)`, t.spread, t.spreadBegins, t.expiresAt).Scan(&t.spreadSeconds)
}

// noteSpread stores with the running task the values from which the times of its
// deliveries were worked out.
func (t *startingTask) noteSpread(ctx context.Context, tx pgx.Tx, id int64, slices int) (note string, err error) {
	err = tx.QueryRow(ctx, `
		UPDATE scheduler.running_tasks SET spread = $2, spread_until = $3::timestamptz + $4::double precision * interval '1 second', spread_note = scheduler.spread_note($2, $5, $5, $4)
		 WHERE id = $1 RETURNING coalesce(spread_note, '')`, id, t.spread, t.spreadBegins, t.spreadSeconds, slices).Scan(&note)
	return note, err
}

// decide ends a task that has nobody to push to, or whose audience cannot be read.
func (t *startingTask) decide(ctx context.Context, tx pgx.Tx, daemonID, id int64, failed string) (*Decision, error) {
	status, reason := "succeeded", "empty audience"
	if failed != "" {
		status, reason = "failed", failed
	}
	rows, _ := tx.Query(ctx, `
		WITH ending AS (
			SELECT ($2::bigint, $3::integer, $4::bigint, $5::integer, NULL, $6::text, $7::text, $8::timestamptz, $9::timestamptz, NULL,
			        0, 0, 0, 0, $1::bigint, $10::text, NULL, NULL, NULL, NULL, NULL)::scheduler.ending AS e
		)`+decideSQL, daemonID, id, t.appNo, t.campaignID, t.revision, t.origin, status, t.dueAt, t.now, reason)
	decided, err := pgx.CollectRows(rows, scanDecision)
	if err != nil || len(decided) == 0 { // takeUntold reports a refused decision
		return nil, err
	}
	return &decided[0], nil
}

// Recut slices a waiting delivery anew whose targets are not known any more,
// since the daemon that had begun it is gone. It makes as many deliveries as the
// current audience needs. Each gets the attempts of the old one. in has the
// revision with which the delivery was read. When the campaign has another
// revision by now, or an author holds the campaign, or the delivery has begun,
// nothing happens and done is false.
//
// Where the audience is empty now, or its view cannot be read, the delivery
// ends.
func (s *Store) Recut(ctx context.Context, w WaitingDelivery, in Start) (done bool, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		t := &startingTask{}
		rows, _ := tx.Query(ctx, `
			SELECT s.app_no, s.campaign_id, s.ready_at, coalesce(c.audience_view, ''), c.spread, clock_timestamp(), `+runningEnd+` FROM scheduler.slices s
			  JOIN scheduler.running_tasks r ON r.id = s.task_id
			  JOIN scheduler.campaigns c ON c.id = s.campaign_id
			 WHERE s.id = $1 AND s.status = 'waiting' AND s.attempts = $2 AND c.revision = $3 AND r.slices = 1
			   FOR SHARE OF c SKIP LOCKED FOR UPDATE OF s SKIP LOCKED`, w.ID, w.Attempts, w.Revision)
		_, err := pgx.ForEachRow(rows, []any{&t.appNo, &t.campaignID, &t.dueAt, &t.audienceView, (*interval)(&t.spread), &t.now, &t.expiresAt}, func() error { done = true; return nil })
		if err != nil || !done {
			return err
		}
		in.TaskID = w.TaskID
		// The old delivery gets a number that no new one has: these are
		// numbered from one.
		if _, err := tx.Exec(ctx, `UPDATE scheduler.slices SET slice_no = $2 WHERE id = $1`, w.ID, 1<<31-1); err != nil {
			return err
		}
		var slices int
		var targets int64
		fault, err := viewFault(pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
			slices, targets, err = writeSlices(ctx, tx, in, t)
			return err
		}), t.audienceView)
		if err != nil {
			return err
		}
		if slices == 0 {
			_, err := tx.Exec(ctx, `
				UPDATE scheduler.slices
				   SET slice_no = 1, finished_at = clock_timestamp(), reason = coalesce(nullif($2, ''), reason),
				       status = CASE WHEN maybe_sent THEN 'unknown' WHEN $2 = '' THEN 'accepted' ELSE 'failed' END::scheduler.slice_status
				 WHERE id = $1`, w.ID, fault)
			return err
		}
		_, err = tx.Exec(ctx, `
			WITH old AS (
				DELETE FROM scheduler.slices WHERE id = $1 RETURNING task_id, attempts, maybe_sent, sent_at, reason
			), task AS (
				UPDATE scheduler.running_tasks SET slices = $2, targets = $3 WHERE id = (SELECT task_id FROM old)
			)
			UPDATE scheduler.slices s SET attempts = o.attempts, maybe_sent = o.maybe_sent, sent_at = o.sent_at, reason = o.reason
			  FROM old o WHERE s.task_id = o.task_id AND s.id <> $1`, w.ID, slices, targets)
		if err == nil && t.spread > 0 && slices > 1 {
			_, err = t.noteSpread(ctx, tx, w.TaskID, slices)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("slice delivery %d anew: %w", w.ID, err)
	}
	return done, nil
}

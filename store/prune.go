package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A PrunedColumn is a column of a removed task in the files of prune.
type PrunedColumn struct {
	Name string
	JSON bool // its text is JSON, such as a number or an array; else it is plain text
	sql  string
}

// PrunedColumns lists everything that is kept of a task when it is removed.
var PrunedColumns = []PrunedColumn{
	{"task_id", true, `d.id`},
	{"campaign_id", true, `d.campaign_id`},
	{"campaign", false, `k.name`},
	{"app_id", false, `a.app_id`},
	{"workspace_id", false, `a.workspace_id`},
	{"channel", false, `c.channel`},
	{"revision", true, `d.revision`},
	{"origin", false, `d.origin`},
	{"status", false, `d.status`},
	{"reason", false, `d.reason`},
	{"due_at", false, utc(`d.due_at`)},
	{"started_at", false, utc(`d.started_at`)},
	{"sent_at", false, utc(`d.sent_at`)},
	{"decided_at", false, utc(`d.decided_at`)},
	{"attempts", true, `d.attempts`},
	{"deliveries", true, `d.slices`},
	{"accepted", true, `d.accepted`},
	{"target_count", true, `d.target_count`},
	{"daemon_id", true, `d.daemon_id`},
	{"code", false, `d.code`},
	{"message", false, `d.message`},
	{"request_id", false, `d.request_id`},
	{"message_id", false, `d.message_id`},
	{"targets", true, `to_json(d.targets)`},
	// The deliveries of a task that has several. The task's own row does not have them.
	{"slices", true, `(SELECT json_agg(json_build_object('slice_no', s.slice_no, 'status', s.status, 'attempts', s.attempts, 'targets', coalesce((SELECT x.targets FROM scheduler.slice_targets x WHERE x.slice_id = s.id), '{}'),
		'reason', s.reason, 'code', s.code, 'message', s.message, 'request_id', s.request_id, 'message_id', s.message_id,
		'sent_at', ` + utc(`s.sent_at`) + `, 'finished_at', ` + utc(`s.finished_at`) + `) ORDER BY s.slice_no) FROM scheduler.slices s WHERE s.task_id = d.id)`},
}

// utc returns the SQL that writes a time in UTC as RFC 3339 wants.
func utc(column string) string {
	return `to_char(` + column + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
}

// A Pruned is a task that is about to be removed: its PrunedColumns as text,
// nil where there is no value.
type Pruned []*string

// Pages returns how many pages of decided tasks there are.
func (s *Store) Pages(ctx context.Context) (int64, error) {
	var n int64
	err := s.db.QueryRow(ctx, `
		SELECT pg_relation_size('scheduler.decided_tasks') / current_setting('block_size')::integer`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("measure decided tasks: %w", err)
	}
	return n, nil
}

// Prune removes the decided tasks of the pages [from, to) that were decided
// before the given moment, with their deliveries, and returns how many it
// removed. Unknown tasks wait for a ruling and stay. keep, unless it is nil,
// gets the tasks first. When it returns nil, the tasks must be durable
// elsewhere, since the removal commits after it. It may get a task again whose
// removal did not commit. Nothing happens while another pruner is at work.
//
// The table is read page by page and not through an index: an index on
// decided_at would cost every decision, and retention is not urgent.
func (s *Store) Prune(ctx context.Context, before time.Time, from, to int64, keep func([]Pruned) error) (int64, error) {
	var n int64
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		alone, err := tryLockRow(ctx, tx, pruneLock, 0)
		if err != nil || !alone {
			return err
		}
		ids, tasks, err := oldTasks(ctx, tx, before, from, to, keep != nil)
		if err != nil || len(ids) == 0 {
			return err
		}
		if keep != nil {
			if err := keep(tasks); err != nil {
				return fmt.Errorf("keep them elsewhere: %w", err)
			}
		}
		n, err = removeTasks(ctx, tx, ids)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune tasks: %w", err)
	}
	return n, nil
}

const pruneSQL = `
	WITH old AS MATERIALIZED (
		SELECT d.* FROM scheduler.decided_tasks d
		 WHERE d.ctid >= format('(%s,0)', $2::bigint)::tid AND d.ctid < format('(%s,0)', $3::bigint)::tid AND d.decided_at < $1 AND d.status <> 'unknown'
		   FOR UPDATE
	)`

func oldTasks(ctx context.Context, tx pgx.Tx, before time.Time, from, to int64, whole bool) (ids []int64, tasks []Pruned, err error) {
	if !whole {
		rows, _ := tx.Query(ctx, pruneSQL+` SELECT id FROM old`, before, from, to)
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return ids, nil, err
	}
	list := make([]string, len(PrunedColumns))
	for i, c := range PrunedColumns {
		list[i] = c.sql + "::text"
	}
	rows, _ := tx.Query(ctx, pruneSQL+` SELECT d.id, ARRAY[`+strings.Join(list, ", ")+`]
		  FROM old d JOIN scheduler.channels c USING (channel_no)
		  LEFT JOIN scheduler.apps a USING (app_no) LEFT JOIN scheduler.campaigns k ON k.id = d.campaign_id`, before, from, to)
	var id int64
	var task Pruned
	_, err = pgx.ForEachRow(rows, []any{&id, &task}, func() error {
		ids, tasks, task = append(ids, id), append(tasks, task), nil
		return nil
	})
	return ids, tasks, err
}

func removeTasks(ctx context.Context, tx pgx.Tx, ids []int64) (int64, error) {
	if _, err := tx.Exec(ctx, `
		WITH gone AS (DELETE FROM scheduler.slices WHERE task_id = ANY($1) RETURNING id)
		DELETE FROM scheduler.slice_targets WHERE slice_id IN (SELECT id FROM gone)`, ids); err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `DELETE FROM scheduler.decided_tasks WHERE id = ANY($1)`, ids)
	return tag.RowsAffected(), err
}

// PruneBooks removes rows that only the engine needed: ended daemons, and uses
// of quotas that left every window long ago.
func (s *Store) PruneBooks(ctx context.Context) error {
	_, err := s.db.Exec(ctx, `
		WITH d AS (
			DELETE FROM scheduler.daemons d WHERE d.ended_at < clock_timestamp() - interval '30 days'
			   AND NOT EXISTS (SELECT FROM scheduler.claims c WHERE c.daemon_id = d.id)
		)
		DELETE FROM scheduler.quota_uses WHERE used_at < clock_timestamp() - interval '60 days'`)
	if err != nil {
		return fmt.Errorf("prune books: %w", err)
	}
	return nil
}

// PruneStep removes some rows of one kind that are older than age. It returns how many
// rows it removed; zero: none is left. Only an admin may call it.
func (s *Store) PruneStep(ctx context.Context, what Kept, age time.Duration) (int64, error) {
	sql := map[Kept]string{
		KeptHistory: `SELECT scheduler.prune_history(clock_timestamp() - $1 * interval '1 microsecond')`,
		KeptTargets: `SELECT scheduler.prune_ended(clock_timestamp() - $1 * interval '1 microsecond')`,
	}[what]
	var n int64
	if err := s.db.QueryRow(ctx, sql, age.Microseconds()).Scan(&n); err != nil {
		return 0, fmt.Errorf("prune %s: %w", what, err)
	}
	return n, nil
}

// A Kept is a kind of rows that stay until an admin removes them.
type Kept string

// The kinds of rows that are kept.
const (
	KeptHistory Kept = "history" // audits of changes
	KeptTargets Kept = "targets" // of campaigns that have ended
)

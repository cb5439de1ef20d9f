package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pending tasks, as people look at them. No index has those of all apps in the order of
// their time: it would cost every task. Each app's have one, so that a page asks the
// apps, each with one look, and then reads what it shows.

// waitsUpTo is how far behind the clock a task is looked at again that waits for a quota,
// with some room: see lookAgain. Every other pending task is ready when it is due.
const waitsUpTo = `interval '2 minutes'`

// pendingFor is the pending tasks as the role may read them: the table, or, for those who
// see some apps, scheduler.upcoming.
func pendingFor(some bool) string {
	if some {
		return `(SELECT u.task_id AS id, u.app_no, u.campaign_id, u.due_at, u.ready_at, u.waits_for FROM scheduler.upcoming u)`
	}
	return `scheduler.pending_tasks`
}

// pendingIDs is the statement that chooses the ids of the filter's pending tasks, the
// earliest due first, or the latest. It looks once into each app that the filter names,
// reads on in those that have the first tasks, and looks at all that waits for a quota.
func (f Filter) pendingIDs(some, latest bool) (sql string, args []any) {
	order, behind := "", ">"
	if latest {
		order, behind = " DESC", "<"
	}
	where := &conditions{}
	add(where, "a.app_id = ?", f.AppID)
	add(where, "a.workspace_id = ?", f.WorkspaceID)
	apps := where.sql()
	where.where = nil
	if f.behind.ID != 0 {
		where.args = append(where.args, f.behind.DueAt, f.behind.ID)
		where.where = append(where.where, fmt.Sprintf("(p.due_at, p.id) %s ($%d, $%d)", behind, len(where.args)-1, len(where.args)))
	}
	add(where, "p.due_at >= ?", f.Since)
	add(where, "p.due_at < ?", f.Until)
	waiting := where.sql()
	// ready_at is due_at here, and what the index has.
	add(where, "p.ready_at >= ?", f.Since)
	add(where, "p.ready_at < ?", f.Until)
	limit := where.limit(f.Limit)
	hasQuota := "true" // app_quotas is not for everybody
	if !some {
		hasQuota = `(EXISTS (SELECT FROM scheduler.channels k WHERE k.provider = a.provider AND k.weekly_quota > 0)
			OR EXISTS (SELECT FROM scheduler.app_quotas q WHERE q.app_no = a.app_no))`
	}
	first := fmt.Sprintf(`SELECT p.id, p.due_at FROM %s p WHERE p.app_no = a.app_no AND p.waits_for IS NULL AND %s ORDER BY p.ready_at%[3]s, p.id%[3]s LIMIT `,
		pendingFor(some), where.sql(), order)
	return fmt.Sprintf(`
		WITH first AS MATERIALIZED (
		  SELECT a.app_no FROM scheduler.apps a CROSS JOIN LATERAL (%[1]s1) x WHERE %[2]s ORDER BY x.due_at%[3]s, x.id%[3]s LIMIT %[4]s)
		SELECT t.id FROM (
		  SELECT x.id, x.due_at FROM first a CROSS JOIN LATERAL (%[1]s%[4]s) x
		  UNION ALL
		  SELECT x.id, x.due_at FROM scheduler.apps a
		   CROSS JOIN LATERAL (SELECT p.id, p.due_at FROM %[5]s p
		                        WHERE p.app_no = a.app_no AND p.ready_at < now() + %[6]s AND p.waits_for IS NOT NULL AND %[7]s
		                        ORDER BY p.due_at%[3]s, p.id%[3]s LIMIT %[4]s) x
		   WHERE %[2]s AND %[8]s
		) t ORDER BY t.due_at%[3]s, t.id%[3]s LIMIT %[4]s`, first, apps, order, limit, pendingFor(some), waitsUpTo, waiting, hasQuota), where.args
}

// countOverdue counts pending tasks of the last minute and before that wait for nothing,
// up to so many.
func countOverdue(some bool, most int) string {
	return fmt.Sprintf(`SELECT count(*) FROM (
		SELECT FROM scheduler.apps a CROSS JOIN LATERAL (
		  SELECT FROM %s p WHERE p.app_no = a.app_no AND p.ready_at < now() - interval '1 minute' AND p.waits_for IS NULL LIMIT %[2]d) x LIMIT %[2]d) x`,
		pendingFor(some), most)
}

// countPending counts pending tasks for stretches of time, up to so many.
func countPending(ctx context.Context, tx pgx.Tx, some bool, bounds []time.Time, f Filter, most int) ([]DayCount, error) {
	where, last := &conditions{}, len(bounds)-1
	add(where, "a.app_id = ?", f.AppID)
	add(where, "a.workspace_id = ?", f.WorkspaceID)
	where.args = append(where.args, bounds[0], bounds[last], bounds[:last], most)
	n := len(where.args)
	rows, _ := tx.Query(ctx, fmt.Sprintf(`
		SELECT width_bucket(x.due_at, $%[1]d::timestamptz[]) - 1, 'pending', count(*), sum(count(*)) OVER () >= $%[2]d
		  FROM (SELECT x.due_at FROM scheduler.apps a CROSS JOIN LATERAL (
		          SELECT p.due_at FROM %[3]s p
		           WHERE p.app_no = a.app_no AND p.ready_at >= $%[4]d AND p.ready_at < greatest($%[5]d, now() + %[6]s) AND p.due_at >= $%[4]d AND p.due_at < $%[5]d
		           LIMIT $%[2]d) x
		         WHERE %[7]s LIMIT $%[2]d) x
		 GROUP BY 1 ORDER BY 1`, n-1, n, pendingFor(some), n-3, n-2, waitsUpTo, where.sql()), where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
}

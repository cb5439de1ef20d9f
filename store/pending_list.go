package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pending tasks, as people look at them. Those of all apps are in the order of their time
// in an index, and those of each app in another: whoever sees all apps and asks for none
// reads what is shown. Else the apps are asked, each with one look, before that is read.

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
	of := func(app string) string {
		return fmt.Sprintf(`SELECT p.id, p.due_at FROM %s p WHERE %s p.waits_for IS NULL AND %s ORDER BY p.ready_at%[4]s, p.id%[4]s LIMIT `,
			pendingFor(some), app, where.sql(), order)
	}
	first := `(` + of("") + limit + `)`
	if ofApp := of("p.app_no = a.app_no AND"); f.ofApps(some) {
		first = fmt.Sprintf(`(
		  WITH first AS MATERIALIZED (
		    SELECT a.app_no FROM scheduler.apps a CROSS JOIN LATERAL (%[1]s1) x WHERE %[2]s ORDER BY x.due_at%[3]s, x.id%[3]s LIMIT %[4]s)
		  SELECT x.id, x.due_at FROM first a CROSS JOIN LATERAL (%[1]s%[4]s) x)`, ofApp, apps, order, limit)
	}
	return fmt.Sprintf(`
		SELECT t.id FROM (
		  %[1]s
		  UNION ALL
		  SELECT x.id, x.due_at FROM scheduler.apps a
		   CROSS JOIN LATERAL (SELECT p.id, p.due_at FROM %[5]s p
		                        WHERE p.app_no = a.app_no AND p.ready_at < now() + %[6]s AND p.waits_for IS NOT NULL AND %[7]s
		                        ORDER BY p.due_at%[3]s, p.id%[3]s LIMIT %[4]s) x
		   WHERE %[2]s AND %[8]s
		) t ORDER BY t.due_at%[3]s, t.id%[3]s LIMIT %[4]s`, first, apps, order, limit, pendingFor(some), waitsUpTo, waiting, hasQuota), where.args
}

// ofApps says that a filter is of some of the apps.
func (f Filter) ofApps(some bool) bool { return some || f.AppID != "" || f.WorkspaceID != "" }

// pendingUpTo selects columns of the filter's pending tasks p under a condition on their
// time, at most so many.
func (f Filter) pendingUpTo(some bool, where *conditions, columns, condition, most string) string {
	if !f.ofApps(some) {
		return fmt.Sprintf(`SELECT %s FROM scheduler.pending_tasks p WHERE %s LIMIT %s`, columns, condition, most)
	}
	apps := &conditions{args: where.args}
	add(apps, "a.app_id = ?", f.AppID)
	add(apps, "a.workspace_id = ?", f.WorkspaceID)
	where.args = apps.args
	return fmt.Sprintf(`SELECT x.* FROM scheduler.apps a CROSS JOIN LATERAL (
		SELECT %s FROM %s p WHERE p.app_no = a.app_no AND %s LIMIT %[4]s) x WHERE %[5]s LIMIT %[4]s`, columns, pendingFor(some), condition, most, apps.sql())
}

// countOverdue counts pending tasks of the last minute and before that wait for nothing,
// up to so many.
func countOverdue(some bool, most int) string {
	return `SELECT count(*) FROM (` +
		Filter{}.pendingUpTo(some, &conditions{}, "", `p.ready_at < now() - interval '1 minute' AND p.waits_for IS NULL`, fmt.Sprint(most)) + `) x`
}

// countPending counts pending tasks for stretches of time, up to so many.
func countPending(ctx context.Context, tx pgx.Tx, some bool, bounds []time.Time, f Filter, most int) ([]DayCount, error) {
	last := len(bounds) - 1
	where := &conditions{args: []any{bounds[0], bounds[last], bounds[:last], most}}
	tasks := f.pendingUpTo(some, where, "p.due_at", `p.ready_at >= $1 AND p.ready_at < greatest($2, now() + `+waitsUpTo+`) AND p.due_at >= $1 AND p.due_at < $2`, "$4")
	rows, _ := tx.Query(ctx, `
		SELECT width_bucket(x.due_at, $3::timestamptz[]) - 1, 'pending', count(*), sum(count(*)) OVER () >= $4 FROM (`+tasks+`) x GROUP BY 1 ORDER BY 1`, where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
}

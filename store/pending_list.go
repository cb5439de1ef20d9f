package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Lists of pending tasks for people. One index has the tasks of all apps in the order
// of their time, another has those of each app. A reader who sees all apps and names
// none reads the first index, and no more rows than are shown. For all others, each app
// is first looked at once, then the tasks are read by the second index.

// Tasks that wait for a quota or for the end of quiet hours are ready later than they
// are due, and have an index of their own. Every other pending task is ready when it is
// due.

// pendingFor returns where the role may read pending tasks: the table, or
// scheduler.upcoming for a role that sees only some apps.
func pendingFor(some bool) string {
	if some {
		return `(SELECT u.task_id AS id, u.app_no, u.campaign_id, u.due_at, u.ready_at, u.waits_for FROM scheduler.upcoming u)`
	}
	return `scheduler.pending_tasks`
}

// pendingIDs returns the statement that chooses the ids of the filter's pending tasks,
// the earliest due first, or the latest. It looks once into each app of the filter,
// reads on in the apps that have the first tasks, and adds the first tasks that wait.
func (f Filter) pendingIDs(some, latest bool) (sql string, args []any) {
	order, behind := "", ">"
	if latest {
		order, behind = " DESC", "<"
	}
	where := f.appConditions("a", nil)
	apps := where.sql()
	where.where = nil
	if f.behind.ID != 0 {
		where.args = append(where.args, f.behind.DueAt, f.behind.ID)
		where.where = append(where.where, fmt.Sprintf("(p.due_at, p.id) %s ($%d, $%d)", behind, len(where.args)-1, len(where.args)))
	}
	add(where, "p.due_at >= ?", f.Since)
	add(where, "p.due_at < ?", f.Until)
	waiting := where.sql()
	// Here ready_at equals due_at, and the index has ready_at.
	add(where, "p.ready_at >= ?", f.Since)
	add(where, "p.ready_at < ?", f.Until)
	limit := where.limit(f.Limit)
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
	wait := func(app string) string {
		return fmt.Sprintf(`SELECT p.id, p.due_at FROM %s p WHERE %s p.waits_for IS NOT NULL AND %s ORDER BY p.due_at%[4]s, p.id%[4]s LIMIT %[5]s`,
			pendingFor(some), app, waiting, order, limit)
	}
	waits := wait("")
	if f.ofApps(some) {
		waits = `SELECT x.id, x.due_at FROM scheduler.apps a CROSS JOIN LATERAL (` + wait("p.app_no = a.app_no AND") + `) x WHERE ` + apps
	}
	return fmt.Sprintf(`SELECT t.id FROM (%s UNION ALL (%s)) t ORDER BY t.due_at%[3]s, t.id%[3]s LIMIT %[4]s`, first, waits, order, limit), where.args
}

// ofApps says whether a filter covers only some of the apps.
func (f Filter) ofApps(some bool) bool { return some || f.AppID != "" || f.WorkspaceID != "" }

// pendingUpTo selects columns of the filter's pending tasks p under a condition on
// their time, at most most rows.
func (f Filter) pendingUpTo(some bool, where *conditions, columns, condition, most string) string {
	if !f.ofApps(some) {
		return fmt.Sprintf(`SELECT %s FROM scheduler.pending_tasks p WHERE %s LIMIT %s`, columns, condition, most)
	}
	apps := f.appConditions("a", where.args)
	where.args = apps.args
	return fmt.Sprintf(`SELECT x.* FROM scheduler.apps a CROSS JOIN LATERAL (
		SELECT %s FROM %s p WHERE p.app_no = a.app_no AND %s LIMIT %[4]s) x WHERE %[5]s LIMIT %[4]s`, columns, pendingFor(some), condition, most, apps.sql())
}

// countOverdue counts pending tasks that have been ready for longer than a minute and
// wait for no quota, up to most.
func countOverdue(some bool, most int) string {
	return `SELECT count(*) FROM (` +
		Filter{}.pendingUpTo(some, &conditions{}, "", `p.ready_at < now() - interval '1 minute' AND p.waits_for IS DISTINCT FROM 'quota'`, fmt.Sprint(most)) + `) x`
}

// countPending counts the pending tasks between each two bounds, up to most.
func countPending(ctx context.Context, tx pgx.Tx, some bool, bounds []time.Time, f Filter, most int) ([]DayCount, error) {
	last := len(bounds) - 1
	where := &conditions{args: []any{bounds[0], bounds[last], bounds[:last], most}}
	ready := f.pendingUpTo(some, where, "p.due_at", `p.waits_for IS NULL AND p.ready_at >= $1 AND p.ready_at < $2`, "$4")
	waiting := f.pendingUpTo(some, where, "p.due_at", `p.waits_for IS NOT NULL AND p.due_at >= $1 AND p.due_at < $2`, "$4")
	rows, _ := tx.Query(ctx, `
		SELECT width_bucket(x.due_at, $3::timestamptz[]) - 1, 'pending', count(*), sum(count(*)) OVER () >= $4
		  FROM ((`+ready+`) UNION ALL (`+waiting+`) LIMIT $4) x GROUP BY 1 ORDER BY 1`, where.args...)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayCount])
}

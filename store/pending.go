package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A ReadyTask is a pending task that the dispatcher has to begin soon.
type ReadyTask struct {
	ID         int64
	AppNo      int32
	CampaignID int64
	Revision   int32
	Origin     string
	DueAt      time.Time
	ReadyAt    time.Time
	WindowFrom time.Time // where its catch-up window begins; zero: at DueAt
	WaitsFor   string
}

// pendingApps begins a statement with the apps that have pending tasks, as app
// (app_no).
var pendingApps = hop("app_no", "true") + `, app AS (SELECT app_no FROM hop WHERE app_no IS NOT NULL)`

// hop begins a statement with the values that a column of pending tasks has, in their
// order, as hop; the last one is NULL. first is the condition on the first value. It
// hops through the column's index from value to value, so that each costs one look,
// however many tasks have it.
func hop(column, first string) string {
	return fmt.Sprintf(`
	WITH RECURSIVE hop AS (
		(SELECT %[1]s FROM scheduler.pending_tasks WHERE %[2]s ORDER BY %[1]s LIMIT 1)
		UNION ALL
		SELECT (SELECT p.%[1]s FROM scheduler.pending_tasks p WHERE p.%[1]s > hop.%[1]s ORDER BY p.%[1]s LIMIT 1)
		  FROM hop WHERE hop.%[1]s IS NOT NULL
	)`, column, first)
}

// Upcoming returns pending tasks that are ready before the given instant, in the
// order of (ready_at, id), at most perApp of each app and limit of all, leaving
// out the apps in without. share and shares split the apps among daemons: only
// apps whose number is share modulo shares, and those in also, are returned. more
// says that tasks may have been left out because of these bounds.
//
// It first reads the earliest tasks of all apps. Where few of these may be
// returned, it then reads the earliest tasks of each app that may be.
func (s *Store) Upcoming(ctx context.Context, before time.Time, without, also []int32, share, shares, perApp, limit int) (tasks []ReadyTask, more bool, err error) {
	if shares == 1 && len(without) == 0 {
		tasks, more, err = s.upcoming(ctx, earliestOfAllSQL, perApp, before, limit)
	} else {
		most := limit * min(shares, maxShares)
		tasks, more, err = s.upcoming(ctx, earliestSQL, perApp, before, orEmpty(without), share, shares, orEmpty(also), most, limit)
	}
	if err == nil && more && len(tasks) < limit/2 {
		tasks, more, err = s.upcoming(ctx, earliestOfEachSQL, perApp, before, orEmpty(without), share, shares, orEmpty(also), perApp, limit)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read upcoming tasks: %w", err)
	}
	return tasks[:min(len(tasks), limit)], more || len(tasks) >= limit, nil
}

// maxShares bounds how many tasks of other daemons' apps one daemon reads.
const maxShares = 8

// upcoming returns the tasks that one of the statements reads, at most
// perApp of each app. more says that it did not read or return all of them.
func (s *Store) upcoming(ctx context.Context, sql string, perApp int, args ...any) (tasks []ReadyTask, more bool, err error) {
	rows, _ := s.db.Query(ctx, sql, args...)
	var t ReadyTask
	var window *time.Time
	ofApp := make(map[int32]int)
	_, err = pgx.ForEachRow(rows, []any{&t.ID, &t.AppNo, &t.CampaignID, &t.Revision, &t.Origin, &t.DueAt, &t.ReadyAt, &window, &t.WaitsFor}, func() error {
		t.WindowFrom = orZero(window)
		ofApp[t.AppNo]++
		switch {
		case t.ID == 0 || ofApp[t.AppNo] > perApp:
			more = true
		default:
			tasks = append(roomy(tasks), t)
		}
		return nil
	})
	slices.SortFunc(tasks, func(a, b ReadyTask) int { return cmp.Or(a.ReadyAt.Compare(b.ReadyAt), cmp.Compare(a.ID, b.ID)) })
	return tasks, more, err
}

// roomy returns list with room for one more. A full list doubles, since append copies
// lists of thousands again and again.
func roomy[T any](list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	return slices.Grow(list, max(len(list), 64))
}

// The statements that leave out apps return one more row, with the id 0, where
// there may be more tasks than they read.
const (
	isWanted = `(app_no % $4 = $3 OR app_no = ANY($5)) AND app_no <> ALL($2)`

	upcomingColumns = `
		SELECT id, app_no, campaign_id, revision, origin::text, due_at, ready_at, window_from, coalesce(waits_for, '')`

	// Where no app is left out, it costs a third of earliestSQL.
	earliestOfAllSQL = upcomingColumns + `
		  FROM scheduler.pending_tasks WHERE ready_at <= $1 ORDER BY ready_at, id LIMIT $2`

	earliestSQL = `
		WITH earliest AS MATERIALIZED (
			SELECT id, app_no, campaign_id, revision, origin, due_at, ready_at, window_from, waits_for
			  FROM scheduler.pending_tasks WHERE ready_at <= $1 ORDER BY ready_at, id LIMIT $6
		)` + upcomingColumns + `
		  FROM earliest WHERE ` + isWanted + `
		 UNION ALL
		SELECT 0, 0, 0, 0, '', $1, $1, NULL, ''
		 WHERE (SELECT count(*) FROM earliest) >= $6
		 LIMIT $7`
)

// From all apps together it reads at most twice as many tasks as it returns, so
// that the tasks that are not returned cost no more than the others.
var earliestOfEachSQL = pendingApps + `, mine AS MATERIALIZED (
			SELECT app_no FROM app WHERE ` + isWanted + `
		), each AS MATERIALIZED (
			SELECT greatest(1, least($6, 2 * $7 / greatest(count(*), 1))) AS most FROM mine
		), earliest AS MATERIALIZED (
			SELECT t.*
			  FROM mine m CROSS JOIN LATERAL (
				SELECT * FROM scheduler.pending_tasks p
				 WHERE p.app_no = m.app_no AND p.ready_at <= $1 ORDER BY p.ready_at, p.id LIMIT (SELECT most FROM each)) t
		)` + upcomingColumns + `
		  FROM earliest
		 UNION ALL
		SELECT 0, 0, 0, 0, '', $1, $1, NULL, ''
		 WHERE EXISTS (SELECT FROM earliest GROUP BY app_no HAVING count(*) >= (SELECT most FROM each))`

// Missed decides pending tasks as missed. Each must still have the Revision on
// which the decision was made, so that its campaign's window and policy are as
// they were. Whether quiet hours make it missed is checked again, since they
// may have changed. Missed reads TaskID, Revision and Reason, and returns the
// decisions it recorded. It leaves tasks alone that are locked, gone or
// changed.
func (s *Store) Missed(ctx context.Context, daemonID int64, misses []Decision) ([]Decision, error) {
	ids, revisions, reasons := make([]int64, len(misses)), make([]int32, len(misses)), make([]string, len(misses))
	for i, m := range misses {
		ids[i], revisions[i], reasons[i] = m.TaskID, m.Revision, m.Reason
	}
	rows, _ := s.db.Query(ctx, `
		WITH mine AS MATERIALIZED (
			SELECT p.id, u.reason
			  FROM unnest($2::bigint[], $3::integer[], $4::text[]) AS u (id, revision, reason)
			  JOIN scheduler.pending_tasks p ON p.id = u.id AND p.revision = u.revision
			 WHERE u.reason <> '`+QuietReason+`' OR scheduler.quiet_skips(p.campaign_id, p.due_at) FOR UPDATE OF p SKIP LOCKED
		), gone AS (
			DELETE FROM scheduler.pending_tasks p USING mine WHERE p.id = mine.id RETURNING p AS task, mine.reason
		), ending AS (
			SELECT scheduler.unbegun(task, 'missed', reason, $1) AS e FROM gone
		)`+decideSQL, daemonID, ids, revisions, reasons)
	out, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return nil, fmt.Errorf("record missed tasks: %w", err)
	}
	return out, nil
}

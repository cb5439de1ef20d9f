//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// request is one PushMultiple call to one target.
const request = `{"deliveryType": 3, "expiredSeconds": 600, "templateName": "welcome",
	"targetMsgs": [{"target": "user-1", "templateKeyValue": {"name": "Li Lei"}}]}`

// A fill is campaigns with pending tasks, spread over the apps in turn.
type fill struct {
	tasks     int
	campaigns int // zero: one for each task
	due       time.Time
	spread    time.Duration // dues are spread evenly over it
	history   int           // decided tasks of the days before, one of each campaign a day
	further   bool          // the campaigns have occurrences after the pending one
	unplaced  bool          // no pending tasks and cursors: the planner has yet to look
}

// fill writes rows as the triggers and the planner would, many at once: that is
// setting the stage, not the play.
func (d *database) fill(ctx context.Context, f fill) error {
	err := pgx.BeginFunc(ctx, d, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		first, err := insertCampaigns(ctx, tx, f)
		if err != nil {
			return err
		}
		if f.unplaced {
			_, err = tx.Exec(ctx, `INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT app_no, id FROM scheduler.campaigns WHERE id > $1`, first)
			return err
		}
		if err := insertTasks(ctx, tx, f, first); err != nil {
			return err
		}
		return insertHistory(ctx, tx, f, first)
	})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// insertCampaigns writes daily campaigns and returns the id before their first.
// Their first occurrence is the due time, to the second.
func insertCampaigns(ctx context.Context, tx pgx.Tx, f fill) (first int64, err error) {
	var apps int
	err = tx.QueryRow(ctx, `SELECT (SELECT coalesce(max(id), 0) FROM scheduler.campaigns), (SELECT count(*) FROM scheduler.apps)`).Scan(&first, &apps)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO scheduler.campaigns (id, name, app_id, workspace_id, channel, strategy_type, strategy_content, request, time_zone,
		       misfire_policy, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT $1 + i, 'bench', a.app_id, a.workspace_id, 'mpaas.push_multiple', 2,
		       jsonb_build_object('startTime', extract(epoch FROM start)::bigint * 1000, 'endTime', extract(epoch FROM start + interval '100 days')::bigint * 1000,
		                          'circleType', 1, 'time', to_char(due AT TIME ZONE 'Asia/Shanghai', 'HH24:MI:SS')),
		       $2, 'Asia/Shanghai', 'all', a.app_no, written, 'bench', 'bench', now(), now()
		  FROM generate_series(1, $3::bigint) AS i
		 CROSS JOIN LATERAL (SELECT $4::timestamptz + ($5::bigint * (i - 1) / $6::bigint) * interval '1 microsecond' AS due, now() - interval '10 minutes' AS written) x
		 CROSS JOIN LATERAL (SELECT date_trunc('day', written AT TIME ZONE 'Asia/Shanghai') AT TIME ZONE 'Asia/Shanghai' AS start) y
		  JOIN (SELECT *, row_number() OVER (ORDER BY app_no) AS nth FROM scheduler.apps) a ON a.nth = (i - 1) % $7::bigint + 1
		 ORDER BY i`,
		first, request, cmp.Or(f.campaigns, f.tasks), f.due, f.spread.Microseconds(), f.tasks, apps)
	if err != nil {
		return 0, err
	}
	// The ids were ours to choose; authors' rows come after them.
	_, err = tx.Exec(ctx, `SELECT setval(pg_get_serial_sequence('scheduler.campaigns', 'id'), $1)`, first+int64(cmp.Or(f.campaigns, f.tasks)))
	return first, err
}

func insertTasks(ctx context.Context, tx pgx.Tx, f fill, first int64) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.pending_tasks (app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT c.app_no, coalesce(p.used, 0) + row_number() OVER (PARTITION BY c.app_no ORDER BY i), c.id, 1, 'scheduled', x.due, x.due
		  FROM generate_series(1, $4::bigint) AS i
		  JOIN scheduler.campaigns c ON c.id = $1 + 1 + (i - 1) % $5::bigint
		  LEFT JOIN (SELECT app_no, max(slot) AS used FROM scheduler.pending_tasks GROUP BY app_no) p USING (app_no)
		 CROSS JOIN LATERAL (SELECT $2::timestamptz + ($3::bigint * (i - 1) / $4::bigint) * interval '1 microsecond' AS due) x
		 ORDER BY i`, first, f.due, f.spread.Microseconds(), f.tasks, cmp.Or(f.campaigns, f.tasks))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO scheduler.campaign_cursors (campaign_id, app_no, revision, active, next_due_at)
		SELECT p.campaign_id, p.app_no, 1, true, CASE WHEN $2 THEN date_trunc('second', min(p.due_at)) + interval '1 day' END
		  FROM scheduler.pending_tasks p WHERE p.campaign_id > $1 GROUP BY 1, 2 ORDER BY 1`, first, f.further)
	return err
}

func insertHistory(ctx context.Context, tx pgx.Tx, f fill, first int64) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
		       attempts, slices, accepted, target_count, daemon_id, request_id, message_id, targets)
		SELECT nextval('scheduler.task_ids'), c.app_no, c.id, 1, 1, 'scheduled', 'succeeded', x.due, x.due, x.due, x.due,
		       1, 1, 1, 1, NULL, md5(i::text), md5(i::text), '{user-1}'
		  FROM generate_series(1, $1::bigint) AS i
		  JOIN scheduler.campaigns c ON c.id = $2 + 1 + i % $3
		 CROSS JOIN LATERAL (SELECT now() - interval '1 day' * (1 + i / $3) AS due) x ORDER BY i`, f.history, first, cmp.Or(f.campaigns, f.tasks))
	return err
}

// clear empties what a run leaves behind; apps stay.
func (d *database) clear(ctx context.Context) error {
	_, err := d.Exec(ctx, `TRUNCATE scheduler.pending_tasks, scheduler.claims, scheduler.running_tasks, scheduler.slices, scheduler.slice_targets, scheduler.decided_tasks,
		scheduler.campaign_cursors, scheduler.campaign_changes, scheduler.campaign_history, scheduler.campaign_targets, scheduler.campaigns`)
	return err
}

// stage clears the database, fills it and lets it settle.
func (d *database) stage(ctx context.Context, f fill) error {
	if err := d.clear(ctx); err != nil {
		return err
	}
	if err := d.fill(ctx, f); err != nil {
		return err
	}
	return d.settle(ctx)
}

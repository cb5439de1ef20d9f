-- What pages ask of pending tasks is found by their time, of all apps or of one, or by
-- what they wait for; no index of this costs a task that waits for nothing.

CREATE INDEX pending_tasks_waiting ON scheduler.pending_tasks (due_at, id) WHERE waits_for IS NOT NULL;

CREATE OR REPLACE VIEW scheduler.upcoming WITH (security_barrier) AS
SELECT p.due_at, p.due_at AT TIME ZONE c.time_zone AS local_time, c.time_zone, p.due_at - now() AS "in",
       c.id AS campaign_id, c.name AS campaign, c.channel, c.app_id, c.workspace_id, p.id AS task_id, p.waits_for, p.app_no, p.ready_at
  FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR p.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
 ORDER BY p.due_at;
COMMENT ON COLUMN scheduler.upcoming.app_no IS 'The app''s short key, as in scheduler.apps: tasks are found by it.';
COMMENT ON COLUMN scheduler.upcoming.ready_at IS 'When the dispatcher looks at it: due_at, or later while it waits for a quota or for the end of quiet hours.';

-- To ask for one app counted the tasks of all.
CREATE OR REPLACE VIEW scheduler.app_usage WITH (security_barrier) AS
SELECT a.app_id, a.workspace_id, a.provider, a.pending_limit, p.pending,
       round(100.0 * p.pending / a.pending_limit) AS percent_full, p.next_due_at,
       EXISTS (SELECT FROM scheduler.campaign_cursors k WHERE k.app_no = a.app_no AND k.active AND k.next_due_at IS NOT NULL) AS more_to_come
  FROM scheduler.apps a
 CROSS JOIN LATERAL (SELECT count(t.slot) AS pending, min(t.due_at) AS next_due_at FROM scheduler.pending_tasks t WHERE t.app_no = a.app_no) p
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR a.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);

SELECT scheduler.set_schema_version(29);

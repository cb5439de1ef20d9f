-- Tasks of an app are found by its number: what asks for an app's name compares it for
-- each task with those of all apps.
CREATE OR REPLACE VIEW scheduler.tasks WITH (security_barrier) AS
WITH task AS (
  SELECT p.id, p.app_no, p.campaign_id, p.revision, p.origin, 'pending' AS status, p.due_at,
         NULL::timestamptz AS started_at, NULL::timestamptz AS sent_at, NULL::timestamptz AS decided_at,
         0 AS attempts, NULL::integer AS deliveries, NULL::integer AS deliveries_done, NULL::bigint AS targets,
         CASE WHEN p.waits_for IS NOT NULL THEN 'waits for ' || p.waits_for END AS reason,
         NULL::text AS code, NULL::text AS message, NULL::text AS request_id, NULL::text AS message_id,
         NULL::bigint AS daemon_id, NULL::smallint AS channel_no
    FROM scheduler.pending_tasks p
  UNION ALL
  SELECT c.id, c.app_no, c.campaign_id, c.revision, c.origin, 'running', c.due_at,
         c.claimed_at, NULL, NULL, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, c.daemon_id, NULL
    FROM scheduler.claimed_tasks c
  UNION ALL
  SELECT r.id, r.app_no, r.campaign_id, r.revision, r.origin, 'running', r.due_at,
         r.started_at, s.sent_at, NULL, s.attempts, r.slices, s.done, r.targets, coalesce(s.reason, r.spread_note), NULL, NULL, NULL, NULL, NULL, NULL
    FROM scheduler.running_tasks r
   CROSS JOIN LATERAL (
     SELECT min(x.sent_at) AS sent_at, coalesce(sum(x.attempts), 0)::integer AS attempts,
            (count(*) FILTER (WHERE x.finished_at IS NOT NULL))::integer AS done,
            max(x.reason) FILTER (WHERE x.status = 'waiting') AS reason
       FROM scheduler.slices x WHERE x.task_id = r.id) s
  UNION ALL
  SELECT d.id, d.app_no, d.campaign_id, d.revision, d.origin, d.status::text, d.due_at,
         d.started_at, d.sent_at, d.decided_at, d.attempts, d.slices, d.accepted, d.target_count, d.reason,
         d.code, d.message, d.request_id, d.message_id, d.daemon_id, d.channel_no
    FROM scheduler.decided_tasks d
)
SELECT t.id, t.campaign_id, t.due_at, t.status, t.reason, t.attempts,
       t.started_at, t.sent_at, t.decided_at,
       CASE WHEN t.sent_at IS NOT NULL THEN t.sent_at - t.due_at END AS lateness,
       a.app_id, a.workspace_id, coalesce(ch.channel, k.channel) AS channel, k.name AS campaign,
       t.revision, t.origin::text AS origin, t.deliveries, t.deliveries_done, t.targets,
       t.code, t.message, t.request_id, t.message_id, t.daemon_id, t.app_no
  FROM task t
  LEFT JOIN scheduler.apps a ON a.app_no = t.app_no
  LEFT JOIN scheduler.channels ch ON ch.channel_no = t.channel_no
  LEFT JOIN scheduler.campaigns k ON k.id = t.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR t.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);
COMMENT ON COLUMN scheduler.tasks.app_no IS 'The app''s short key, as in scheduler.apps: tasks are found by it.';

SELECT scheduler.set_schema_version(33);

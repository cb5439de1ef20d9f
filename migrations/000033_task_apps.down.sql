-- CREATE OR REPLACE takes no column away.
DROP VIEW scheduler.missed;
DROP VIEW scheduler.tasks;
CREATE VIEW scheduler.tasks WITH (security_barrier) AS
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
       t.code, t.message, t.request_id, t.message_id, t.daemon_id
  FROM task t
  LEFT JOIN scheduler.apps a ON a.app_no = t.app_no
  LEFT JOIN scheduler.channels ch ON ch.channel_no = t.channel_no
  LEFT JOIN scheduler.campaigns k ON k.id = t.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR t.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);
COMMENT ON VIEW scheduler.tasks IS 'One row for every occurrence that became a task: pending, running, then its decision.';
COMMENT ON COLUMN scheduler.tasks.id IS 'Key.';
COMMENT ON COLUMN scheduler.tasks.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.tasks.due_at IS 'The occurrence: when it should be pushed.';
COMMENT ON COLUMN scheduler.tasks.status IS 'pending, running, succeeded, failed, missed, cancelled or unknown.';
COMMENT ON COLUMN scheduler.tasks.reason IS 'Why, in words.';
COMMENT ON COLUMN scheduler.tasks.attempts IS 'Calls begun.';
COMMENT ON COLUMN scheduler.tasks.started_at IS 'When its push was allowed to begin.';
COMMENT ON COLUMN scheduler.tasks.sent_at IS 'When its first call began.';
COMMENT ON COLUMN scheduler.tasks.decided_at IS 'When the decision was recorded.';
COMMENT ON COLUMN scheduler.tasks.lateness IS 'sent_at - due_at.';
COMMENT ON COLUMN scheduler.tasks.app_id IS 'The app.';
COMMENT ON COLUMN scheduler.tasks.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN scheduler.tasks.channel IS 'The push API.';
COMMENT ON COLUMN scheduler.tasks.campaign IS 'The campaign''s name; NULL when it was deleted.';
COMMENT ON COLUMN scheduler.tasks.revision IS 'The campaign''s revision.';
COMMENT ON COLUMN scheduler.tasks.origin IS 'scheduled, immediate or triggered.';
COMMENT ON COLUMN scheduler.tasks.deliveries IS 'Calls the task needs; NULL until it begins.';
COMMENT ON COLUMN scheduler.tasks.deliveries_done IS 'Running: calls that have ended. Decided: calls that were accepted.';
COMMENT ON COLUMN scheduler.tasks.targets IS 'Targets in all.';
COMMENT ON COLUMN scheduler.tasks.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.tasks.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.tasks.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.tasks.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.tasks.daemon_id IS 'The daemon that ran or decided it.';

CREATE VIEW scheduler.missed WITH (security_barrier) AS
SELECT t.due_at, t.due_at AT TIME ZONE coalesce(c.time_zone, 'UTC') AS local_time, t.reason, t.decided_at, t.campaign_id, t.campaign, t.channel,
       t.app_id, t.workspace_id, t.id AS task_id
  FROM scheduler.tasks t LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
 WHERE t.status = 'missed' AND t.reason IS NOT NULL ORDER BY t.due_at DESC;
COMMENT ON VIEW scheduler.missed IS 'Occurrences that were not pushed, and why.';
COMMENT ON COLUMN scheduler.missed.due_at IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.local_time IS 'due_at as a clock in the campaign''s zone shows it.';
COMMENT ON COLUMN scheduler.missed.reason IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.decided_at IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.campaign_id IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.campaign IS 'The campaign''s name.';
COMMENT ON COLUMN scheduler.missed.channel IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.app_id IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.workspace_id IS 'As in the tables.';
COMMENT ON COLUMN scheduler.missed.task_id IS 'The task.';

SELECT scheduler.set_schema_version(32);

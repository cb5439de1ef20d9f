-- What people read. Statuses are text here, so that they compare with text.
--
-- A view reads its tables with its owner's rights, so each says itself whose
-- rows it shows. security_barrier keeps a function in somebody's WHERE from
-- being shown a row before that is asked.

CREATE FUNCTION scheduler.visible_apps() RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT NULL::integer[] $$;
COMMENT ON FUNCTION scheduler.visible_apps() IS 'The apps whose rows the current role may see; NULL: all. 000006 brings the roles.';

-- Tasks that are in a claim and nowhere else yet.
CREATE VIEW scheduler.claimed_tasks AS
SELECT t.id, t.app_no, t.campaign_id, t.revision, t.origin, t.due_at, c.id AS claim_id, c.daemon_id, c.claimed_at
  FROM scheduler.claims c
 CROSS JOIN LATERAL unnest(c.task_ids, c.app_nos, c.campaign_ids, c.revisions, c.origins, c.due_ats)
         AS t (id, app_no, campaign_id, revision, origin, due_at)
 WHERE NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = t.campaign_id AND d.due_at = t.due_at)
   AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.id = t.id);
COMMENT ON VIEW scheduler.claimed_tasks IS 'Tasks whose one call has begun and whose outcome is not recorded yet.';

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
         r.started_at, s.sent_at, NULL, s.attempts, r.slices, s.done, r.targets, s.reason, NULL, NULL, NULL, NULL, NULL, NULL
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

CREATE VIEW scheduler.deliveries WITH (security_barrier) AS
SELECT s.id, s.task_id, s.campaign_id, s.slice_no,
       CASE s.status WHEN 'accepted' THEN 'succeeded' WHEN 'waiting' THEN 'pending' ELSE s.status::text END AS status,
       s.attempts, cardinality(s.targets) AS target_count, s.targets, s.reason, s.code, s.message, s.request_id, s.message_id,
       s.sent_at, s.finished_at
  FROM scheduler.slices s
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR s.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
UNION ALL
SELECT NULL, c.id, c.campaign_id, 1, 'running', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM scheduler.claimed_tasks c
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
UNION ALL
SELECT NULL, d.id, d.campaign_id, 1, d.status::text, d.attempts, d.target_count::integer, d.targets, d.reason, d.code, d.message,
       d.request_id, d.message_id, d.sent_at, d.decided_at
  FROM scheduler.decided_tasks d
 WHERE d.attempts > 0 AND d.slices = 1 AND NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = d.id)
   AND ((SELECT scheduler.visible_apps()) IS NULL OR d.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));
COMMENT ON VIEW scheduler.deliveries IS 'One row for every call to a push API. A task with one delivery keeps it in its own row, and its id is NULL.';
COMMENT ON COLUMN scheduler.deliveries.id IS 'Key of a stored delivery.';
COMMENT ON COLUMN scheduler.deliveries.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.deliveries.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.deliveries.slice_no IS 'Its number within the task, from 1.';
COMMENT ON COLUMN scheduler.deliveries.status IS 'pending, held (its campaign is paused), running, succeeded, failed, unknown, cancelled or missed.';
COMMENT ON COLUMN scheduler.deliveries.attempts IS 'Attempts begun.';
COMMENT ON COLUMN scheduler.deliveries.target_count IS 'How many targets.';
COMMENT ON COLUMN scheduler.deliveries.targets IS 'The slice of targets.';
COMMENT ON COLUMN scheduler.deliveries.reason IS 'Why the last attempt was not accepted.';
COMMENT ON COLUMN scheduler.deliveries.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.deliveries.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.deliveries.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.deliveries.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.deliveries.sent_at IS 'When the last attempt began.';
COMMENT ON COLUMN scheduler.deliveries.finished_at IS 'When it ended.';

CREATE VIEW scheduler.upcoming WITH (security_barrier) AS
SELECT p.due_at, p.due_at AT TIME ZONE c.time_zone AS local_time, c.time_zone, p.due_at - now() AS "in",
       c.id AS campaign_id, c.name AS campaign, c.channel, c.app_id, c.workspace_id, p.id AS task_id, p.waits_for
  FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR p.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
 ORDER BY p.due_at;
COMMENT ON VIEW scheduler.upcoming IS 'The pending tasks, next first, in the campaign''s own zone.';

-- What did not succeed has a reason; to say so brings in an index.
CREATE VIEW scheduler.missed WITH (security_barrier) AS
SELECT t.due_at, t.due_at AT TIME ZONE coalesce(c.time_zone, 'UTC') AS local_time, t.reason, t.decided_at, t.campaign_id, t.campaign, t.channel,
       t.app_id, t.workspace_id, t.id AS task_id
  FROM scheduler.tasks t LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
 WHERE t.status = 'missed' AND t.reason IS NOT NULL ORDER BY t.due_at DESC;
COMMENT ON VIEW scheduler.missed IS 'Occurrences that were not pushed, and why.';

CREATE VIEW scheduler.unresolved WITH (security_barrier) AS
SELECT t.id AS task_id, t.due_at, t.sent_at, t.decided_at, t.reason, t.code, t.message, t.request_id, t.campaign_id, t.campaign,
       t.channel, t.app_id, t.workspace_id, t.deliveries, t.deliveries_done
  FROM scheduler.tasks t WHERE t.status = 'unknown' AND t.reason IS NOT NULL ORDER BY t.due_at;
COMMENT ON VIEW scheduler.unresolved IS 'Tasks whose outcome is unknown and that wait for a ruling: scheduler tasks resolve.';

CREATE VIEW scheduler.app_usage WITH (security_barrier) AS
SELECT a.app_id, a.workspace_id, a.provider, a.pending_limit, coalesce(p.pending, 0) AS pending,
       round(100.0 * coalesce(p.pending, 0) / a.pending_limit) AS percent_full, p.next_due_at,
       EXISTS (SELECT FROM scheduler.campaign_cursors k WHERE k.app_no = a.app_no AND k.active AND k.next_due_at IS NOT NULL) AS more_to_come
  FROM scheduler.apps a
  LEFT JOIN (SELECT app_no, count(slot) AS pending, min(due_at) AS next_due_at FROM scheduler.pending_tasks GROUP BY app_no) p USING (app_no)
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR a.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);
COMMENT ON VIEW scheduler.app_usage IS 'How full each app''s pending limit is, and whether further occurrences wait for room.';

CREATE VIEW scheduler.quota_usage WITH (security_barrier) AS
SELECT a.app_id, a.workspace_id, c.channel, coalesce(q.weekly_quota, c.weekly_quota) AS weekly_quota,
       count(u.id) AS used, min(u.used_at) + interval '7 days' AS next_free_at
  FROM scheduler.apps a
  JOIN scheduler.channels c USING (provider)
  LEFT JOIN scheduler.app_quotas q ON q.app_no = a.app_no AND q.channel = c.channel
  LEFT JOIN scheduler.quota_uses u ON u.app_no = a.app_no AND u.channel = c.channel AND u.used_at > now() - interval '7 days'
 WHERE coalesce(q.weekly_quota, c.weekly_quota) > 0
   AND ((SELECT scheduler.visible_apps()) IS NULL OR a.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]))
 GROUP BY a.app_id, a.workspace_id, c.channel, q.weekly_quota, c.weekly_quota;
COMMENT ON VIEW scheduler.quota_usage IS 'Calls of the last 7 x 24 h against each quota, and when the oldest stops counting.';

DO $$
DECLARE v text; c text;
BEGIN
  -- The small views repeat columns that are described where they come from.
  FOREACH v IN ARRAY ARRAY['claimed_tasks', 'upcoming', 'missed', 'unresolved', 'app_usage', 'quota_usage'] LOOP
    FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = ('scheduler.' || v)::regclass AND attnum > 0 LOOP
      EXECUTE format('COMMENT ON COLUMN scheduler.%I.%I IS %L', v, c, CASE c
        WHEN 'local_time' THEN 'due_at as a clock in the campaign''s zone shows it.'
        WHEN 'in' THEN 'How long until it is due.' WHEN 'pending' THEN 'Scheduled tasks that are pending.'
        WHEN 'percent_full' THEN 'pending as a percentage of pending_limit.' WHEN 'more_to_come' THEN 'Whether occurrences wait for room.'
        WHEN 'next_due_at' THEN 'The earliest pending task.' WHEN 'used' THEN 'Calls that count now.'
        WHEN 'next_free_at' THEN 'When the oldest of them stops counting.' WHEN 'claim_id' THEN 'The claim.'
        WHEN 'claimed_at' THEN 'When the push was allowed to begin.'
        WHEN 'task_id' THEN 'The task.' WHEN 'campaign' THEN 'The campaign''s name.'
        ELSE 'As in the tables.' END);
    END LOOP;
  END LOOP;
END $$;

SELECT scheduler.set_schema_version(5);

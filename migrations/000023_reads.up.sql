-- Two reads of the console that went through everything there is.

-- The outcomes that wait for a ruling are read by their own index. Through
-- scheduler.tasks, where a status is text, each task with a reason was read.
CREATE OR REPLACE VIEW scheduler.unresolved WITH (security_barrier) AS
SELECT d.id AS task_id, d.due_at, d.sent_at, d.decided_at, d.reason, d.code, d.message, d.request_id, d.campaign_id,
       k.name AS campaign, coalesce(h.channel, k.channel) AS channel, a.app_id, a.workspace_id, d.slices AS deliveries, d.accepted AS deliveries_done
  FROM scheduler.decided_tasks d
  LEFT JOIN scheduler.apps a ON a.app_no = d.app_no
  LEFT JOIN scheduler.channels h ON h.channel_no = d.channel_no
  LEFT JOIN scheduler.campaigns k ON k.id = d.campaign_id
 WHERE d.status = 'unknown' AND ((SELECT scheduler.visible_apps()) IS NULL OR d.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]))
 ORDER BY d.due_at;

-- Audits are asked for by when.
CREATE INDEX campaign_history_changed ON scheduler.campaign_history (changed_at);

SELECT scheduler.set_schema_version(23);

DROP INDEX scheduler.campaign_history_changed;
CREATE OR REPLACE VIEW scheduler.unresolved WITH (security_barrier) AS
SELECT t.id AS task_id, t.due_at, t.sent_at, t.decided_at, t.reason, t.code, t.message, t.request_id,
       t.campaign_id, t.campaign, t.channel, t.app_id, t.workspace_id, t.deliveries, t.deliveries_done
  FROM scheduler.tasks t WHERE t.status = 'unknown' AND t.reason IS NOT NULL ORDER BY t.due_at;

SELECT scheduler.set_schema_version(22);

DROP TABLE scheduler.decided_tasks, scheduler.slices, scheduler.running_tasks, scheduler.claims, scheduler.daemons,
  scheduler.pending_tasks, scheduler.campaign_cursors, scheduler.campaign_changes, scheduler.campaign_history,
  scheduler.campaign_targets, scheduler.campaigns, scheduler.quota_uses, scheduler.app_quotas, scheduler.apps, scheduler.channels;
DROP SEQUENCE scheduler.task_ids;
DROP TYPE scheduler.slice_status;
DROP TYPE scheduler.decision;
DROP TYPE scheduler.task_origin;

SELECT scheduler.set_schema_version(2);

DROP VIEW scheduler.quota_usage, scheduler.app_usage, scheduler.unresolved, scheduler.missed, scheduler.upcoming, scheduler.deliveries,
  scheduler.tasks, scheduler.claimed_tasks;
DROP FUNCTION scheduler.visible_apps();

SELECT scheduler.set_schema_version(4);

DROP INDEX scheduler.pending_tasks_ready;

SELECT scheduler.set_schema_version(26);

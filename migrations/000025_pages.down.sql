DROP INDEX scheduler.campaign_history_deleted;

SELECT scheduler.set_schema_version(24);

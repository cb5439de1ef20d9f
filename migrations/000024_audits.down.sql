DROP INDEX scheduler.campaign_history_deed;
DROP INDEX scheduler.campaign_history_who;

SELECT scheduler.set_schema_version(23);

DROP VIEW scheduler.quota_calls;
DROP VIEW scheduler.state;
DROP VIEW scheduler.audit;
DROP TRIGGER hold_kept ON scheduler.hold;
DROP FUNCTION scheduler.hold_kept();
DROP TABLE scheduler.hold_history;
DROP FUNCTION scheduler.note_campaign(bigint, integer, text);
DROP TABLE scheduler.campaign_notes;

SELECT scheduler.set_schema_version(18);

DROP TABLE scheduler.zone_rules;
DROP FUNCTION scheduler.left_out(bigint);
DROP INDEX scheduler.campaigns_rejected;
DROP TRIGGER campaign_targets_removed ON scheduler.campaign_targets;
DROP TRIGGER campaign_targets_judged_update ON scheduler.campaign_targets;
DROP TRIGGER campaign_targets_judged_insert ON scheduler.campaign_targets;
DROP FUNCTION scheduler.campaign_targets_removed();
DROP FUNCTION scheduler.campaign_targets_judged();
DROP FUNCTION scheduler.names_its_audience(scheduler.campaigns);
DROP FUNCTION scheduler.target_problem(text, text, jsonb, jsonb);

SELECT scheduler.set_schema_version(16);

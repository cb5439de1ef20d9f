-- Reads of the console that went through everything there is.

-- The campaigns of an app that were deleted: their tasks are still listed. It costs a
-- deletion alone.
CREATE INDEX campaign_history_deleted ON scheduler.campaign_history (app_no, campaign_id) WHERE action = 'delete';

SELECT scheduler.set_schema_version(25);

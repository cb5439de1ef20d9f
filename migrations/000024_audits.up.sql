-- Audits are asked for by who and by what, too: without these, every change there is
-- was read for those of one login, or for a deed that is rare.
CREATE INDEX campaign_history_who ON scheduler.campaign_history (changed_by, action, changed_at);
CREATE INDEX campaign_history_deed ON scheduler.campaign_history (action, changed_at);

SELECT scheduler.set_schema_version(24);

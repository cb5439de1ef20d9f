-- The roles stay: they belong to the whole cluster.

CREATE OR REPLACE FUNCTION scheduler.campaigns_note_actor() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  PERFORM set_config('scheduler.actor', current_user, true);
  RETURN OLD;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_note_actor() IS 'Remembers who deletes a campaign, for the audit.';

DROP TRIGGER campaigns_signed ON scheduler.campaigns;
DROP TRIGGER hold_signed ON scheduler.hold;
DROP TRIGGER app_grants_signed ON scheduler.app_grants;
DROP TRIGGER triggered_tasks_signed ON scheduler.triggered_tasks;
DROP TRIGGER rulings_signed ON scheduler.rulings;
DROP TRIGGER campaign_history_signed ON scheduler.campaign_history;
DROP FUNCTION scheduler.campaigns_signed();
DROP FUNCTION scheduler.hold_signed();
DROP FUNCTION scheduler.audit_signed();
ALTER TABLE scheduler.rulings ALTER ruled_by SET DEFAULT session_user, DROP COLUMN ruled_via;
ALTER TABLE scheduler.triggered_tasks ALTER triggered_by SET DEFAULT session_user, DROP COLUMN triggered_via;
ALTER TABLE scheduler.app_grants ALTER granted_by SET DEFAULT current_user, DROP COLUMN granted_via;
ALTER TABLE scheduler.campaigns DROP COLUMN created_via, DROP COLUMN updated_via;
ALTER TABLE scheduler.campaign_history DROP COLUMN changed_via;
ALTER TABLE scheduler.hold DROP COLUMN held_by, DROP COLUMN held_via, DROP COLUMN released_via;
COMMENT ON COLUMN scheduler.campaigns.created_by IS 'The database role that inserted the row.';
COMMENT ON COLUMN scheduler.campaigns.updated_by IS 'The database role that last changed it.';
COMMENT ON COLUMN scheduler.campaign_history.changed_by IS 'The database role that made it.';
COMMENT ON COLUMN scheduler.rulings.ruled_by IS 'The database login.';
COMMENT ON COLUMN scheduler.triggered_tasks.triggered_by IS 'The database login.';
COMMENT ON COLUMN scheduler.app_grants.granted_by IS 'Who granted it.';
COMMENT ON COLUMN scheduler.hold.released_by IS 'The database login that released it.';
DROP FUNCTION scheduler.actor_via();
DROP FUNCTION scheduler.actor();
DROP FUNCTION scheduler.is_front();
DROP FUNCTION scheduler.acting_role();

SELECT scheduler.set_schema_version(10);

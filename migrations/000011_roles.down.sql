-- The roles stay: they belong to the whole cluster. The schema's owner stays too.

CREATE OR REPLACE FUNCTION scheduler.grant_privileges() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  role name; object record; daemon boolean;
  -- A trigger function in a stranger's own trigger, on rows of his making, would
  -- do the owner's work for him: nobody but the owner may use one.
  functions CONSTANT text := $q$
    SELECT p.oid::regprocedure AS name, p.prosecdef AS owners_rights FROM pg_proc p
     WHERE p.pronamespace = 'scheduler'::regnamespace AND p.prorettype <> 'trigger'::regtype AND pg_has_role(p.proowner, 'USAGE') $q$;
  authors_columns CONSTANT text := 'name, app_id, workspace_id, channel, strategy_type, strategy_content, request, audience_view, time_zone,
    misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, resend_unknown, status';
BEGIN
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA scheduler FROM PUBLIC;

  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL;
    EXECUTE format('GRANT USAGE ON SCHEMA scheduler TO %I', role);
    -- A function with its caller's rights can do nothing that the caller cannot.
    FOR object IN EXECUTE functions LOOP
      IF NOT object.owners_rights OR role IN ('scheduler_admin', 'scheduler_daemon') THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.name, role);
      END IF;
    END LOOP;
    IF role <> 'scheduler_author' THEN
      EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA scheduler TO %I', role);
    END IF;
  END LOOP;

  IF to_regrole('scheduler_admin') IS NOT NULL THEN
    GRANT INSERT, UPDATE, DELETE ON scheduler.apps, scheduler.app_quotas, scheduler.app_grants, scheduler.campaigns, scheduler.campaign_targets TO scheduler_admin;
    GRANT USAGE, CREATE ON SCHEMA audience TO scheduler_admin;
  END IF;

  IF to_regrole('scheduler_daemon') IS NOT NULL THEN
    GRANT INSERT, UPDATE ON scheduler.channels, scheduler.apps, scheduler.app_quotas TO scheduler_daemon;
    GRANT UPDATE (status, status_reason) ON scheduler.campaigns TO scheduler_daemon;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA scheduler TO scheduler_daemon;
    GRANT USAGE ON SCHEMA audience TO scheduler_daemon;
    -- The engine's own tables, those of later migrations too, but the audits: functions write them.
    FOR object IN SELECT c.oid::regclass AS name FROM pg_class c
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')
         AND c.relname <> ALL ('{channels,apps,app_quotas,app_grants,campaigns,campaign_targets,campaign_history,rulings,triggered_tasks,time_zones,schema_version,schema_migrations}') LOOP
      EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO scheduler_daemon', object.name);
    END LOOP;
    FOR object IN SELECT c.oid::regclass AS name FROM pg_class c
       WHERE c.relnamespace = 'audience'::regnamespace AND c.relkind IN ('v', 'm') AND pg_has_role(c.relowner, 'USAGE') LOOP
      EXECUTE format('GRANT SELECT ON %s TO scheduler_daemon', object.name);
    END LOOP;
    FOR object IN SELECT c.oid, c.oid::regclass AS name FROM pg_class c
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relrowsecurity
         AND NOT EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = c.oid AND y.polname = 'daemon') LOOP
      EXECUTE format('CREATE POLICY daemon ON %s TO scheduler_daemon USING (true)', object.name);
    END LOOP;
  END IF;

  IF to_regrole('scheduler_author') IS NOT NULL THEN
    GRANT SELECT ON scheduler.apps, scheduler.channels, scheduler.time_zones, scheduler.app_grants, scheduler.campaigns, scheduler.campaign_targets,
      scheduler.campaign_history, scheduler.tasks, scheduler.deliveries, scheduler.upcoming, scheduler.missed, scheduler.unresolved,
      scheduler.app_usage, scheduler.quota_usage TO scheduler_author;
    -- Not id: a number taken by hand would refuse the one that the sequence gives out later.
    EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s) ON scheduler.campaigns TO scheduler_author', authors_columns);
    GRANT DELETE ON scheduler.campaigns TO scheduler_author;
    GRANT INSERT, UPDATE, DELETE ON scheduler.campaign_targets TO scheduler_author;
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.grant_privileges() IS 'Gives the four roles their privileges, as far as the roles exist. May be run any number of times, by the schema''s owner.';

DROP FUNCTION scheduler.set_owner(name);
DROP FUNCTION scheduler.adopt(name);
DROP FUNCTION scheduler.columns_but(regclass, name[]);
DROP FUNCTION scheduler.columns_of(regclass, name[]);
DROP FUNCTION scheduler.limit_login(name);
DROP FUNCTION scheduler.blockers(interval);
DROP TRIGGER decided_tasks_kept ON scheduler.decided_tasks;
DROP TRIGGER decided_tasks_unchanged ON scheduler.decided_tasks;
DROP FUNCTION scheduler.record_kept();
ALTER FUNCTION scheduler.grant_app(text, text, name) SECURITY INVOKER;
ALTER FUNCTION scheduler.revoke_app(text, text, name) SECURITY INVOKER;
DROP FUNCTION scheduler.delete_quota(text, text, text);
DROP FUNCTION scheduler.delete_app(text, text);
DROP FUNCTION scheduler.delete_targets(bigint, text[]);
DROP FUNCTION scheduler.delete_campaign(bigint);
DROP FUNCTION scheduler.may_write(integer);
DROP FUNCTION scheduler.writable_apps();
DROP FUNCTION scheduler.apps_of(name);

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
DROP FUNCTION scheduler.is_engine();
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

-- set_schema_version grants what was granted before; what was not goes first.
DO $$
DECLARE
  role name;
BEGIN
  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL OR pg_has_role(role, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass), 'USAGE');
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA scheduler FROM %I', role);
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA scheduler FROM %I', role);
  END LOOP;
  IF to_regrole('scheduler_front') IS NOT NULL THEN
    REVOKE USAGE ON SCHEMA scheduler FROM scheduler_front;
  END IF;
END $$;

SELECT scheduler.set_schema_version(10);

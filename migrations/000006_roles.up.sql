-- Who may do what: four roles without a login, to be granted to people's and
-- daemons' own roles.
--
--   scheduler_admin   apps, grants, campaigns of every app, audience views; what 000010 lets operators do
--   scheduler_daemon  what the engine writes; no campaign's content
--   scheduler_author  campaigns and targets of the apps granted to it, no others
--   scheduler_reader  everything, read only
--
-- The owner of the schema may do everything, so an installation with a single
-- role needs none of them. Roles belong to the whole cluster: other databases
-- may use them, so they are made where they are missing and never dropped.

DO $$
DECLARE
  role name;
BEGIN
  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NOT NULL;
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migration was faster
      WHEN insufficient_privilege THEN
        RAISE NOTICE 'role % is missing, and % may not create it', role, current_user
          USING HINT = format('As one who may: CREATE ROLE %I NOLOGIN; then as %I: SELECT scheduler.grant_privileges();', role, current_user);
    END;
  END LOOP;
END $$;

CREATE FUNCTION scheduler.acts_as(role name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(pg_has_role(to_regrole(quote_ident(role)), 'USAGE'), false) $$;
COMMENT ON FUNCTION scheduler.acts_as(name) IS 'Whether the current role has the rights of another; false when there is none of that name.';

CREATE FUNCTION scheduler.is_owner() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass $$;
COMMENT ON FUNCTION scheduler.is_owner() IS 'Whether the current role has the rights of the schema''s owner.';

-- A setting alone is anybody's to make.
CREATE OR REPLACE FUNCTION scheduler.is_daemon() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(current_setting('scheduler.daemon', true), '') = 'on' AND (scheduler.acts_as('scheduler_daemon') OR scheduler.is_owner())
$$;
COMMENT ON FUNCTION scheduler.is_daemon() IS 'Whether the session says it is the engine, and may: the engine alone finishes and rejects campaigns.';

------------------------------------------------------------------------- grants

CREATE TABLE scheduler.app_grants (
  app_no     integer NOT NULL REFERENCES scheduler.apps (app_no) ON DELETE CASCADE,
  role       name NOT NULL,
  granted_by name NOT NULL DEFAULT current_user,
  granted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (app_no, role)
);
COMMENT ON TABLE scheduler.app_grants IS 'Which authors may use which apps: SELECT scheduler.grant_app(app_id, workspace_id, role).';
COMMENT ON COLUMN scheduler.app_grants.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.app_grants.role IS 'A database role; whoever has its rights has the app. scheduler_author: every author.';
COMMENT ON COLUMN scheduler.app_grants.granted_by IS 'Who granted it.';
COMMENT ON COLUMN scheduler.app_grants.granted_at IS 'When.';

CREATE FUNCTION scheduler.grant_app(app_id text, workspace_id text, role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  app integer;
BEGIN
  SELECT a.app_no INTO app FROM scheduler.apps a WHERE a.app_id = grant_app.app_id AND a.workspace_id = grant_app.workspace_id;
  IF app IS NULL THEN
    RAISE EXCEPTION 'there is no app % with workspace_id %', quote_literal(app_id), quote_literal(workspace_id)
      USING ERRCODE = 'no_data_found', HINT = 'SELECT app_id, workspace_id FROM scheduler.apps;';
  END IF;
  IF to_regrole(quote_ident(role)) IS NULL THEN
    RAISE EXCEPTION 'there is no role %', quote_literal(role) USING ERRCODE = 'undefined_object', HINT = format('CREATE ROLE %I LOGIN IN ROLE scheduler_author;', role);
  END IF;
  INSERT INTO scheduler.app_grants (app_no, role) VALUES (app, role) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION scheduler.grant_app(text, text, name) IS 'Lets a role, and whoever has its rights, work with an app.';

CREATE FUNCTION scheduler.revoke_app(app_id text, workspace_id text, role name) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.app_grants g USING scheduler.apps a
   WHERE a.app_no = g.app_no AND a.app_id = revoke_app.app_id AND a.workspace_id = revoke_app.workspace_id AND g.role = revoke_app.role;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.revoke_app(text, text, name) IS 'Takes an app from a role. Its campaigns stay and go on; returns whether there was a grant.';

CREATE OR REPLACE FUNCTION scheduler.visible_apps() RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN scheduler.is_owner() OR scheduler.acts_as('scheduler_admin') OR scheduler.acts_as('scheduler_daemon') OR scheduler.acts_as('scheduler_reader') THEN NULL
    ELSE (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g WHERE scheduler.acts_as(g.role)) END
$$;
COMMENT ON FUNCTION scheduler.visible_apps() IS 'The apps whose rows the current role may see; NULL: all.';

-------------------------------------------------------------- row-level security

-- Rows are everybody's who sees their app; what may be done to them is a matter
-- of privileges. The sub-select is evaluated once a statement, not once a row.
-- The daemon has a policy of its own, made by grant_privileges: it says "true",
-- which the planner leaves out.

ALTER TABLE scheduler.apps ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.apps
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

ALTER TABLE scheduler.campaigns ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.campaigns
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

ALTER TABLE scheduler.campaign_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.campaign_history
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

-- The campaigns asked for are themselves those that the role may see. New rows
-- are asked about when the statement is over: it may insert their campaign too,
-- which a policy would not see yet.
ALTER TABLE scheduler.campaign_targets ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.campaign_targets
  USING (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id)) WITH CHECK (true);

CREATE FUNCTION scheduler.campaign_targets_granted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  campaign bigint;
BEGIN
  IF scheduler.visible_apps() IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT n.campaign_id INTO campaign FROM stored n WHERE NOT EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = n.campaign_id) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'campaign % belongs to no app that % was granted', campaign, current_user
      USING ERRCODE = 'insufficient_privilege', HINT = format('an admin grants apps: SELECT scheduler.grant_app(app_id, workspace_id, %L);', current_user);
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaign_targets_granted() IS 'Refuses targets for campaigns of apps that the author was not granted.';

CREATE TRIGGER campaign_targets_granted_insert AFTER INSERT ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_granted();
CREATE TRIGGER campaign_targets_granted_update AFTER UPDATE ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_granted();

----------------------------------------------------------------------- audiences

CREATE SCHEMA IF NOT EXISTS audience;
COMMENT ON SCHEMA audience IS
  'Views that campaigns name as audience_view: columns target, template_key_value, extended_params. The daemon reads those it was granted, and a function in one runs with the daemon''s rights: only admins may create here.';

---------------------------------------------------------------------- privileges

-- Every migration ends with set_schema_version, which calls this: what it made
-- has its privileges then, and so has a role that was created since.
CREATE FUNCTION scheduler.grant_privileges() RETURNS void
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

SELECT scheduler.set_schema_version(6);

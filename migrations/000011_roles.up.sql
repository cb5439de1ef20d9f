-- Who did it, and who may do what, so that neither rests on anybody's word.
--
--   scheduler_owner  owns the schema; nobody's everyday role is a member of it
--   scheduler_front  logins that act for people (an API, a console): what such a
--                    login does after SET ROLE is the person's, and names it too
--
-- Roles belong to the whole cluster: they are made where they are missing and
-- never dropped. Where the migrating login may not make roles everything works
-- as it did, and the separation comes with the roles: scheduler migrate own.

DO $$
DECLARE
  role name;
BEGIN
  FOREACH role IN ARRAY ARRAY['scheduler_owner', 'scheduler_front'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NOT NULL;
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migration was faster
      WHEN insufficient_privilege THEN
        RAISE NOTICE 'role % is missing, and % may not create it', role, current_user
          USING HINT = format('As one who may: CREATE ROLE %I NOLOGIN;', role);
    END;
  END LOOP;
END $$;

----------------------------------------------------------------------- who did it

-- SET ROLE takes only roles of which the login is a member, and a function with
-- its owner's rights does not change it. So this setting, unlike all others,
-- says what is so.
CREATE FUNCTION scheduler.acting_role() RETURNS name
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_catalog.current_setting('role') = 'none' THEN session_user ELSE pg_catalog.current_setting('role')::pg_catalog.name END;
COMMENT ON FUNCTION scheduler.acting_role() IS 'The role whose rights the session has taken on with SET ROLE, else its login; in a function with its owner''s rights too.';

CREATE FUNCTION scheduler.is_front() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT NOT r.rolsuper AND coalesce(pg_has_role(r.oid, to_regrole('scheduler_front'), 'MEMBER'), false) FROM pg_roles r WHERE r.rolname = session_user
$$;
COMMENT ON FUNCTION scheduler.is_front() IS 'Whether the login acts for people: a member of scheduler_front, and no superuser.';

CREATE FUNCTION scheduler.actor() RETURNS text
LANGUAGE sql STABLE
RETURN CASE
  WHEN scheduler.acting_role() = session_user THEN session_user
  WHEN scheduler.is_front() THEN scheduler.acting_role()
  ELSE session_user END::pg_catalog.text;
COMMENT ON FUNCTION scheduler.actor() IS
  'Who does it: the login; where the login is a front (scheduler_front), the role it acts for. No setting, row value or default reaches it. For every column that says who did something.';

CREATE FUNCTION scheduler.actor_via() RETURNS text
LANGUAGE sql STABLE
RETURN CASE
  WHEN scheduler.acting_role() = session_user THEN NULL
  WHEN scheduler.is_front() THEN 'front ' || session_user::pg_catalog.text
  ELSE 'role ' || scheduler.acting_role()::pg_catalog.text END;
COMMENT ON FUNCTION scheduler.actor_via() IS
  'What stands beside scheduler.actor(): "front LOGIN" where a front acts for a person, "role NAME" where a login took another role on, else NULL.';

-- Each audit is signed by a trigger, whoever writes the row and whatever it says.
ALTER TABLE scheduler.campaigns ADD COLUMN created_via text, ADD COLUMN updated_via text;
COMMENT ON COLUMN scheduler.campaigns.created_by IS 'Who inserted the row: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.campaigns.updated_by IS 'Who last changed it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.campaigns.created_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.campaigns.updated_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
ALTER TABLE scheduler.campaign_history ADD COLUMN changed_via text;
COMMENT ON COLUMN scheduler.campaign_history.changed_by IS 'Who made it: the login, or the person for whom a front acted; scheduler: the engine.';
COMMENT ON COLUMN scheduler.campaign_history.changed_via IS 'The role that the login took on, the front that acted, or the login of the engine; NULL: none of them.';
ALTER TABLE scheduler.rulings ADD COLUMN ruled_via text;
COMMENT ON COLUMN scheduler.rulings.ruled_by IS 'Who ruled: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.rulings.ruled_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
ALTER TABLE scheduler.triggered_tasks ADD COLUMN triggered_via text;
COMMENT ON COLUMN scheduler.triggered_tasks.triggered_by IS 'Who did it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.triggered_tasks.triggered_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
ALTER TABLE scheduler.app_grants ADD COLUMN granted_via text;
COMMENT ON COLUMN scheduler.app_grants.granted_by IS 'Who granted it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.app_grants.granted_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
ALTER TABLE scheduler.hold ADD COLUMN held_by text, ADD COLUMN held_via text, ADD COLUMN released_via text;
COMMENT ON COLUMN scheduler.hold.held_by IS 'Who held it, or did the last time: the login, or the person for whom a front acted; scheduler: the engine, in doubt of the database.';
COMMENT ON COLUMN scheduler.hold.held_via IS 'The role that the login took on, the front that acted, or the login of the engine; NULL: none of them.';
COMMENT ON COLUMN scheduler.hold.released_by IS 'Who released it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.hold.released_via IS 'The role that the login took on, or the front that acted; NULL: neither.';

CREATE FUNCTION scheduler.audit_signed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  CASE TG_TABLE_NAME
    WHEN 'campaign_history' THEN
      IF NEW.action IN ('finish', 'reject') THEN -- campaigns_signed lets the engine alone do these
        NEW.changed_by := 'scheduler';
        NEW.changed_via := 'login ' || session_user;
      ELSE
        NEW.changed_by := scheduler.actor();
        NEW.changed_via := scheduler.actor_via();
      END IF;
    WHEN 'rulings' THEN
      NEW.ruled_by := scheduler.actor();
      NEW.ruled_via := scheduler.actor_via();
    WHEN 'triggered_tasks' THEN
      NEW.triggered_by := scheduler.actor();
      NEW.triggered_via := scheduler.actor_via();
    WHEN 'app_grants' THEN
      NEW.granted_by := scheduler.actor();
      NEW.granted_via := scheduler.actor_via();
  END CASE;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.audit_signed() IS 'Writes who did it into an audit, over whatever the statement says.';

CREATE TRIGGER campaign_history_signed BEFORE INSERT ON scheduler.campaign_history FOR EACH ROW EXECUTE FUNCTION scheduler.audit_signed();
CREATE TRIGGER rulings_signed BEFORE INSERT ON scheduler.rulings FOR EACH ROW EXECUTE FUNCTION scheduler.audit_signed();
CREATE TRIGGER triggered_tasks_signed BEFORE INSERT ON scheduler.triggered_tasks FOR EACH ROW EXECUTE FUNCTION scheduler.audit_signed();
CREATE TRIGGER app_grants_signed BEFORE INSERT ON scheduler.app_grants FOR EACH ROW EXECUTE FUNCTION scheduler.audit_signed();
ALTER TABLE scheduler.rulings ALTER ruled_by DROP DEFAULT;
ALTER TABLE scheduler.triggered_tasks ALTER triggered_by DROP DEFAULT;
ALTER TABLE scheduler.app_grants ALTER granted_by DROP DEFAULT;

CREATE FUNCTION scheduler.is_engine() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(pg_has_role(scheduler.acting_role(), to_regrole('scheduler_daemon'), 'USAGE'), false)
     AND NOT coalesce(pg_has_role(scheduler.acting_role(), to_regrole('scheduler_admin'), 'USAGE'), false)
     AND NOT (SELECT pg_has_role(scheduler.acting_role(), c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass)
$$;
COMMENT ON FUNCTION scheduler.is_engine() IS 'Whether the session is a daemon''s and of nobody who might do people''s deeds; in a function with its owner''s rights too.';

-- Runs with its caller's rights, since it asks what the caller is. Whatever it
-- names comes from the session all the same.
CREATE FUNCTION scheduler.hold_signed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Operators come through functions with the owner's rights; so may the engine,
  -- whose login is a daemon's and nothing more.
  engine boolean := NOT scheduler.is_owner() OR scheduler.is_engine();
BEGIN
  NEW.held_by := OLD.held_by;
  NEW.held_via := OLD.held_via;
  NEW.released_by := OLD.released_by;
  NEW.released_via := OLD.released_via;
  IF OLD.held_since IS NULL AND NEW.held_since IS NOT NULL THEN
    NEW.held_by := CASE WHEN engine THEN 'scheduler' ELSE scheduler.actor() END;
    NEW.held_via := CASE WHEN engine THEN 'login ' || session_user ELSE scheduler.actor_via() END;
  ELSIF OLD.held_since IS NOT NULL AND NEW.held_since IS NULL THEN
    IF engine THEN
      RAISE EXCEPTION 'the engine may hold pushes and not release them' USING ERRCODE = 'insufficient_privilege',
        HINT = 'an operator does it: scheduler release';
    END IF;
    NEW.released_by := scheduler.actor();
    NEW.released_via := scheduler.actor_via();
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.hold_signed() IS 'Writes who holds and who releases, and lets nobody release but operators.';

CREATE TRIGGER hold_signed BEFORE UPDATE ON scheduler.hold FOR EACH ROW EXECUTE FUNCTION scheduler.hold_signed();

-- Comes after campaigns_judge, by the order of their names, and has the last
-- word. The engine sets finished and rejected, and takes back what it rejected
-- when the cause was not in the row; that is nobody's change of the campaign. It
-- sets nothing else, whatever it says of itself.
CREATE FUNCTION scheduler.campaigns_signed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  engine boolean := false; author boolean := true;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    engine := scheduler.is_daemon();
    NEW.created_by := OLD.created_by;
    NEW.created_via := OLD.created_via;
    IF engine AND (NEW.status IN ('finished', 'rejected') AND (scheduler.acts_as('scheduler_daemon') OR NOT scheduler.content_changed(OLD, NEW))
        OR OLD.status = 'rejected' AND NEW.status = 'active' AND NOT scheduler.content_changed(OLD, NEW)) THEN
      NEW.updated_by := OLD.updated_by;
      NEW.updated_via := OLD.updated_via;
      RETURN NEW;
    END IF;
    author := NOT scheduler.acts_as('scheduler_daemon') OR scheduler.is_owner() OR scheduler.acts_as('scheduler_author') OR scheduler.acts_as('scheduler_admin');
    IF engine OR NOT author THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'campaigns',
        MESSAGE = 'the engine sets a campaign to finished or rejected, takes a rejection back, and does nothing else',
        HINT = 'change campaigns with the login of an author or an admin, and without the setting scheduler.daemon';
    END IF;
  ELSE
    NEW.created_by := scheduler.actor();
    NEW.created_via := scheduler.actor_via();
  END IF;
  NEW.updated_by := scheduler.actor();
  NEW.updated_via := scheduler.actor_via();
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_signed() IS 'Writes who inserted and who last changed a campaign, and keeps the engine to what is the engine''s.';

CREATE TRIGGER campaigns_signed BEFORE INSERT OR UPDATE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_signed();

CREATE OR REPLACE FUNCTION scheduler.campaigns_note_actor() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  RETURN OLD;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_note_actor() IS 'Refuses to delete a campaign in a transaction that does not see its tasks.';

---------------------------------------------------------------------- whose it is

CREATE FUNCTION scheduler.apps_of(who name) RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN (SELECT pg_has_role(who, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass)
      OR coalesce(pg_has_role(who, to_regrole('scheduler_admin'), 'USAGE'), false) THEN NULL
    ELSE (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g
           WHERE coalesce(pg_has_role(who, to_regrole(quote_ident(g.role)), 'USAGE'), false)) END
$$;
COMMENT ON FUNCTION scheduler.apps_of(name) IS 'The apps whose campaigns a role may change; NULL: all. To read them is another matter: scheduler.visible_apps().';

CREATE FUNCTION scheduler.writable_apps() RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT scheduler.apps_of(current_user) $$;
COMMENT ON FUNCTION scheduler.writable_apps() IS 'The apps whose campaigns the current role may change; NULL: all.';

-- In a function with its owner's rights the current role is the owner.
CREATE FUNCTION scheduler.may_write(app integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT a.apps IS NULL OR app = ANY (a.apps) FROM (SELECT scheduler.apps_of(scheduler.acting_role())) a (apps) $$;
COMMENT ON FUNCTION scheduler.may_write(integer) IS 'Whether the session may change campaigns of an app; for functions with their owner''s rights.';

------------------------------------------------------------------------- deleting

-- The right to delete from a table, or to update the whole of it, is the right to
-- LOCK it, and so to stop everybody. Nobody but the owner and the daemon has it:
-- columns are updated, and rows are deleted by these functions.

CREATE FUNCTION scheduler.delete_campaign(campaign_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.campaigns c WHERE c.id = delete_campaign.campaign_id AND scheduler.may_write(c.app_no);
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.delete_campaign(bigint) IS
  'Deletes a campaign with its targets; what it had not begun is cancelled, its record stays. Returns whether there was one that is yours: SELECT scheduler.delete_campaign(id) FROM scheduler.campaigns WHERE ...';

CREATE FUNCTION scheduler.delete_targets(campaign_id bigint, targets text[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  n bigint;
BEGIN
  PERFORM FROM scheduler.campaigns c WHERE c.id = delete_targets.campaign_id AND scheduler.may_write(c.app_no);
  IF NOT FOUND THEN
    RETURN 0;
  ELSIF targets IS NULL THEN
    DELETE FROM scheduler.campaign_targets t WHERE t.campaign_id = delete_targets.campaign_id;
  ELSE
    DELETE FROM scheduler.campaign_targets t WHERE t.campaign_id = delete_targets.campaign_id AND t.target = ANY (targets);
  END IF;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$;
COMMENT ON FUNCTION scheduler.delete_targets(bigint, text[]) IS
  'Deletes those targets of a campaign, without a list all of them; returns how many there were, 0 when the campaign is not yours.';

CREATE FUNCTION scheduler.delete_app(app_id text, workspace_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.apps a WHERE a.app_id = delete_app.app_id AND a.workspace_id = delete_app.workspace_id;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.delete_app(text, text) IS 'Deletes an app that has no campaigns, with its grants and quotas; returns whether there was one.';

CREATE FUNCTION scheduler.delete_quota(app_id text, workspace_id text, channel text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.app_quotas q USING scheduler.apps a
   WHERE a.app_no = q.app_no AND a.app_id = delete_quota.app_id AND a.workspace_id = delete_quota.workspace_id AND q.channel = delete_quota.channel;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.delete_quota(text, text, text) IS 'Gives an app the channel''s own quota again; returns whether it had one that differs.';

-- With their owner's rights, so that an admin needs none on the table of grants.
ALTER FUNCTION scheduler.grant_app(text, text, name) SECURITY DEFINER;
ALTER FUNCTION scheduler.revoke_app(text, text, name) SECURITY DEFINER;

----------------------------------------------------------------------- the record

-- The daemon appends to the record and prunes what is old. It does not rewrite
-- it, and what waits for a ruling stays.
CREATE FUNCTION scheduler.record_kept() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF scheduler.is_owner() THEN
    RETURN NULL;
  ELSIF TG_OP = 'UPDATE' THEN
    RAISE EXCEPTION 'a decision is not changed' USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'decided_tasks',
      HINT = 'an operator rules on a task of unknown outcome: scheduler tasks resolve';
  ELSIF EXISTS (SELECT FROM gone g WHERE g.status = 'unknown' OR g.decided_at > clock_timestamp() - interval '1 hour') THEN
    RAISE EXCEPTION 'a decision is kept for an hour, and until it is ruled on when its outcome is unknown'
      USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'decided_tasks', HINT = 'retention.tasks says for how long after that';
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.record_kept() IS 'Lets nobody but the owner''s functions change the record, and the daemon prune it.';

CREATE TRIGGER decided_tasks_unchanged BEFORE UPDATE ON scheduler.decided_tasks
  FOR EACH STATEMENT EXECUTE FUNCTION scheduler.record_kept();
CREATE TRIGGER decided_tasks_kept AFTER DELETE ON scheduler.decided_tasks
  REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION scheduler.record_kept();

------------------------------------------------------------------- who is in the way

-- Who else's open transaction, or lock, the engine waits for. Logins and process
-- ids are everybody's to see in pg_stat_activity; when a transaction began only
-- for pg_read_all_stats.
CREATE FUNCTION scheduler.blockers(longer_than interval DEFAULT '1 second')
  RETURNS TABLE (pid integer, login name, application text, since timestamptz, waiting interval, blocked bigint, relation text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH engine AS (
    SELECT a.pid FROM pg_stat_activity a
     WHERE a.datname = current_database() AND a.application_name ~ '^scheduler( |$)' AND a.application_name <> 'scheduler migrate'
       AND (coalesce(pg_has_role(a.usesysid, to_regrole('scheduler_daemon'), 'MEMBER'), false)
         OR pg_has_role(a.usesysid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass), 'MEMBER'))
  ), wait AS (
    SELECT l.pid, max(clock_timestamp() - l.waitstart) AS waiting, max(l.relation::regclass::text) AS relation
      FROM pg_locks l WHERE NOT l.granted AND l.pid IN (SELECT e.pid FROM engine e) AND l.waitstart < clock_timestamp() - longer_than GROUP BY l.pid
  )
  SELECT b.pid, coalesce(a.usename, 'a prepared transaction'), coalesce(a.application_name, ''), a.xact_start, max(w.waiting), count(DISTINCT w.pid), max(w.relation)
    FROM wait w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
   WHERE b.pid NOT IN (SELECT e.pid FROM engine e)
   GROUP BY b.pid, a.usename, a.application_name, a.xact_start ORDER BY max(w.waiting) DESC, b.pid
$$;
COMMENT ON FUNCTION scheduler.blockers(interval) IS
  'The sessions for whose locks the engine''s have waited longer than this: process id (0: a prepared transaction), login, application, begin of the transaction where it may be seen, the longest wait, how many wait, and for which table. SELECT pg_terminate_backend(pid) ends one.';

-- Time-outs are a login's own to set anew in a session. They are against what is
-- forgotten, and what is malicious is ended by an admin whom blockers() told.
-- transaction_timeout is PostgreSQL 17's.
CREATE FUNCTION scheduler.limit_login(login name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  timeout record;
BEGIN
  FOR timeout IN SELECT v.name, v.value FROM (VALUES ('lock_timeout', '5s'), ('statement_timeout', '5min'),
      ('idle_in_transaction_session_timeout', '1min'), ('transaction_timeout', '10min')) v (name, value) JOIN pg_settings s USING (name) LOOP
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = %L', login, current_database(), timeout.name, timeout.value);
  END LOOP;
END $$;
COMMENT ON FUNCTION scheduler.limit_login(name) IS
  'Gives a login the time-outs that an author''s should have in this database: lock_timeout 5s, statement_timeout 5min, idle_in_transaction_session_timeout 1min, transaction_timeout 10min where there is one. For a role that may alter the login.';

---------------------------------------------------------------------- privileges

CREATE FUNCTION scheduler.columns_of(relation regclass, names name[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (names) $$;
COMMENT ON FUNCTION scheduler.columns_of(regclass, name[]) IS 'Those of the named columns that a table has, as a list in SQL. For grant_privileges.';

CREATE FUNCTION scheduler.columns_but(relation regclass, names name[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (names) $$;
COMMENT ON FUNCTION scheduler.columns_but(regclass, name[]) IS 'The columns of a table without the named ones, as a list in SQL. For grant_privileges.';

-- Views in schema audience read other people's tables with their owner's rights
-- and stay their owner's.
CREATE FUNCTION scheduler.adopt(new_owner name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  object record;
BEGIN
  FOR object IN
    SELECT format('ALTER SCHEMA %I OWNER TO %I', n.nspname, new_owner) AS change, 0 AS turn FROM pg_namespace n
     WHERE n.nspname IN ('scheduler', 'audience') AND pg_get_userbyid(n.nspowner) <> new_owner AND pg_has_role(n.nspowner, 'USAGE')
    UNION ALL
    SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, new_owner), 1 FROM pg_class c -- views and sequences as well
     WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_get_userbyid(c.relowner) <> new_owner AND pg_has_role(c.relowner, 'USAGE')
       AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
    UNION ALL
    SELECT format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, new_owner), 2 FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
     WHERE t.typnamespace = 'scheduler'::regnamespace AND t.typelem = 0 AND (t.typrelid = 0 OR c.relkind = 'c') AND pg_get_userbyid(t.typowner) <> new_owner AND pg_has_role(t.typowner, 'USAGE')
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, new_owner), 3 FROM pg_proc p
     WHERE p.pronamespace = 'scheduler'::regnamespace AND pg_get_userbyid(p.proowner) <> new_owner AND pg_has_role(p.proowner, 'USAGE')
    ORDER BY 2
  LOOP
    EXECUTE object.change;
  END LOOP;
END $$;
COMMENT ON FUNCTION scheduler.adopt(name) IS 'Makes a role the owner of both schemas and of all that is in schema scheduler, as far as the current role may. For set_owner and grant_privileges.';

CREATE FUNCTION scheduler.set_owner(new_owner name DEFAULT 'scheduler_owner') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regrole(quote_ident(new_owner)) IS NULL THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', new_owner);
  END IF;
  IF NOT has_database_privilege(new_owner, current_database(), 'CREATE') THEN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO %I', current_database(), new_owner);
  END IF;
  PERFORM scheduler.adopt(new_owner);
  PERFORM scheduler.grant_privileges();
END $$;
COMMENT ON FUNCTION scheduler.set_owner(name) IS
  'Hands the schema over to a role, which is made when it is missing: scheduler migrate own. For a superuser, or a login that is a member of the owner and of the new one.';

-- Every migration ends with set_schema_version, which calls this: what it made
-- has its owner and its privileges then, and so has a role that was created since.
CREATE OR REPLACE FUNCTION scheduler.grant_privileges() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  role name; object record; owner name;
  -- What a campaign's author writes, as far as the columns are there.
  authors_columns CONSTANT name[] := '{name,app_id,workspace_id,channel,strategy_type,strategy_content,request,audience_view,time_zone,misfire_policy,
    catch_up_window,short_month_policy,dst_gap_policy,resend_unknown,status,calendar,calendar_policy,times,quiet_policy,spread}';
  -- What somebody did, and what nobody does by hand: functions write it.
  functions_tables CONSTANT name[] := '{channels,apps,app_quotas,app_grants,campaigns,campaign_targets,campaign_history,rulings,triggered_tasks,hold,
    time_zones,schema_version,schema_migrations}';
BEGIN
  SELECT pg_get_userbyid(n.nspowner) INTO owner FROM pg_namespace n WHERE n.nspname = 'scheduler';
  PERFORM scheduler.adopt(owner);
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA scheduler FROM PUBLIC;

  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL OR role = owner;
    EXECUTE format('GRANT USAGE ON SCHEMA scheduler TO %I', role);
    -- A trigger function in a stranger's own trigger, on rows of his making, would
    -- do the owner's work for him: nobody but the owner may use one. A function
    -- with its caller's rights can do nothing that the caller cannot. Of those
    -- with the owner's rights, deeds are people's and never the daemon's.
    FOR object IN SELECT p.oid::regprocedure AS name, p.proname, p.prosecdef AS owners_rights FROM pg_proc p
       WHERE p.pronamespace = 'scheduler'::regnamespace AND p.prorettype <> 'trigger'::regtype AND pg_has_role(p.proowner, 'USAGE') LOOP
      IF (CASE WHEN NOT object.owners_rights THEN true
           WHEN object.proname = ANY ('{delete_campaign,delete_targets,skip_occurrence,unskip_occurrence,revoke_task,note_campaign,campaign_written_now}') THEN role IN ('scheduler_admin', 'scheduler_author')
           WHEN object.proname ~ '^(trigger|resolve|hold|release|skip|unskip|revoke|grant|delete|set)_' THEN role = 'scheduler_admin'
           ELSE role IN ('scheduler_admin', 'scheduler_daemon') END) THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.name, role);
      ELSE
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', object.name, role);
      END IF;
    END LOOP;
    -- What only allows a LOCK, or a foreign key or a trigger of one's own, goes;
    -- columns follow below. With UPDATE on a table go those on its columns.
    IF role <> 'scheduler_daemon' THEN
      FOR object IN SELECT c.oid::regclass AS name FROM pg_class c
         WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_has_role(c.relowner, 'USAGE') LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', object.name, role);
      END LOOP;
    END IF;
    IF role <> 'scheduler_author' THEN
      EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA scheduler TO %I', role);
    END IF;
  END LOOP;

  IF to_regrole('scheduler_admin') IS NOT NULL AND owner <> 'scheduler_admin' THEN
    REVOKE INSERT ON scheduler.app_grants FROM scheduler_admin;
    GRANT INSERT ON scheduler.apps, scheduler.app_quotas, scheduler.campaigns, scheduler.campaign_targets TO scheduler_admin;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.apps TO scheduler_admin', scheduler.columns_but('scheduler.apps', '{app_no,created_at,updated_at}'));
    GRANT UPDATE (weekly_quota) ON scheduler.app_quotas TO scheduler_admin;
    GRANT USAGE, CREATE ON SCHEMA audience TO scheduler_admin;
  END IF;

  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_author'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL OR role = owner;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.campaigns TO %I', scheduler.columns_of('scheduler.campaigns', authors_columns), role);
    EXECUTE format('GRANT INSERT, UPDATE (%s) ON scheduler.campaign_targets TO %I', scheduler.columns_but('scheduler.campaign_targets', '{}'), role);
  END LOOP;

  IF to_regrole('scheduler_daemon') IS NOT NULL AND owner <> 'scheduler_daemon' THEN
    GRANT INSERT, UPDATE ON scheduler.channels, scheduler.apps, scheduler.app_quotas TO scheduler_daemon;
    GRANT UPDATE (status, status_reason) ON scheduler.campaigns TO scheduler_daemon;
    -- The guard holds; operators release. hold_signed writes who it was.
    REVOKE INSERT, UPDATE, DELETE ON scheduler.hold FROM scheduler_daemon;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.hold TO scheduler_daemon',
      scheduler.columns_but('scheduler.hold', '{only_row,skip_before,released_at,held_by,held_via,released_by,released_via}'));
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA scheduler TO scheduler_daemon;
    GRANT USAGE ON SCHEMA audience TO scheduler_daemon;
    -- The engine's own tables, those of later migrations too. A table that says
    -- who did something is an audit: functions write it.
    FOR object IN SELECT c.oid::regclass AS name,
           c.relname = ANY (functions_tables) OR EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname ~ '_by$' AND NOT t.attisdropped) AS audit
         FROM pg_class c
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE') LOOP
      IF NOT object.audit THEN
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO scheduler_daemon', object.name);
      END IF;
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

  IF to_regrole('scheduler_author') IS NOT NULL AND owner <> 'scheduler_author' THEN
    GRANT SELECT ON scheduler.apps, scheduler.channels, scheduler.time_zones, scheduler.app_grants, scheduler.campaigns, scheduler.campaign_targets,
      scheduler.campaign_history, scheduler.tasks, scheduler.deliveries, scheduler.upcoming, scheduler.missed, scheduler.unresolved,
      scheduler.app_usage, scheduler.quota_usage TO scheduler_author;
    FOR object IN SELECT c.oid::regclass AS name FROM pg_class c -- of later migrations
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relname = ANY ('{audit,state,quota_calls,skipped_occurrences,revocations,revocation_calls}') LOOP
      EXECUTE format('GRANT SELECT ON %s TO scheduler_author', object.name);
    END LOOP;
    -- id for DEFAULT alone: 000015 refuses a number of the author's own.
    EXECUTE format('GRANT INSERT (%s) ON scheduler.campaigns TO scheduler_author', scheduler.columns_of('scheduler.campaigns', authors_columns || '{id,client_token,client_digest}'::name[]));
  END IF;

  -- Fronts use nonces before they take on a role, which has nothing to do with them.
  IF to_regrole('scheduler_front') IS NOT NULL THEN
    GRANT USAGE ON SCHEMA scheduler TO scheduler_front;
    FOR object IN SELECT p.oid::regprocedure AS name FROM pg_proc p
       WHERE p.pronamespace = 'scheduler'::regnamespace AND p.proname = ANY ('{use_nonce,prune_nonces}') LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO scheduler_front', object.name);
    END LOOP;
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.grant_privileges() IS 'Gives the roles their privileges, as far as the roles exist, and takes what they must not have. May be run any number of times, by the schema''s owner.';

SELECT scheduler.set_schema_version(11);

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

-- Runs with its caller's rights, since it asks what the caller is. Whatever it
-- names comes from the session all the same.
CREATE FUNCTION scheduler.hold_signed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  engine boolean := NOT scheduler.is_owner(); -- operators come through functions with the owner's rights
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
-- word. The engine sets finished and rejected; that is nobody's change of the
-- campaign. It sets nothing else, whatever it says of itself.
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
    IF engine AND NEW.status IN ('finished', 'rejected') AND (scheduler.acts_as('scheduler_daemon') OR NOT scheduler.content_changed(OLD, NEW)) THEN
      NEW.updated_by := OLD.updated_by;
      NEW.updated_via := OLD.updated_via;
      RETURN NEW;
    END IF;
    author := NOT scheduler.acts_as('scheduler_daemon') OR scheduler.is_owner() OR scheduler.acts_as('scheduler_author') OR scheduler.acts_as('scheduler_admin');
    IF engine OR NOT author THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'campaigns',
        MESSAGE = 'the engine sets a campaign to finished or rejected, and nothing else',
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

SELECT scheduler.set_schema_version(11);

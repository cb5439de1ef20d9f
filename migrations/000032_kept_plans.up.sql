-- Every statement asks these functions who is there and what may be seen, the engine's
-- whether it knows the database. PostgreSQL plans a function in SQL anew for each
-- statement that asks it, and keeps the plans of one in PL/pgSQL. What they say stays
-- the same.

CREATE OR REPLACE FUNCTION scheduler.acts_as(role name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(pg_has_role(to_regrole(quote_ident(role)), 'USAGE'), false);
END $$;

CREATE OR REPLACE FUNCTION scheduler.is_owner() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass);
END $$;

CREATE OR REPLACE FUNCTION scheduler.is_daemon() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(current_setting('scheduler.daemon', true), '') = 'on' AND (scheduler.acts_as('scheduler_daemon') OR scheduler.is_owner());
END $$;

CREATE OR REPLACE FUNCTION scheduler.visible_apps() RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF scheduler.acts_as('scheduler_admin') OR scheduler.acts_as('scheduler_daemon') OR scheduler.acts_as('scheduler_reader') OR scheduler.is_owner() THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g WHERE scheduler.acts_as(g.role));
END $$;

CREATE OR REPLACE FUNCTION scheduler.apps_of(who name) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(pg_has_role(who, to_regrole('scheduler_admin'), 'USAGE'), false)
    OR (SELECT pg_has_role(who, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass) THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g
           WHERE coalesce(pg_has_role(who, to_regrole(quote_ident(g.role)), 'USAGE'), false));
END $$;

CREATE OR REPLACE FUNCTION scheduler.writable_apps() RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN scheduler.apps_of(current_user);
END $$;

CREATE OR REPLACE FUNCTION scheduler.recognised() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known CONSTANT text := current_setting('scheduler.seal', true);
BEGIN
  IF known = 'any' THEN
    RETURN true;
  END IF;
  -- scheduler.seal(), written out
  PERFORM FROM scheduler.recognition r, scheduler.recognitions k
    WHERE concat_ws(' ', r.run, r.xmin, pg_relation_filepath('scheduler.recognition'::regclass)) = known
      AND k.seal = known AND k.complete_at IS NOT NULL;
  IF FOUND THEN
    RETURN true;
  END IF;
  IF coalesce(known, '') = '' THEN
    RAISE EXCEPTION 'the session has lost its settings: a pooler gives its connection to others' USING ERRCODE = 'SR002',
      HINT = 'PgBouncer: pool_mode = session for this database, or another port.';
  END IF;
  RAISE EXCEPTION 'the daemons have not recognised this database yet' USING ERRCODE = 'SR001',
    HINT = 'It crashed, failed over or was restored. Each daemon looks first whether what it began is still there.';
END $$;

SELECT scheduler.set_schema_version(32);

CREATE OR REPLACE FUNCTION scheduler.acts_as(role name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(pg_has_role(to_regrole(quote_ident(role)), 'USAGE'), false) $$;

CREATE OR REPLACE FUNCTION scheduler.is_owner() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass $$;

CREATE OR REPLACE FUNCTION scheduler.is_daemon() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(current_setting('scheduler.daemon', true), '') = 'on' AND (scheduler.acts_as('scheduler_daemon') OR scheduler.is_owner())
$$;

CREATE OR REPLACE FUNCTION scheduler.visible_apps() RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN scheduler.is_owner() OR scheduler.acts_as('scheduler_admin') OR scheduler.acts_as('scheduler_daemon') OR scheduler.acts_as('scheduler_reader') THEN NULL
    ELSE (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g WHERE scheduler.acts_as(g.role)) END
$$;

CREATE OR REPLACE FUNCTION scheduler.apps_of(who name) RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN (SELECT pg_has_role(who, c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = 'scheduler.campaigns'::regclass)
      OR coalesce(pg_has_role(who, to_regrole('scheduler_admin'), 'USAGE'), false) THEN NULL
    ELSE (SELECT coalesce(array_agg(g.app_no), '{}') FROM scheduler.app_grants g
           WHERE coalesce(pg_has_role(who, to_regrole(quote_ident(g.role)), 'USAGE'), false)) END
$$;

CREATE OR REPLACE FUNCTION scheduler.writable_apps() RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT scheduler.apps_of(current_user) $$;

CREATE OR REPLACE FUNCTION scheduler.recognised() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known CONSTANT text := current_setting('scheduler.seal', true);
BEGIN
  IF known = 'any' OR known = scheduler.seal() AND EXISTS (SELECT FROM scheduler.recognitions r WHERE r.seal = known AND r.complete_at IS NOT NULL) THEN
    RETURN true;
  END IF;
  IF coalesce(known, '') = '' THEN
    RAISE EXCEPTION 'the session has lost its settings: a pooler gives its connection to others' USING ERRCODE = 'SR002',
      HINT = 'PgBouncer: pool_mode = session for this database, or another port.';
  END IF;
  RAISE EXCEPTION 'the daemons have not recognised this database yet' USING ERRCODE = 'SR001',
    HINT = 'It crashed, failed over or was restored. Each daemon looks first whether what it began is still there.';
END $$;

SELECT scheduler.set_schema_version(31);

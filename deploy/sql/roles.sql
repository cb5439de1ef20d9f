-- Creates the scheduler's four roles, for whoever looks after the cluster. To be
-- run in the scheduler's own database, by a role that may create roles:
--
--   psql -v ON_ERROR_STOP=1 -d scheduler -f roles.sql
--
-- Once before the first `scheduler migrate up`; it may be run again at any time,
-- and gives the privileges anew. Where the migrating role may create roles
-- itself, the migrations have done all this already.

DO $$
DECLARE
  role name;
BEGIN
  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    IF to_regrole(role::text) IS NULL THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
  END LOOP;
  -- Admins migrate as scheduler_admin, which then owns the schema, whoever of
  -- them it was; that takes the right to make schemas in this database.
  EXECUTE format('GRANT CREATE ON DATABASE %I TO scheduler_admin', current_database());
  IF to_regprocedure('scheduler.grant_privileges()') IS NOT NULL THEN
    PERFORM scheduler.grant_privileges();
  END IF;
END $$;

-- Then people and daemons, for example:
--
--   CREATE ROLE olga   LOGIN PASSWORD '...' IN ROLE scheduler_admin;
--   CREATE ROLE pusher LOGIN PASSWORD '...' IN ROLE scheduler_daemon;
--   CREATE ROLE mei    LOGIN PASSWORD '...' IN ROLE scheduler_author;
--   CREATE ROLE bi     LOGIN PASSWORD '...' IN ROLE scheduler_reader;
--   SELECT scheduler.grant_app('ONEX570DA89211721', 'test', 'mei');

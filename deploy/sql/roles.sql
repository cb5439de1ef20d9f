-- Creates the scheduler's roles, for whoever looks after the cluster. To be run
-- in the scheduler's own database, by a role that may create roles:
--
--   psql -v ON_ERROR_STOP=1 -d scheduler -f roles.sql
--
-- Once before the first `scheduler migrate up`; it may be run again at any time,
-- and gives the privileges anew. Where the migrating role may create roles
-- itself, the migrations have done all this already, but for the grant of
-- CREATE below.

DO $$
DECLARE
  role name;
BEGIN
  FOREACH role IN ARRAY ARRAY['scheduler_owner', 'scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader', 'scheduler_front'] LOOP
    IF to_regrole(role::text) IS NULL THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
  END LOOP;
  -- The owner makes the schemas. Nobody's everyday role is a member of it.
  EXECUTE format('GRANT CREATE ON DATABASE %I TO scheduler_owner', current_database());
  IF to_regprocedure('scheduler.grant_privileges()') IS NOT NULL THEN
    PERFORM scheduler.grant_privileges();
  END IF;
END $$;

-- Then a login that migrates and does nothing else, people, and daemons, for
-- example:
--
--   CREATE ROLE migrator LOGIN PASSWORD '...' NOINHERIT IN ROLE scheduler_owner;
--   CREATE ROLE olga   LOGIN PASSWORD '...' IN ROLE scheduler_admin;
--   CREATE ROLE pusher LOGIN PASSWORD '...' IN ROLE scheduler_daemon;
--   CREATE ROLE mei    LOGIN PASSWORD '...' IN ROLE scheduler_author;
--   CREATE ROLE bi     LOGIN PASSWORD '...' IN ROLE scheduler_reader;
--   SELECT scheduler.grant_app('ONEX570DA89211721', 'test', 'mei');
--
-- and for the logins of people and their tools the time-outs that keep a
-- forgotten transaction from lasting:
--
--   SELECT scheduler.limit_login('mei');

-- Recognition: nothing begins, and nothing is decided by a daemon, on a database
-- of which the daemons have not made sure that it still holds what they began and
-- recorded. A failover, a crash and a restore may each lose what was committed.
--
-- The mark of a recognised database is a row of an UNLOGGED table: PostgreSQL
-- empties it after a crash, on a promoted standby and after recovery to a point
-- in time, and keeps it over a clean restart. A restored dump brings the row
-- back, as another version of it in another file: scheduler.seal() tells the
-- difference. Each session of a daemon carries the seal it knows in the setting
-- scheduler.seal, so that the statements themselves are refused, whichever
-- connection reaches which server.

CREATE UNLOGGED TABLE scheduler.recognition (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  run      uuid NOT NULL DEFAULT gen_random_uuid()
);
COMMENT ON TABLE scheduler.recognition IS 'The mark of a database that was not lost or restored since its row was written. Unlogged: a crash, a promotion and a recovery empty it.';
COMMENT ON COLUMN scheduler.recognition.only_row IS 'Always true: as the primary key it keeps the table to one row.';
COMMENT ON COLUMN scheduler.recognition.run IS 'Made at random. The row is never updated: its xmin is part of the seal.';

CREATE TABLE scheduler.recognitions (
  seal        text PRIMARY KEY,
  begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  patience    interval NOT NULL,
  awaited     bigint[] NOT NULL DEFAULT '{}',
  lost        text,
  complete_at timestamptz
);
COMMENT ON TABLE scheduler.recognitions IS 'Each time the daemons had to make sure of the database: after a crash, a failover, a restore.';
COMMENT ON COLUMN scheduler.recognitions.seal IS 'What scheduler.seal() says from then on.';
COMMENT ON COLUMN scheduler.recognitions.begun_at IS 'When the first daemon met the database.';
COMMENT ON COLUMN scheduler.recognitions.patience IS 'How long the others are waited for: the longest of their leases.';
COMMENT ON COLUMN scheduler.recognitions.awaited IS 'Daemons that may have begun something before, and have to look whether it is still there.';
COMMENT ON COLUMN scheduler.recognitions.lost IS 'What a daemon found to be lost, the first time; NULL: nothing.';
COMMENT ON COLUMN scheduler.recognitions.complete_at IS 'When all had looked, or were given up. Nothing begins before.';

ALTER TABLE scheduler.daemons ADD COLUMN recognised text;
COMMENT ON COLUMN scheduler.daemons.recognised IS 'The seal of the database on which it last made sure that what it began and recorded is there.';

CREATE FUNCTION scheduler.seal() RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT concat_ws(' ', r.run, r.xmin, pg_catalog.pg_relation_filepath('scheduler.recognition'::pg_catalog.regclass)) FROM scheduler.recognition r
$$;
COMMENT ON FUNCTION scheduler.seal() IS 'Tells this database, as it is since the last crash, failover or restore, from any other; NULL: nobody has met it since.';

-- 'any' is what sessions carry that begin nothing by themselves: commands.
CREATE FUNCTION scheduler.recognised() RETURNS boolean
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
COMMENT ON FUNCTION scheduler.recognised() IS 'True; or raises SR001 where the session''s daemon does not know this database, or not all daemons do yet. Part of every statement that begins something.';

-- What decides is stopped too: on a database that has lost a claim its outcome
-- would be taken for one that came too late. Sessions of people carry no seal,
-- and are not stopped.
CREATE FUNCTION scheduler.only_recognised() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(current_setting('scheduler.seal', true), '') <> '' THEN
    PERFORM scheduler.recognised();
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.only_recognised() IS 'Refuses a daemon''s writes on a database that is not recognised.';

CREATE TRIGGER recognised BEFORE INSERT ON scheduler.pending_tasks FOR EACH STATEMENT EXECUTE FUNCTION scheduler.only_recognised();
CREATE TRIGGER recognised BEFORE INSERT OR DELETE ON scheduler.claims FOR EACH STATEMENT EXECUTE FUNCTION scheduler.only_recognised();
CREATE TRIGGER recognised BEFORE INSERT ON scheduler.running_tasks FOR EACH STATEMENT EXECUTE FUNCTION scheduler.only_recognised();
CREATE TRIGGER recognised BEFORE INSERT OR UPDATE ON scheduler.slices FOR EACH STATEMENT EXECUTE FUNCTION scheduler.only_recognised();
CREATE TRIGGER recognised BEFORE INSERT ON scheduler.decided_tasks FOR EACH STATEMENT EXECUTE FUNCTION scheduler.only_recognised();

-- The ids that were given out in what is lost must not be given out again: the
-- daemons still know them.
CREATE FUNCTION scheduler.skip_lost_ids() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  counter regclass;
  last bigint;
BEGIN
  FOR counter IN SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind = 'S'
       AND (c.oid = 'scheduler.task_ids'::regclass OR c.oid IN (
         SELECT d.objid FROM pg_depend d
          WHERE d.refobjid IN ('scheduler.claims'::regclass, 'scheduler.slices'::regclass, 'scheduler.daemons'::regclass))) LOOP
    EXECUTE format('SELECT last_value FROM %s', counter) INTO last;
    PERFORM setval(counter, last + 1000000);
  END LOOP;
END $$;
COMMENT ON FUNCTION scheduler.skip_lost_ids() IS 'Leaves out a million numbers of tasks, claims, deliveries and daemons, which may have been given out in what is lost.';

CREATE FUNCTION scheduler.meet(lease interval, peers bigint[]) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  now_sealed text;
BEGIN
  -- The triggers come last in a restore: without them it is still running.
  IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'scheduler.decided_tasks'::regclass AND t.tgname = 'recognised') THEN
    RAISE EXCEPTION 'the schema is not complete; is a restore still running?' USING ERRCODE = '57P03';
  END IF;
  PERFORM FROM scheduler.hold FOR UPDATE;
  now_sealed := scheduler.seal();
  IF now_sealed IS NULL OR NOT EXISTS (SELECT FROM scheduler.recognitions r WHERE r.seal = now_sealed) THEN
    IF EXISTS (SELECT FROM scheduler.recognitions) THEN
      PERFORM scheduler.skip_lost_ids();
    END IF;
    DELETE FROM scheduler.recognition;
    INSERT INTO scheduler.recognition DEFAULT VALUES;
    now_sealed := scheduler.seal();
    INSERT INTO scheduler.recognitions (seal, patience, awaited)
    SELECT now_sealed, lease, coalesce(array_agg(d.id), '{}') FROM scheduler.daemons d WHERE d.ended_at IS NULL;
  END IF;
  UPDATE scheduler.recognitions r SET patience = greatest(r.patience, lease),
         awaited = ARRAY(SELECT unnest(r.awaited) UNION SELECT unnest(peers))
   WHERE r.seal = now_sealed AND r.complete_at IS NULL;
  RETURN now_sealed;
END $$;
COMMENT ON FUNCTION scheduler.meet(interval, bigint[]) IS 'Begins the recognition of the database, where it has not begun; returns its seal. Who is to be waited for is what the database knows and what the caller does.';

CREATE FUNCTION scheduler.complete_recognition(sealed text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  r scheduler.recognitions;
  missing bigint[];
  why text;
BEGIN
  PERFORM FROM scheduler.hold FOR UPDATE;
  SELECT * INTO r FROM scheduler.recognitions x WHERE x.seal = sealed FOR UPDATE;
  IF r.complete_at IS NOT NULL THEN
    RETURN true;
  END IF;
  missing := ARRAY(
    SELECT u.id FROM unnest(r.awaited) u (id) LEFT JOIN scheduler.daemons d ON d.id = u.id
     WHERE d.id IS NULL OR (d.ended_at IS NULL AND d.recognised IS DISTINCT FROM sealed) ORDER BY u.id);
  IF missing <> '{}' THEN
    IF clock_timestamp() < r.begun_at + r.patience THEN
      RETURN false;
    END IF;
    IF r.lost IS NOT NULL THEN
      why := format('the database has lost what was committed last (%s), and nobody knows what daemon %s had begun then',
                    r.lost, array_to_string(missing, ', '));
      UPDATE scheduler.hold SET held_since = coalesce(held_since, clock_timestamp()),
             reason = CASE WHEN held_since IS NULL THEN why ELSE reason || '; ' || why END;
    END IF;
  END IF;
  UPDATE scheduler.recognitions x SET complete_at = clock_timestamp() WHERE x.seal = sealed;
  UPDATE scheduler.installation i SET place = p.place, timeline = p.timeline
    FROM scheduler.database_place() p WHERE p.place IS NOT NULL AND (i.place, i.timeline) IS DISTINCT FROM (p.place, p.timeline);
  RETURN true;
END $$;
COMMENT ON FUNCTION scheduler.complete_recognition(text) IS 'Lets things begin once every awaited daemon has looked. One that does not come is given up after its lease; where something is known to be lost, everything is held then.';

-- The timeline of what is written now: that of the last checkpoint lags behind
-- a promotion.
CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  base oid;
BEGIN
  SELECT d.oid INTO base FROM pg_database d WHERE d.datname = current_database();
  SELECT format('cluster %s, database %s', s.system_identifier, base) INTO place FROM pg_control_system() s;
  timeline := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer;
EXCEPTION WHEN OTHERS THEN
  place := NULL;
  timeline := NULL;
END $$;

SELECT scheduler.set_schema_version(16);

-- Planning as a work queue, and room to grow: what the engine locks are rows that
-- it alone may lock, what is ready is found app by app, and an installation's
-- keys and numbers are its own.

------------------------------------------------------------------------- locks

-- An advisory lock is a number that every login may take, and keep. A row may be
-- locked only by those who may change it.
CREATE TABLE scheduler.engine_locks (
  name   text NOT NULL CHECK (name IN ('plan', 'quota', 'prune')),
  app_no integer NOT NULL,
  PRIMARY KEY (name, app_no)
);
COMMENT ON TABLE scheduler.engine_locks IS 'Rows that the engine locks, so that one of several daemons does a piece of work at a time. Nobody but daemons may lock them.';
COMMENT ON COLUMN scheduler.engine_locks.name IS 'The work: plan (an app''s campaigns), quota (book an app''s calls), prune (remove what is past its retention).';
COMMENT ON COLUMN scheduler.engine_locks.app_no IS 'The app; 0: all of them.';

INSERT INTO scheduler.engine_locks (name, app_no) VALUES ('prune', 0);
INSERT INTO scheduler.engine_locks (name, app_no) SELECT n.name, a.app_no FROM scheduler.apps a, (VALUES ('plan'), ('quota')) AS n (name);

CREATE FUNCTION scheduler.apps_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.engine_locks (name, app_no)
    SELECT n.name, i.app_no FROM inserted i, (VALUES ('plan'), ('quota')) AS n (name) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_inserted() IS 'Makes the rows that the engine locks for an app.';

CREATE TRIGGER apps_inserted AFTER INSERT ON scheduler.apps
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION scheduler.apps_inserted();

CREATE FUNCTION scheduler.apps_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.engine_locks l USING removed r WHERE l.app_no = r.app_no;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_deleted() IS 'Removes the rows that the engine locked for an app.';

CREATE TRIGGER apps_deleted AFTER DELETE ON scheduler.apps
  REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION scheduler.apps_deleted();

-- skip_overdue waits for the app's planner. Its text is another migration's; only
-- the lock it takes is changed here.
DO $$
BEGIN
  EXECUTE replace(pg_get_functiondef('scheduler.skip_overdue(integer)'::regprocedure), 'PERFORM pg_advisory_xact_lock(1397572688, app);',
    'PERFORM FROM scheduler.engine_locks l WHERE l.name = ''plan'' AND l.app_no = skip_overdue.app FOR UPDATE;');
END $$;

----------------------------------------------------------------------- planning

ALTER TABLE scheduler.campaign_changes ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN scheduler.campaign_changes.changed_at IS 'When the change was made; a planner sees it once its author has committed.';

-- A lowered limit holds at once: the latest tasks beyond it return to the plan,
-- and the earliest stay, in slots that the limit allows.
CREATE OR REPLACE FUNCTION scheduler.apps_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF NEW.app_no <> OLD.app_no OR (NEW.app_id, NEW.workspace_id) IS DISTINCT FROM (OLD.app_id, OLD.workspace_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'app_id, workspace_id and app_no of an app cannot change', HINT = 'insert another app';
  END IF;
  IF NEW.pending_limit = OLD.pending_limit THEN
    RETURN NULL;
  END IF;
  PERFORM scheduler.refuse_old_snapshot();
  WITH latest AS MATERIALIZED (
    SELECT p.id FROM scheduler.pending_tasks p WHERE p.app_no = NEW.app_no AND p.slot IS NOT NULL
     ORDER BY p.due_at, p.id OFFSET NEW.pending_limit
  ), withdrawn AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.id = ANY (ARRAY(SELECT l.id FROM latest l)) RETURNING p.campaign_id, p.due_at
  )
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)
    SELECT NEW.app_no, w.campaign_id, min(w.due_at) FROM withdrawn w GROUP BY w.campaign_id
    UNION ALL SELECT NEW.app_no, 0, NULL; -- campaign 0 is none: plan the app
  -- What stays moves from slots beyond the limit to those that have become free.
  WITH beyond AS MATERIALIZED (
    SELECT p.id, row_number() OVER (ORDER BY p.due_at, p.id) AS n FROM scheduler.pending_tasks p
     WHERE p.app_no = NEW.app_no AND p.slot > NEW.pending_limit
  ), free AS MATERIALIZED (
    SELECT s.slot, row_number() OVER (ORDER BY s.slot) AS n FROM generate_series(1, NEW.pending_limit) AS s (slot)
     WHERE EXISTS (SELECT FROM beyond)
       AND s.slot NOT IN (SELECT p.slot FROM scheduler.pending_tasks p WHERE p.app_no = NEW.app_no AND p.slot IS NOT NULL)
  )
  UPDATE scheduler.pending_tasks p SET slot = f.slot FROM beyond b JOIN free f USING (n) WHERE p.id = b.id;
  PERFORM pg_notify('scheduler_changes', NEW.app_no::text);
  RETURN NULL;
END $$;

-- What is ready is read app by app, so that what one app has in store costs no
-- other. The index replaces the one in the order of all apps.
CREATE INDEX pending_tasks_app_ready ON scheduler.pending_tasks (app_no, ready_at, id);
DROP INDEX scheduler.pending_tasks_ready;

------------------------------------------------------------------- installation

-- Keys that an installation sent before it had one of its own stay as they are,
-- so that what is sent again has the key it had.
ALTER TABLE scheduler.installation
  ADD COLUMN key text GENERATED ALWAYS AS (left(replace(id::text, '-', ''), 10)) STORED,
  ADD COLUMN keyed_campaigns bigint NOT NULL DEFAULT 0,
  ADD COLUMN keyed_tasks bigint NOT NULL DEFAULT 0,
  ADD COLUMN id_range integer NOT NULL DEFAULT 0 CHECK (id_range BETWEEN 0 AND 900);
UPDATE scheduler.installation
   SET keyed_campaigns = coalesce((SELECT max(c.id) FROM scheduler.campaigns c), 0),
       keyed_tasks = (SELECT s.last_value FROM scheduler.task_ids s);
COMMENT ON COLUMN scheduler.installation.key IS 'The installation in message keys, so that two installations never send the same one.';
COMMENT ON COLUMN scheduler.installation.keyed_campaigns IS 'Message keys of campaigns up to this number are without the installation: they were sent so before it had a key.';
COMMENT ON COLUMN scheduler.installation.keyed_tasks IS 'The same for the delivery ids of tasks.';
COMMENT ON COLUMN scheduler.installation.id_range IS 'Which numbers campaigns, tasks and deliveries get: from id_range * 10^13 on. scheduler.set_id_range sets it.';

-- Numbers of several installations differ when each has a range of its own. They
-- stay below 2^53, so that JSON readers keep them exact.
CREATE FUNCTION scheduler.set_id_range(range integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  size CONSTANT bigint := 10000000000000; seq regclass; reached bigint; floor bigint := range * size;
BEGIN
  IF range IS NULL OR range NOT BETWEEN 0 AND 900 THEN
    RAISE EXCEPTION 'range must be a number from 0 to 900' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH seq IN ARRAY ARRAY[pg_get_serial_sequence('scheduler.campaigns', 'id')::regclass, 'scheduler.task_ids'::regclass,
                             pg_get_serial_sequence('scheduler.slices', 'id')::regclass] LOOP
    EXECUTE format('SELECT last_value FROM %s', seq) INTO reached;
    IF reached >= floor + size THEN
      RAISE EXCEPTION 'numbers have reached %, beyond range %', reached, range USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = format('choose a range from %s on', reached / size);
    END IF;
    IF reached < floor THEN
      PERFORM setval(seq, floor + 1, false);
    END IF;
  END LOOP;
  INSERT INTO scheduler.installation (id_range) VALUES (range) ON CONFLICT (only_row) DO UPDATE SET id_range = excluded.id_range;
  RETURN floor + 1;
END $$;
COMMENT ON FUNCTION scheduler.set_id_range(integer) IS
  'Gives this installation''s campaigns, tasks and deliveries the numbers from range * 10^13 on, so that no other installation has the same; returns the first. What exists keeps its number.';

SELECT scheduler.set_schema_version(14);

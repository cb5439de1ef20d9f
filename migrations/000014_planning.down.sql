DROP FUNCTION scheduler.set_id_range(integer);
ALTER TABLE scheduler.installation DROP COLUMN key, DROP COLUMN keyed_campaigns, DROP COLUMN keyed_tasks, DROP COLUMN id_range;

CREATE INDEX pending_tasks_ready ON scheduler.pending_tasks (ready_at, id);
DROP INDEX scheduler.pending_tasks_app_ready;

CREATE OR REPLACE FUNCTION scheduler.apps_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF NEW.app_no <> OLD.app_no OR (NEW.app_id, NEW.workspace_id) IS DISTINCT FROM (OLD.app_id, OLD.workspace_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'app_id, workspace_id and app_no of an app cannot change', HINT = 'insert another app';
  END IF;
  IF NEW.pending_limit <> OLD.pending_limit THEN
    PERFORM scheduler.refuse_old_snapshot();
    WITH withdrawn AS (
      DELETE FROM scheduler.pending_tasks p WHERE p.app_no = NEW.app_no AND p.slot > NEW.pending_limit RETURNING p.campaign_id, p.due_at
    )
    INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)
      SELECT NEW.app_no, w.campaign_id, min(w.due_at) FROM withdrawn w GROUP BY w.campaign_id
      UNION ALL SELECT NEW.app_no, 0, NULL; -- campaign 0 is none: plan the app
    PERFORM pg_notify('scheduler_changes', NEW.app_no::text);
  END IF;
  RETURN NULL;
END $$;

ALTER TABLE scheduler.campaign_changes DROP COLUMN changed_at;

DO $$
BEGIN
  EXECUTE replace(pg_get_functiondef('scheduler.skip_overdue(integer)'::regprocedure),
    'PERFORM FROM scheduler.engine_locks l WHERE l.name = ''plan'' AND l.app_no = skip_overdue.app FOR UPDATE;', 'PERFORM pg_advisory_xact_lock(1397572688, app);');
END $$;

DROP TRIGGER apps_deleted ON scheduler.apps;
DROP FUNCTION scheduler.apps_deleted();
DROP TRIGGER apps_inserted ON scheduler.apps;
DROP FUNCTION scheduler.apps_inserted();
DROP TABLE scheduler.engine_locks;

SELECT scheduler.set_schema_version(13);

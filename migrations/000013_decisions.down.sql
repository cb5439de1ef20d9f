DROP FUNCTION scheduler.release_hold(boolean);
CREATE FUNCTION scheduler.release_hold() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE scheduler.hold SET held_since = NULL, released_at = clock_timestamp(), released_by = session_user WHERE held_since IS NOT NULL;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.release_hold() IS 'Lets things begin again, and keeps who did it; returns whether they were held.';

DROP FUNCTION scheduler.skip_overdue(integer);
CREATE FUNCTION scheduler.skip_overdue(app integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  why CONSTANT text := 'overdue when the hold was released with --skip-overdue'; until timestamptz; tasks bigint; deliveries bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(1397572688, app); -- the planner's, planLock in store/
  SELECT h.skip_before INTO until FROM scheduler.hold h WHERE h.held_since IS NOT NULL;
  WITH gone AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.app_no = app AND p.due_at <= until RETURNING p.*
  ), decided AS (
    INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at,
           attempts, slices, accepted, target_count, reason)
    SELECT g.id, g.app_no, g.campaign_id, g.revision, ch.channel_no, g.origin, 'missed', g.due_at, clock_timestamp(), 0, 0, 0, 0, why
      FROM gone g JOIN scheduler.campaigns c ON c.id = g.campaign_id JOIN scheduler.channels ch ON ch.channel = c.channel
    RETURNING 1
  )
  SELECT count(*) INTO tasks FROM decided;
  WITH cut AS (
    UPDATE scheduler.slices s SET status = 'missed', finished_at = clock_timestamp(), reason = why
      FROM scheduler.running_tasks r
     WHERE r.id = s.task_id AND s.app_no = app AND s.status IN ('waiting', 'held') AND r.due_at <= until
    RETURNING 1
  )
  SELECT count(*) INTO deliveries FROM cut;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES (app, 0); -- there is room now
  RETURN tasks + deliveries;
END $$;
COMMENT ON FUNCTION scheduler.skip_overdue(integer) IS
  'Second step of scheduler release --skip-overdue, for each app: records what was due before the first step as missed, and returns how many pushes that were. Does nothing without a hold.';

COMMENT ON COLUMN scheduler.hold.skip_before IS 'Occurrences due until then are missed, never pushed: scheduler release --skip-overdue.';

CREATE OR REPLACE FUNCTION scheduler.withdraw_tasks(c scheduler.campaigns, reason text, keep_future boolean, gone boolean) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  earliest timestamptz; at timestamptz := clock_timestamp();
BEGIN
  -- keep_future: coming occurrences are withdrawn without a decision, since they
  -- return with the new revision or after the pause.
  WITH withdrawn AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id RETURNING p.*
  ), decided AS (
    INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at,
        attempts, slices, accepted, target_count, reason)
    SELECT w.id, w.app_no, w.campaign_id, w.revision, (SELECT k.channel_no FROM scheduler.channels k WHERE k.channel = c.channel),
        w.origin, 'cancelled', w.due_at, at, 0, 0, 0, 0, withdraw_tasks.reason
      FROM withdrawn w
     WHERE NOT keep_future OR (gone AND w.due_at <= at) OR w.origin = 'triggered'
  )
  SELECT min(w.due_at) INTO earliest FROM withdrawn w
   WHERE keep_future AND NOT (gone AND w.due_at <= at) AND w.origin <> 'triggered';
  RETURN earliest;
END $$;
COMMENT ON FUNCTION scheduler.withdraw_tasks(scheduler.campaigns, text, boolean, boolean) IS 'Takes a campaign''s pending tasks away; returns the earliest occurrence that was left without a decision.';

ALTER TABLE scheduler.claims DROP COLUMN names;
DROP FUNCTION scheduler.unbegun(scheduler.pending_tasks, scheduler.decision, text, bigint, smallint);
DROP FUNCTION scheduler.decide(scheduler.ending[], boolean);
DROP TABLE scheduler.untold_decisions;
DROP TYPE scheduler.ending;

SELECT scheduler.set_schema_version(12);

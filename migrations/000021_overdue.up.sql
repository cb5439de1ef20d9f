-- A release that skips what is overdue overwrote deliveries that began or ended
-- while it waited for their rows.

CREATE OR REPLACE FUNCTION scheduler.skip_overdue(app integer, OUT missed bigint, OUT unknown bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  why CONSTANT text := 'overdue when the hold was released with --skip-overdue'; until timestamptz; deliveries bigint; tasks_seen bigint; deliveries_seen bigint;
  most CONSTANT integer := 5000;
BEGIN
  PERFORM FROM scheduler.engine_locks l WHERE l.name = 'plan' AND l.app_no = skip_overdue.app FOR UPDATE; -- the planner's, planLock in store/
  SELECT h.skip_before INTO until FROM scheduler.hold h WHERE h.held_since IS NOT NULL;
  WITH part AS (
    SELECT p.id FROM scheduler.pending_tasks p WHERE p.app_no = app AND p.due_at <= until LIMIT most
  ), gone AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.id IN (SELECT x.id FROM part x) RETURNING p AS task
  )
  SELECT count(*), (SELECT count(*) FROM part) INTO missed, tasks_seen
    FROM scheduler.decide(ARRAY(SELECT scheduler.unbegun(g.task, 'missed', why, NULL) FROM gone g), false);
  WITH part AS (
    SELECT s.id FROM scheduler.running_tasks r JOIN scheduler.slices s ON s.task_id = r.id
     WHERE r.app_no = app AND r.due_at <= until AND s.status IN ('waiting', 'held') LIMIT most
  ), cut AS (
    UPDATE scheduler.slices s SET status = scheduler.ended('missed', s.maybe_sent), finished_at = clock_timestamp(), reason = why
     WHERE s.id IN (SELECT x.id FROM part x)
       AND s.status IN ('waiting', 'held') -- asked again of a row that was waited for: it may have begun or ended meanwhile
    RETURNING s.status
  )
  SELECT count(*) FILTER (WHERE c.status = 'missed'), count(*) FILTER (WHERE c.status = 'unknown'), (SELECT count(*) FROM part)
    INTO deliveries, unknown, deliveries_seen FROM cut c;
  more := tasks_seen = most OR deliveries_seen = most;
  missed := missed + deliveries;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES (app, 0); -- there is room now, and what was decided is told of
END $$;

SELECT scheduler.set_schema_version(21);

-- One way to decide: how a decision is written and told of, whom a call was
-- meant for, and the end of a hold.

---------------------------------------------------------- how a decision is written

CREATE TYPE scheduler.ending AS (
  id           bigint,
  app_no       integer,
  campaign_id  bigint,
  revision     integer,
  channel_no   smallint,
  origin       scheduler.task_origin,
  status       scheduler.decision,
  due_at       timestamptz,
  started_at   timestamptz,
  sent_at      timestamptz,
  attempts     integer,
  slices       integer,
  accepted     integer,
  target_count bigint,
  daemon_id    bigint,
  reason       text,
  code         text,
  message      text,
  request_id   text,
  message_id   text,
  targets      text[]
);
COMMENT ON TYPE scheduler.ending IS 'How a task ended, for scheduler.decide: the columns of decided_tasks. channel_no may be NULL: then it is the campaign''s.';

CREATE TABLE scheduler.untold_decisions (
  app_no      integer NOT NULL,
  task_id     bigint NOT NULL,
  campaign_id bigint NOT NULL,
  due_at      timestamptz NOT NULL,
  refused     scheduler.decision
);
CREATE INDEX untold_decisions_app ON scheduler.untold_decisions (app_no);
COMMENT ON TABLE scheduler.untold_decisions IS
  'Decisions that were written where no daemon could tell of them, by an author''s or an operator''s statement, and those that were refused. A daemon takes each once, logs it and counts it.';
COMMENT ON COLUMN scheduler.untold_decisions.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.untold_decisions.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.untold_decisions.campaign_id IS 'Its campaign; it may be gone.';
COMMENT ON COLUMN scheduler.untold_decisions.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.untold_decisions.refused IS 'The decision that was refused, since the occurrence had one already; NULL: the decision was recorded.';

-- A second decision on an occurrence cannot come about while everybody keeps to
-- the rules. If it does, the first one stands, and nobody who meets it fails: an
-- author could not cancel any more, or a daemon could record nothing.
CREATE FUNCTION scheduler.decide(endings scheduler.ending[], told boolean) RETURNS SETOF scheduler.decided_tasks
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  recorded bigint;
BEGIN
  IF coalesce(cardinality(endings), 0) = 0 THEN
    RETURN;
  END IF;
  RETURN QUERY
    INSERT INTO scheduler.decided_tasks AS d (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
           attempts, slices, accepted, target_count, daemon_id, reason, code, message, request_id, message_id, targets)
    SELECT e.id, e.app_no, e.campaign_id, e.revision,
           coalesce(e.channel_no,
             (SELECT k.channel_no FROM scheduler.campaigns c JOIN scheduler.channels k ON k.channel = c.channel WHERE c.id = e.campaign_id),
             (SELECT k.channel_no FROM scheduler.campaign_history h JOIN scheduler.channels k ON k.channel = h.before ->> 'channel'
               WHERE h.campaign_id = e.campaign_id ORDER BY h.id DESC LIMIT 1)),
           e.origin, e.status, e.due_at, e.started_at, e.sent_at, clock_timestamp(),
           e.attempts, e.slices, e.accepted, e.target_count, e.daemon_id, e.reason, e.code, e.message, e.request_id, e.message_id, e.targets
      FROM unnest(endings) e
        ON CONFLICT (campaign_id, due_at) DO NOTHING
    RETURNING d.*;
  GET DIAGNOSTICS recorded = ROW_COUNT;
  IF NOT told THEN
    INSERT INTO scheduler.untold_decisions (app_no, task_id, campaign_id, due_at)
      SELECT e.app_no, e.id, e.campaign_id, e.due_at FROM unnest(endings) e
       WHERE (SELECT d.status FROM scheduler.decided_tasks d WHERE d.campaign_id = e.campaign_id AND d.due_at = e.due_at AND d.id = e.id) = e.status;
  END IF;
  IF recorded < cardinality(endings) THEN
    WITH refused AS (
      INSERT INTO scheduler.untold_decisions (app_no, task_id, campaign_id, due_at, refused)
        SELECT e.app_no, e.id, e.campaign_id, e.due_at, e.status FROM unnest(endings) e
         WHERE (SELECT d.status FROM scheduler.decided_tasks d WHERE d.campaign_id = e.campaign_id AND d.due_at = e.due_at AND d.id = e.id)
               IS DISTINCT FROM e.status
        RETURNING app_no
    )
    INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT DISTINCT r.app_no, 0 FROM refused r; -- a daemon comes and tells of it
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.decide(scheduler.ending[], boolean) IS
  'Records how tasks ended and returns what it recorded; the one way into decided_tasks, but for a daemon''s COPY of a batch. told: the caller tells of them; else the next daemon that plans the app does.';

CREATE FUNCTION scheduler.unbegun(t scheduler.pending_tasks, status scheduler.decision, reason text, daemon_id bigint, channel_no smallint DEFAULT NULL)
RETURNS scheduler.ending
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW((t).id, (t).app_no, (t).campaign_id, (t).revision, channel_no, (t).origin, status, (t).due_at, NULL, NULL, 0, 0, 0, 0, daemon_id, reason,
  NULL, NULL, NULL, NULL, NULL)::scheduler.ending;
COMMENT ON FUNCTION scheduler.unbegun(scheduler.pending_tasks, scheduler.decision, text, bigint, smallint) IS
  'The ending of a task whose push never began. daemon_id NULL: no daemon decided it.';

CREATE OR REPLACE FUNCTION scheduler.withdraw_tasks(c scheduler.campaigns, reason text, keep_future boolean, gone boolean) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  earliest timestamptz; decided bigint; at timestamptz := clock_timestamp(); channel smallint;
BEGIN
  SELECT k.channel_no INTO channel FROM scheduler.channels k WHERE k.channel = c.channel; -- the row may be gone
  -- keep_future: coming occurrences are withdrawn without a decision, since they
  -- return with the new revision or after the pause.
  WITH withdrawn AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id
    RETURNING p AS task, NOT keep_future OR (gone AND p.due_at <= at) OR p.origin = 'triggered' AS final
  )
  SELECT (SELECT min((w.task).due_at) FROM withdrawn w WHERE NOT w.final),
         (SELECT count(*) FROM scheduler.decide(
            ARRAY(SELECT scheduler.unbegun(w.task, 'cancelled', withdraw_tasks.reason, NULL, channel) FROM withdrawn w WHERE w.final), false))
    INTO earliest, decided;
  RETURN earliest;
END $$;

------------------------------------------------------------ whom a call is meant for

ALTER TABLE scheduler.claims ADD COLUMN names jsonb;
ALTER TABLE scheduler.claims ALTER names SET STORAGE EXTERNAL;
COMMENT ON COLUMN scheduler.claims.names IS
  'Whom the calls are meant for whose targets are rows of campaign_targets: task -> names, as they stood when the claim was made; NULL: there are none. A ruling to send such a call again reaches them and nobody else. Those that a request names come here when the daemon is found dead.';

----------------------------------------------------------------- the end of a hold

COMMENT ON COLUMN scheduler.hold.skip_before IS
  'Occurrences due until then, of campaigns written until then, are missed, never pushed: scheduler release --skip-overdue. A release without it ends the bound.';

DROP FUNCTION scheduler.skip_overdue(integer);
CREATE FUNCTION scheduler.skip_overdue(app integer, OUT missed bigint, OUT unknown bigint, OUT more boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  why CONSTANT text := 'overdue when the hold was released with --skip-overdue'; until timestamptz; deliveries bigint;
  most CONSTANT integer := 5000;
BEGIN
  PERFORM pg_advisory_xact_lock(1397572688, app); -- the planner's, planLock in store/
  SELECT h.skip_before INTO until FROM scheduler.hold h WHERE h.held_since IS NOT NULL;
  WITH part AS (
    SELECT p.id FROM scheduler.pending_tasks p WHERE p.app_no = app AND p.due_at <= until LIMIT most
  ), gone AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.id IN (SELECT x.id FROM part x) RETURNING p AS task
  )
  SELECT count(*) INTO missed FROM scheduler.decide(ARRAY(SELECT scheduler.unbegun(g.task, 'missed', why, NULL) FROM gone g), false);
  WITH part AS (
    SELECT s.id FROM scheduler.running_tasks r JOIN scheduler.slices s ON s.task_id = r.id
     WHERE r.app_no = app AND r.due_at <= until AND s.status IN ('waiting', 'held') LIMIT most
  ), cut AS (
    UPDATE scheduler.slices s SET status = scheduler.ended('missed', s.maybe_sent), finished_at = clock_timestamp(), reason = why
     WHERE s.id IN (SELECT x.id FROM part x) RETURNING s.status
  )
  SELECT count(*) FILTER (WHERE c.status = 'missed'), count(*) FILTER (WHERE c.status = 'unknown') INTO deliveries, unknown FROM cut c;
  more := missed = most OR deliveries + unknown = most;
  missed := missed + deliveries;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES (app, 0); -- there is room now, and what was decided is told of
END $$;
COMMENT ON FUNCTION scheduler.skip_overdue(integer) IS
  'Second step of scheduler release --skip-overdue, for each app, as long as there is more: ends some of what was due before the first step. missed: pushes recorded as missed; unknown: deliveries of which an earlier attempt may have arrived, which wait for a ruling. Does nothing without a hold.';

DROP FUNCTION scheduler.release_hold();
CREATE FUNCTION scheduler.release_hold(skip_overdue boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE scheduler.hold h
     SET held_since = NULL, released_at = clock_timestamp(), released_by = session_user,
         skip_before = CASE WHEN release_hold.skip_overdue THEN h.skip_before END
   WHERE h.held_since IS NOT NULL;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.release_hold(boolean) IS
  'Lets things begin again, and keeps who did it; returns whether they were held. skip_overdue: the third step of scheduler release --skip-overdue, which leaves the bound for occurrences that the pending limit has not let in yet.';

SELECT scheduler.set_schema_version(13);

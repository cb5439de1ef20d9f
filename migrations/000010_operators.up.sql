-- What operators do beyond changing campaigns: push one now, rule on an unknown
-- outcome, hold everything and end a hold. Each writes the engine's tables, which nobody shall do by
-- hand, so each is a function with its owner's rights: an admin may call it and
-- nothing else of the kind, and it keeps who did it, by the login's name.

CREATE TABLE scheduler.triggered_tasks (
  task_id      bigint PRIMARY KEY,
  campaign_id  bigint NOT NULL,
  triggered_by text NOT NULL DEFAULT session_user,
  operator     text,
  triggered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE scheduler.triggered_tasks IS 'The audit of scheduler campaigns trigger: who pushed what beside its strategy.';
COMMENT ON COLUMN scheduler.triggered_tasks.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.triggered_tasks.campaign_id IS 'Its campaign; it may be gone.';
COMMENT ON COLUMN scheduler.triggered_tasks.triggered_by IS 'The database login.';
COMMENT ON COLUMN scheduler.triggered_tasks.operator IS 'The user of the operating system, as the command line says; nothing proves it.';
COMMENT ON COLUMN scheduler.triggered_tasks.triggered_at IS 'When.';

-- Only for admins and daemons: grant_privileges gives nobody else a function
-- with its owner's rights.
CREATE FUNCTION scheduler.trigger_campaign(campaign_id bigint, operator text DEFAULT NULL, OUT task_id bigint, OUT due_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  c scheduler.campaigns;
BEGIN
  -- The lock is against a pause or a cancel: it either is seen here, or
  -- withdraws what is written here.
  SELECT k.* INTO c FROM scheduler.campaigns k WHERE k.id = trigger_campaign.campaign_id FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no campaign %', campaign_id USING ERRCODE = 'no_data_found';
  ELSIF c.status NOT IN ('active', 'finished') THEN
    RAISE EXCEPTION 'only an active or finished campaign can be triggered; this one is %', c.status USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO scheduler.pending_tasks AS p (app_no, campaign_id, revision, origin, due_at, ready_at)
    SELECT c.app_no, c.id, c.revision, 'triggered', now.t, now.t FROM clock_timestamp() now (t)
    RETURNING p.id, p.due_at INTO trigger_campaign.task_id, trigger_campaign.due_at;
  INSERT INTO scheduler.triggered_tasks (task_id, campaign_id, operator) VALUES (trigger_campaign.task_id, c.id, nullif(trigger_campaign.operator, ''));
  PERFORM pg_notify('scheduler_ready', c.app_no::text);
END $$;
COMMENT ON FUNCTION scheduler.trigger_campaign(bigint, text) IS
  'Pushes an active or finished campaign once now, beside its strategy; operator is for the audit. Returns the task.';

-- Only the deliveries of unknown outcome are touched: those that were accepted
-- are never sent again. A ruling that nothing was sent returns the quota.
CREATE FUNCTION scheduler.resolve_task(task_id bigint, sent boolean, resend boolean DEFAULT false, note text DEFAULT NULL, operator text DEFAULT NULL,
  OUT status text, OUT reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  t scheduler.decided_tasks; deliveries bigint; taken bigint; stands text;
BEGIN
  IF (resolve_task.sent AND NOT resolve_task.resend OR NOT resolve_task.sent) IS NOT TRUE OR resolve_task.resend IS NULL THEN
    RAISE EXCEPTION 'say whether it was sent; only what was not sent can be sent again' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT d.* INTO t FROM scheduler.decided_tasks d WHERE d.id = resolve_task.task_id AND d.status = 'unknown' FOR UPDATE;
  IF NOT FOUND THEN
    SELECT v.status INTO stands FROM scheduler.tasks v WHERE v.id = resolve_task.task_id;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'there is no task %', resolve_task.task_id USING ERRCODE = 'no_data_found';
    END IF;
    RAISE EXCEPTION 'only a task whose outcome is unknown can be ruled on; this one is %', stands USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO scheduler.rulings (task_id, app_no, campaign_id, due_at, ruling, resend, note, previous_status, previous_reason, operator)
    VALUES (t.id, t.app_no, t.campaign_id, t.due_at, CASE WHEN resolve_task.sent THEN 'sent' ELSE 'not_sent' END, resolve_task.resend,
      nullif(resolve_task.note, ''), t.status, t.reason, nullif(resolve_task.operator, ''));
  IF NOT resolve_task.sent THEN
    DELETE FROM scheduler.quota_uses q USING scheduler.slices s WHERE s.task_id = t.id AND s.status = 'unknown' AND q.slice_id = s.id;
  END IF;
  IF resolve_task.resend THEN
    PERFORM scheduler.resend_task(t);
    resolve_task.status := 'running';
    resolve_task.reason := 'sent again by ruling';
    RETURN;
  END IF;

  resolve_task.reason := concat(CASE WHEN resolve_task.sent THEN 'ruled sent' ELSE 'ruled not sent' END,
    ' by ' || nullif(resolve_task.operator, ''), ': ' || nullif(resolve_task.note, ''));
  UPDATE scheduler.slices s SET status = CASE WHEN resolve_task.sent THEN 'accepted' ELSE 'failed' END::scheduler.slice_status, reason = resolve_task.reason
    WHERE s.task_id = t.id AND s.status = 'unknown';
  SELECT count(*), count(*) FILTER (WHERE s.status = 'accepted') INTO deliveries, taken FROM scheduler.slices s WHERE s.task_id = t.id;
  IF deliveries = 0 THEN -- a task with one call may keep it in its own row
    deliveries := 1;
    taken := resolve_task.sent::integer;
  ELSIF deliveries > 1 AND taken < deliveries THEN
    resolve_task.reason := format('%s of %s deliveries accepted; %s', taken, deliveries, resolve_task.reason);
  END IF;
  resolve_task.status := CASE WHEN taken = deliveries THEN 'succeeded' ELSE 'failed' END;
  UPDATE scheduler.decided_tasks d
     SET status = resolve_task.status::scheduler.decision, accepted = taken, reason = resolve_task.reason, decided_at = clock_timestamp()
   WHERE d.id = t.id;
END $$;
COMMENT ON FUNCTION scheduler.resolve_task(bigint, boolean, boolean, text, text) IS
  'Rules on a task of unknown outcome: whether its calls were sent and, when they were not, whether to make them again with the same message keys; note and operator are for the audit. Returns what became of the task.';

-- The window opens anew, since the task's own may have closed while it waited
-- for the ruling; its occurrence, and so its message keys, stay. The campaign is
-- locked so that a pause or a cancel either is seen here or sees what is written
-- here. A finished campaign may push again what it has pushed.
CREATE FUNCTION scheduler.resend_task(t scheduler.decided_tasks) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c scheduler.campaigns;
BEGIN
  SELECT k.* INTO c FROM scheduler.campaigns k WHERE k.id = t.campaign_id FOR SHARE;
  IF c.id IS NULL OR c.status NOT IN ('active', 'finished') THEN
    RAISE EXCEPTION 'the task cannot be sent again: its campaign is %', coalesce(c.status, 'deleted')
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = CASE c.status WHEN 'paused' THEN 'resume it first' ELSE '' END;
  END IF;
  UPDATE scheduler.slices s SET status = 'waiting', maybe_sent = false, finished_at = NULL, ready_at = clock_timestamp(), reason = 'sent again by ruling'
    WHERE s.task_id = t.id AND s.status = 'unknown';
  INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, targets, sent_at, reason)
    SELECT t.id, 1, t.app_no, t.campaign_id, clock_timestamp(), t.attempts, coalesce(t.targets, '{}'), t.sent_at, 'sent again by ruling'
     WHERE NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = t.id);
  DELETE FROM scheduler.decided_tasks d WHERE d.id = t.id;
  INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, expires_at, started_at, slices, targets)
    VALUES (t.id, t.app_no, t.campaign_id, t.revision, t.origin, t.due_at, clock_timestamp() + c.catch_up_window,
      coalesce(t.started_at, clock_timestamp()), greatest(t.slices, 1), t.target_count);
END $$;
COMMENT ON FUNCTION scheduler.resend_task(scheduler.decided_tasks) IS 'Makes a task run again, with its deliveries of unknown outcome only. For resolve_task.';

CREATE FUNCTION scheduler.hold_pushes(reason text, operator text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE scheduler.hold h
     SET held_since = clock_timestamp(), reason = format('%s, held by %s', coalesce(nullif(hold_pushes.reason, ''), 'by hand'),
           concat(session_user, ' (' || nullif(hold_pushes.operator, '') || ')'))
   WHERE h.held_since IS NULL;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.hold_pushes(text, text) IS
  'Lets nothing begin any more until release_hold, and keeps why and who did it; returns whether it was not held already.';

-- The end of a hold. With what is overdue skipped, the bound is committed first;
-- then, app by app, skip_overdue waits for a planner that may not have seen it,
-- so that no overdue task can come after; release_hold comes last.
CREATE FUNCTION scheduler.hold_skips_overdue() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE scheduler.hold SET skip_before = clock_timestamp() WHERE held_since IS NOT NULL;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.hold_skips_overdue() IS 'First step of scheduler release --skip-overdue: what is due until now shall be missed. Returns whether there is a hold.';

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

CREATE FUNCTION scheduler.release_hold() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE scheduler.hold SET held_since = NULL, released_at = clock_timestamp(), released_by = session_user WHERE held_since IS NOT NULL;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.release_hold() IS 'Lets things begin again, and keeps who did it; returns whether they were held.';

SELECT scheduler.set_schema_version(10);

-- Stored deliveries run like tasks: few and narrow writes, and no statement whose
-- work grows with what is stored.

-- What a delivery carries stands apart from where it stands: a change of its
-- state then writes a narrow row, and its targets are written once.
CREATE TABLE scheduler.slice_targets (
  slice_id bigint PRIMARY KEY,
  targets  text[] NOT NULL CHECK (targets <> '{}'),
  details  jsonb
);
COMMENT ON TABLE scheduler.slice_targets IS 'To whom a stored delivery goes. A delivery whose call takes targets and that has no row here is sliced anew before it begins: nobody knows any more whom it was meant for.';
COMMENT ON COLUMN scheduler.slice_targets.slice_id IS 'The delivery.';
COMMENT ON COLUMN scheduler.slice_targets.targets IS 'Its targets, fixed when the task began.';
COMMENT ON COLUMN scheduler.slice_targets.details IS 'Per-target parameters read from an audience view when the task began: target -> [template_key_value, extended_params].';

INSERT INTO scheduler.slice_targets (slice_id, targets, details)
  SELECT id, targets, details FROM scheduler.slices WHERE targets <> '{}';

-- The one place that says how a delivery ends, and the one length of a window.
CREATE OR REPLACE FUNCTION scheduler.ended(wanted scheduler.slice_status, maybe_sent boolean) RETURNS scheduler.slice_status
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN maybe_sent AND wanted IN ('failed', 'cancelled', 'missed') THEN 'unknown'::scheduler.slice_status ELSE wanted END;
COMMENT ON FUNCTION scheduler.ended(scheduler.slice_status, boolean) IS
  'How a delivery ends of which an earlier attempt may have arrived: whatever says that it was not sent becomes unknown. The one place of this rule.';

CREATE OR REPLACE FUNCTION scheduler.window_end(due_at timestamptz, catch_up_window interval) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN due_at + (extract(epoch FROM catch_up_window) * 1000000)::bigint * interval '1 microsecond';
COMMENT ON FUNCTION scheduler.window_end(timestamptz, interval) IS
  'Until when an occurrence may be pushed. A day is 24 hours, a month 30 days and a year 365.25 days, as the daemon counts; the session''s time zone does not matter.';

-- The window of a running task is its campaign's, as it stands when it is asked
-- for. Only where it begins is the task's own.
ALTER TABLE scheduler.running_tasks ADD COLUMN window_from timestamptz;
COMMENT ON COLUMN scheduler.running_tasks.window_from IS 'Where its catch-up window begins: when it was ruled to be sent again; NULL: due_at.';
UPDATE scheduler.running_tasks r SET window_from = r.expires_at - (scheduler.window_end(r.due_at, c.catch_up_window) - r.due_at)
  FROM scheduler.campaigns c WHERE c.id = r.campaign_id AND r.expires_at <> scheduler.window_end(r.due_at, c.catch_up_window);
ALTER TABLE scheduler.running_tasks DROP COLUMN expires_at;

-- A pause, a cancel or a deletion of a campaign touches none of its deliveries,
-- be they a million: a claim looks at the campaign, under its lock, and the
-- daemons hold and end what waits in batches.
CREATE OR REPLACE FUNCTION scheduler.campaigns_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  rewind timestamptz; action text; new_strategy boolean;
BEGIN
  IF NEW.revision = OLD.revision AND NEW.status = OLD.status THEN
    RETURN NULL;
  END IF;
  new_strategy := scheduler.strategy_changed(OLD, NEW);
  action := CASE WHEN NEW.status = OLD.status OR NEW.status = 'active' AND OLD.status IN ('finished', 'rejected') THEN 'update'
    WHEN NEW.status = 'active' THEN 'resume' WHEN NEW.status = 'paused' THEN 'pause' WHEN NEW.status = 'cancelled' THEN 'cancel'
    WHEN NEW.status = 'finished' THEN 'finish' ELSE 'reject' END;
  INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
    VALUES (OLD.id, OLD.app_no, OLD.revision, action, new_strategy OR NEW.status = 'cancelled',
      CASE WHEN action IN ('finish', 'reject') THEN 'scheduler' ELSE NEW.updated_by END, NEW.updated_at, to_jsonb(OLD));
  IF action IN ('finish', 'reject') THEN
    RETURN NULL; -- the planner's own change; it has dealt with the tasks
  END IF;

  IF NEW.status = 'cancelled' THEN
    PERFORM scheduler.withdraw_tasks(OLD, 'campaign cancelled', false, true);
  ELSIF new_strategy THEN
    rewind := scheduler.withdraw_tasks(OLD, format('replaced by revision %s', NEW.revision), true, true);
  ELSIF NEW.status = 'paused' THEN
    rewind := scheduler.withdraw_tasks(OLD, 'campaign paused', true, false);
  ELSE
    UPDATE scheduler.pending_tasks SET revision = NEW.revision WHERE campaign_id = NEW.id;
  END IF;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to) VALUES (NEW.app_no, NEW.id, rewind);
  PERFORM pg_notify('scheduler_changes', NEW.app_no::text);
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION scheduler.campaigns_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  PERFORM scheduler.withdraw_tasks(OLD, 'campaign deleted', false, true);
  INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
    VALUES (OLD.id, OLD.app_no, OLD.revision, 'delete', true, current_setting('scheduler.actor', true), clock_timestamp(), to_jsonb(OLD));
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES (OLD.app_no, OLD.id);
  PERFORM pg_notify('scheduler_changes', OLD.app_no::text);
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION scheduler.resend_task(t scheduler.decided_tasks) RETURNS void
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
  WITH delivery AS (
    INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, sent_at, reason)
      SELECT t.id, 1, t.app_no, t.campaign_id, clock_timestamp(), t.attempts, t.sent_at, 'sent again by ruling'
       WHERE NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = t.id)
      RETURNING id
  )
  INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT d.id, t.targets FROM delivery d WHERE t.targets <> '{}';
  DELETE FROM scheduler.decided_tasks d WHERE d.id = t.id;
  INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, window_from, started_at, slices, targets)
    VALUES (t.id, t.app_no, t.campaign_id, t.revision, t.origin, t.due_at, clock_timestamp(),
      coalesce(t.started_at, clock_timestamp()), greatest(t.slices, 1), t.target_count);
END $$;

CREATE OR REPLACE VIEW scheduler.deliveries WITH (security_barrier) AS
SELECT s.id, s.task_id, s.campaign_id, s.slice_no,
       CASE WHEN s.status = 'accepted' THEN 'succeeded'
            WHEN s.status NOT IN ('waiting', 'held') THEN s.status::text
            WHEN c.id IS NULL OR c.status = 'cancelled' THEN scheduler.ended('cancelled', s.maybe_sent)::text
            WHEN c.status = 'paused' THEN 'held'
            ELSE 'pending' END AS status,
       s.attempts, coalesce(cardinality(x.targets), 0) AS target_count, coalesce(x.targets, '{}') AS targets, s.reason, s.code, s.message, s.request_id, s.message_id,
       s.sent_at, s.finished_at
  FROM scheduler.slices s
  LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id
  LEFT JOIN scheduler.campaigns c ON c.id = s.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR s.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
UNION ALL
SELECT NULL, c.id, c.campaign_id, 1, 'running', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM scheduler.claimed_tasks c
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
UNION ALL
SELECT NULL, d.id, d.campaign_id, 1, d.status::text, d.attempts, d.target_count::integer, d.targets, d.reason, d.code, d.message,
       d.request_id, d.message_id, d.sent_at, d.decided_at
  FROM scheduler.decided_tasks d
 WHERE d.attempts > 0 AND d.slices = 1 AND NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = d.id)
   AND ((SELECT scheduler.visible_apps()) IS NULL OR d.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));
COMMENT ON COLUMN scheduler.deliveries.status IS 'pending, held (its campaign is paused), running, succeeded, failed, unknown, cancelled or missed; of a campaign that was cancelled or deleted as it ends, from the moment of the cancel.';

-- A booking is made by the claim and belongs to a call: what waits has none.
DROP TRIGGER slices_given_up ON scheduler.slices;
DROP FUNCTION scheduler.slices_given_up();
DELETE FROM scheduler.quota_uses q USING scheduler.slices s WHERE q.slice_id = s.id AND s.status IN ('waiting', 'held');
COMMENT ON COLUMN scheduler.quota_uses.used_at IS 'When: at the claim of the call, moved to its end, so that a window counted from it covers the call''s arrival.';

ALTER TABLE scheduler.slices DROP COLUMN targets, DROP COLUMN details;
ALTER TABLE scheduler.slices SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
DROP INDEX scheduler.slices_ready;
DROP INDEX scheduler.slices_open;
DROP INDEX scheduler.slices_unfinished;
CREATE INDEX slices_ready ON scheduler.slices (app_no, ready_at, id) WHERE status = 'waiting';
CREATE INDEX slices_unfinished ON scheduler.slices (task_id, status) WHERE finished_at IS NULL;
CREATE INDEX slices_maybe_sent ON scheduler.slices (task_id) WHERE maybe_sent AND finished_at IS NULL;
COMMENT ON TYPE scheduler.slice_status IS
  'A stored delivery: waiting for its (next) attempt, held while its campaign is paused, running, or ended. The daemons bring what waits to its place in batches; what may begin depends on the campaign alone.';

SELECT scheduler.set_schema_version(12);

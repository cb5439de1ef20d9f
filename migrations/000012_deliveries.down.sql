-- The columns come back where they stood, and so do those after them; the views
-- over the tables make room for that and come back as they were.
DROP VIEW scheduler.missed, scheduler.unresolved, scheduler.deliveries, scheduler.tasks;

DROP INDEX scheduler.slices_ready;
DROP INDEX scheduler.slices_maybe_sent;
DROP INDEX scheduler.slices_unfinished;
ALTER TABLE scheduler.slices RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_cost_delay);
ALTER TABLE scheduler.slices DROP CONSTRAINT slices_check1;
ALTER TABLE scheduler.slices RENAME COLUMN reason TO reason_12;
ALTER TABLE scheduler.slices RENAME COLUMN code TO code_12;
ALTER TABLE scheduler.slices RENAME COLUMN message TO message_12;
ALTER TABLE scheduler.slices RENAME COLUMN request_id TO request_id_12;
ALTER TABLE scheduler.slices RENAME COLUMN message_id TO message_id_12;
ALTER TABLE scheduler.slices RENAME COLUMN sent_at TO sent_at_12;
ALTER TABLE scheduler.slices RENAME COLUMN finished_at TO finished_at_12;
ALTER TABLE scheduler.slices ADD COLUMN targets text[] NOT NULL DEFAULT '{}', ADD COLUMN details jsonb,
  ADD COLUMN reason text, ADD COLUMN code text, ADD COLUMN message text, ADD COLUMN request_id text, ADD COLUMN message_id text, ADD COLUMN sent_at timestamptz, ADD COLUMN finished_at timestamptz;
UPDATE scheduler.slices SET reason = reason_12, code = code_12, message = message_12, request_id = request_id_12, message_id = message_id_12, sent_at = sent_at_12, finished_at = finished_at_12;
UPDATE scheduler.slices s SET targets = x.targets, details = x.details FROM scheduler.slice_targets x WHERE x.slice_id = s.id;
ALTER TABLE scheduler.slices DROP COLUMN reason_12, DROP COLUMN code_12, DROP COLUMN message_12, DROP COLUMN request_id_12, DROP COLUMN message_id_12, DROP COLUMN sent_at_12, DROP COLUMN finished_at_12;
UPDATE scheduler.slices s SET status = CASE c.status WHEN 'paused' THEN 'held' ELSE 'waiting' END::scheduler.slice_status
  FROM scheduler.campaigns c WHERE c.id = s.campaign_id AND s.status IN ('waiting', 'held');
UPDATE scheduler.slices s SET status = scheduler.ended('cancelled', s.maybe_sent), finished_at = clock_timestamp(), reason = 'campaign cancelled'
 WHERE s.status IN ('waiting', 'held') AND NOT EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = s.campaign_id AND c.status <> 'cancelled');
ALTER TABLE scheduler.slices ADD CONSTRAINT slices_check1 CHECK ((status IN ('waiting', 'held', 'running')) = (finished_at IS NULL));
CREATE INDEX slices_ready ON scheduler.slices (ready_at, id) WHERE status = 'waiting';
CREATE INDEX slices_unfinished ON scheduler.slices (task_id) WHERE finished_at IS NULL;
CREATE INDEX slices_open ON scheduler.slices (campaign_id) WHERE status IN ('waiting', 'held');
COMMENT ON COLUMN scheduler.slices.targets IS 'Its targets, fixed when the task began.';
COMMENT ON COLUMN scheduler.slices.details IS 'Per-target parameters read from an audience view when the task began: target -> [template_key_value, extended_params].';
COMMENT ON COLUMN scheduler.slices.reason IS 'Why the last attempt was not accepted.';
COMMENT ON COLUMN scheduler.slices.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.slices.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.slices.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.slices.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.slices.sent_at IS 'When the last attempt began.';
COMMENT ON COLUMN scheduler.slices.finished_at IS 'When it ended for good.';
COMMENT ON TYPE scheduler.slice_status IS
  'A stored delivery: waiting for its (next) attempt, held while its campaign is paused, running, or ended.';
COMMENT ON COLUMN scheduler.quota_uses.used_at IS 'When: reserved at the start of the call, moved to its end, so that a window counted from it covers the call''s arrival.';
DROP TABLE scheduler.slice_targets;

ALTER TABLE scheduler.running_tasks RENAME COLUMN started_at TO started_at_12;
ALTER TABLE scheduler.running_tasks RENAME COLUMN slices TO slices_12;
ALTER TABLE scheduler.running_tasks RENAME COLUMN targets TO targets_12;
ALTER TABLE scheduler.running_tasks ADD COLUMN expires_at timestamptz, ADD COLUMN started_at timestamptz, ADD COLUMN slices integer, ADD COLUMN targets bigint;
UPDATE scheduler.running_tasks r
   SET started_at = started_at_12, slices = slices_12, targets = targets_12,
       expires_at = coalesce((SELECT scheduler.window_end(coalesce(r.window_from, r.due_at), c.catch_up_window) FROM scheduler.campaigns c WHERE c.id = r.campaign_id), r.due_at);
ALTER TABLE scheduler.running_tasks DROP COLUMN window_from, DROP COLUMN started_at_12, DROP COLUMN slices_12, DROP COLUMN targets_12, ALTER expires_at SET NOT NULL, ALTER started_at SET NOT NULL, ALTER slices SET NOT NULL, ALTER targets SET NOT NULL,
  ADD CONSTRAINT running_tasks_slices_check CHECK (slices > 0);
COMMENT ON COLUMN scheduler.running_tasks.expires_at IS 'The end of its catch-up window: no attempt begins after it.';
COMMENT ON COLUMN scheduler.running_tasks.started_at IS 'When it began.';
COMMENT ON COLUMN scheduler.running_tasks.slices IS 'How many deliveries it has.';
COMMENT ON COLUMN scheduler.running_tasks.targets IS 'How many targets they have in all.';

CREATE VIEW scheduler.tasks WITH (security_barrier) AS
WITH task AS (
  SELECT p.id, p.app_no, p.campaign_id, p.revision, p.origin, 'pending' AS status, p.due_at,
         NULL::timestamptz AS started_at, NULL::timestamptz AS sent_at, NULL::timestamptz AS decided_at,
         0 AS attempts, NULL::integer AS deliveries, NULL::integer AS deliveries_done, NULL::bigint AS targets,
         CASE WHEN p.waits_for IS NOT NULL THEN 'waits for ' || p.waits_for END AS reason,
         NULL::text AS code, NULL::text AS message, NULL::text AS request_id, NULL::text AS message_id,
         NULL::bigint AS daemon_id, NULL::smallint AS channel_no
    FROM scheduler.pending_tasks p
  UNION ALL
  SELECT c.id, c.app_no, c.campaign_id, c.revision, c.origin, 'running', c.due_at,
         c.claimed_at, NULL, NULL, 1, 1, 0, NULL, NULL, NULL, NULL, NULL, NULL, c.daemon_id, NULL
    FROM scheduler.claimed_tasks c
  UNION ALL
  SELECT r.id, r.app_no, r.campaign_id, r.revision, r.origin, 'running', r.due_at,
         r.started_at, s.sent_at, NULL, s.attempts, r.slices, s.done, r.targets, s.reason, NULL, NULL, NULL, NULL, NULL, NULL
    FROM scheduler.running_tasks r
   CROSS JOIN LATERAL (
     SELECT min(x.sent_at) AS sent_at, coalesce(sum(x.attempts), 0)::integer AS attempts,
            (count(*) FILTER (WHERE x.finished_at IS NOT NULL))::integer AS done,
            max(x.reason) FILTER (WHERE x.status = 'waiting') AS reason
       FROM scheduler.slices x WHERE x.task_id = r.id) s
  UNION ALL
  SELECT d.id, d.app_no, d.campaign_id, d.revision, d.origin, d.status::text, d.due_at,
         d.started_at, d.sent_at, d.decided_at, d.attempts, d.slices, d.accepted, d.target_count, d.reason,
         d.code, d.message, d.request_id, d.message_id, d.daemon_id, d.channel_no
    FROM scheduler.decided_tasks d
)
SELECT t.id, t.campaign_id, t.due_at, t.status, t.reason, t.attempts,
       t.started_at, t.sent_at, t.decided_at,
       CASE WHEN t.sent_at IS NOT NULL THEN t.sent_at - t.due_at END AS lateness,
       a.app_id, a.workspace_id, coalesce(ch.channel, k.channel) AS channel, k.name AS campaign,
       t.revision, t.origin::text AS origin, t.deliveries, t.deliveries_done, t.targets,
       t.code, t.message, t.request_id, t.message_id, t.daemon_id
  FROM task t
  LEFT JOIN scheduler.apps a ON a.app_no = t.app_no
  LEFT JOIN scheduler.channels ch ON ch.channel_no = t.channel_no
  LEFT JOIN scheduler.campaigns k ON k.id = t.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR t.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);
COMMENT ON VIEW scheduler.tasks IS 'One row for every occurrence that became a task: pending, running, then its decision.';
COMMENT ON COLUMN scheduler.tasks.id IS 'Key.';
COMMENT ON COLUMN scheduler.tasks.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.tasks.due_at IS 'The occurrence: when it should be pushed.';
COMMENT ON COLUMN scheduler.tasks.status IS 'pending, running, succeeded, failed, missed, cancelled or unknown.';
COMMENT ON COLUMN scheduler.tasks.reason IS 'Why, in words.';
COMMENT ON COLUMN scheduler.tasks.attempts IS 'Calls begun.';
COMMENT ON COLUMN scheduler.tasks.started_at IS 'When its push was allowed to begin.';
COMMENT ON COLUMN scheduler.tasks.sent_at IS 'When its first call began.';
COMMENT ON COLUMN scheduler.tasks.decided_at IS 'When the decision was recorded.';
COMMENT ON COLUMN scheduler.tasks.lateness IS 'sent_at - due_at.';
COMMENT ON COLUMN scheduler.tasks.app_id IS 'The app.';
COMMENT ON COLUMN scheduler.tasks.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN scheduler.tasks.channel IS 'The push API.';
COMMENT ON COLUMN scheduler.tasks.campaign IS 'The campaign''s name; NULL when it was deleted.';
COMMENT ON COLUMN scheduler.tasks.revision IS 'The campaign''s revision.';
COMMENT ON COLUMN scheduler.tasks.origin IS 'scheduled, immediate or triggered.';
COMMENT ON COLUMN scheduler.tasks.deliveries IS 'Calls the task needs; NULL until it begins.';
COMMENT ON COLUMN scheduler.tasks.deliveries_done IS 'Running: calls that have ended. Decided: calls that were accepted.';
COMMENT ON COLUMN scheduler.tasks.targets IS 'Targets in all.';
COMMENT ON COLUMN scheduler.tasks.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.tasks.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.tasks.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.tasks.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.tasks.daemon_id IS 'The daemon that ran or decided it.';

CREATE VIEW scheduler.deliveries WITH (security_barrier) AS
SELECT s.id, s.task_id, s.campaign_id, s.slice_no,
       CASE s.status WHEN 'accepted' THEN 'succeeded' WHEN 'waiting' THEN 'pending' ELSE s.status::text END AS status,
       s.attempts, cardinality(s.targets) AS target_count, s.targets, s.reason, s.code, s.message, s.request_id, s.message_id,
       s.sent_at, s.finished_at
  FROM scheduler.slices s
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
COMMENT ON VIEW scheduler.deliveries IS 'One row for every call to a push API. A task with one delivery keeps it in its own row, and its id is NULL.';
COMMENT ON COLUMN scheduler.deliveries.id IS 'Key of a stored delivery.';
COMMENT ON COLUMN scheduler.deliveries.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.deliveries.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.deliveries.slice_no IS 'Its number within the task, from 1.';
COMMENT ON COLUMN scheduler.deliveries.status IS 'pending, held (its campaign is paused), running, succeeded, failed, unknown, cancelled or missed.';
COMMENT ON COLUMN scheduler.deliveries.attempts IS 'Attempts begun.';
COMMENT ON COLUMN scheduler.deliveries.target_count IS 'How many targets.';
COMMENT ON COLUMN scheduler.deliveries.targets IS 'The slice of targets.';
COMMENT ON COLUMN scheduler.deliveries.reason IS 'Why the last attempt was not accepted.';
COMMENT ON COLUMN scheduler.deliveries.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.deliveries.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.deliveries.request_id IS 'The provider''s id of the call.';
COMMENT ON COLUMN scheduler.deliveries.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.deliveries.sent_at IS 'When the last attempt began.';
COMMENT ON COLUMN scheduler.deliveries.finished_at IS 'When it ended.';

-- What did not succeed has a reason; to say so brings in an index.
CREATE VIEW scheduler.missed WITH (security_barrier) AS
SELECT t.due_at, t.due_at AT TIME ZONE coalesce(c.time_zone, 'UTC') AS local_time, t.reason, t.decided_at, t.campaign_id, t.campaign, t.channel,
       t.app_id, t.workspace_id, t.id AS task_id
  FROM scheduler.tasks t LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
 WHERE t.status = 'missed' AND t.reason IS NOT NULL ORDER BY t.due_at DESC;
COMMENT ON VIEW scheduler.missed IS 'Occurrences that were not pushed, and why.';

CREATE VIEW scheduler.unresolved WITH (security_barrier) AS
SELECT t.id AS task_id, t.due_at, t.sent_at, t.decided_at, t.reason, t.code, t.message, t.request_id, t.campaign_id, t.campaign,
       t.channel, t.app_id, t.workspace_id, t.deliveries, t.deliveries_done
  FROM scheduler.tasks t WHERE t.status = 'unknown' AND t.reason IS NOT NULL ORDER BY t.due_at;
COMMENT ON VIEW scheduler.unresolved IS 'Tasks whose outcome is unknown and that wait for a ruling: scheduler tasks resolve.';

DO $$
DECLARE v text; c text;
BEGIN
  -- The small views repeat columns that are described where they come from.
  FOREACH v IN ARRAY ARRAY['missed', 'unresolved'] LOOP
    FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = ('scheduler.' || v)::regclass AND attnum > 0 LOOP
      EXECUTE format('COMMENT ON COLUMN scheduler.%I.%I IS %L', v, c, CASE c
        WHEN 'local_time' THEN 'due_at as a clock in the campaign''s zone shows it.'
        WHEN 'in' THEN 'How long until it is due.' WHEN 'pending' THEN 'Scheduled tasks that are pending.'
        WHEN 'percent_full' THEN 'pending as a percentage of pending_limit.' WHEN 'more_to_come' THEN 'Whether occurrences wait for room.'
        WHEN 'next_due_at' THEN 'The earliest pending task.' WHEN 'used' THEN 'Calls that count now.'
        WHEN 'next_free_at' THEN 'When the oldest of them stops counting.' WHEN 'claim_id' THEN 'The claim.'
        WHEN 'claimed_at' THEN 'When the push was allowed to begin.'
        WHEN 'task_id' THEN 'The task.' WHEN 'campaign' THEN 'The campaign''s name.'
        ELSE 'As in the tables.' END);
    END LOOP;
  END LOOP;
END $$;

DROP FUNCTION scheduler.window_end(timestamptz, interval);
DROP FUNCTION scheduler.ended(scheduler.slice_status, boolean);

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
    UPDATE scheduler.slices SET status = CASE WHEN maybe_sent THEN 'unknown' ELSE 'cancelled' END::scheduler.slice_status,
           finished_at = NEW.updated_at, reason = 'campaign cancelled'
      WHERE campaign_id = NEW.id AND status IN ('waiting', 'held');
  ELSIF new_strategy THEN
    rewind := scheduler.withdraw_tasks(OLD, format('replaced by revision %s', NEW.revision), true, true);
  ELSIF NEW.status = 'paused' THEN
    rewind := scheduler.withdraw_tasks(OLD, 'campaign paused', true, false);
  ELSE
    UPDATE scheduler.pending_tasks SET revision = NEW.revision WHERE campaign_id = NEW.id;
  END IF;
  IF OLD.resend_unknown AND NOT NEW.resend_unknown THEN
    UPDATE scheduler.slices SET status = 'unknown', finished_at = NEW.updated_at, reason = 'resend_unknown was taken back'
      WHERE campaign_id = NEW.id AND status IN ('waiting', 'held') AND maybe_sent;
  END IF;
  IF NEW.status = 'paused' AND OLD.status <> 'paused' THEN
    UPDATE scheduler.slices SET status = 'held' WHERE campaign_id = NEW.id AND status = 'waiting';
  ELSIF NEW.status = 'active' AND OLD.status = 'paused' THEN
    UPDATE scheduler.slices SET status = 'waiting' WHERE campaign_id = NEW.id AND status = 'held';
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
  UPDATE scheduler.slices SET status = CASE WHEN maybe_sent THEN 'unknown' ELSE 'cancelled' END::scheduler.slice_status,
         finished_at = clock_timestamp(), reason = 'campaign deleted'
    WHERE campaign_id = OLD.id AND status IN ('waiting', 'held');
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
  INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, ready_at, attempts, targets, sent_at, reason)
    SELECT t.id, 1, t.app_no, t.campaign_id, clock_timestamp(), t.attempts, coalesce(t.targets, '{}'), t.sent_at, 'sent again by ruling'
     WHERE NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = t.id);
  DELETE FROM scheduler.decided_tasks d WHERE d.id = t.id;
  INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, expires_at, started_at, slices, targets)
    VALUES (t.id, t.app_no, t.campaign_id, t.revision, t.origin, t.due_at, clock_timestamp() + c.catch_up_window,
      coalesce(t.started_at, clock_timestamp()), greatest(t.slices, 1), t.target_count);
END $$;

CREATE FUNCTION scheduler.slices_given_up() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.quota_uses q WHERE q.slice_id = NEW.id;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.slices_given_up() IS 'Gives back what a delivery booked for a call that is never made.';

CREATE TRIGGER slices_given_up AFTER UPDATE ON scheduler.slices
  FOR EACH ROW WHEN (OLD.status IN ('waiting', 'held') AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION scheduler.slices_given_up();

SELECT scheduler.set_schema_version(11);

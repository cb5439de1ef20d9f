-- Pace: a campaign's deliveries may go out evenly over a while, its spread, and an
-- app may have a ceiling of targets per second. Campaigns without a spread are
-- judged, cut and claimed by the same way as before, and at the same cost.

ALTER TABLE scheduler.campaigns ADD COLUMN spread interval;
COMMENT ON COLUMN scheduler.campaigns.spread IS
  'Over how long a task''s deliveries go out, evenly, the first when it is due: 1 second to 24 hours, and no longer than catch_up_window. It counts as it stands, for running tasks too. NULL: they go out at once.';

ALTER TABLE scheduler.apps ADD COLUMN targets_per_second double precision
  CONSTRAINT apps_targets_per_second CHECK (targets_per_second BETWEEN 0.01 AND 10000000);
COMMENT ON COLUMN scheduler.apps.targets_per_second IS
  'How many targets a second the app''s calls may have, of all daemons together; a call whose number of targets only the provider knows counts as one. NULL: no bound. The daemons see a change within some seconds.';
-- The heartbeat asks for them each second.
CREATE INDEX apps_paced ON scheduler.apps (app_no) INCLUDE (targets_per_second) WHERE targets_per_second IS NOT NULL;

-- What the times of a running task's deliveries were worked out from.
ALTER TABLE scheduler.running_tasks
  ADD COLUMN spread interval, ADD COLUMN spread_until timestamptz, ADD COLUMN spread_moves integer NOT NULL DEFAULT 0, ADD COLUMN spread_note text;
COMMENT ON COLUMN scheduler.running_tasks.spread IS 'The spread that the times of its deliveries were worked out from; NULL: they go out at once.';
COMMENT ON COLUMN scheduler.running_tasks.spread_until IS 'The end of that spread, as it was worked out last.';
COMMENT ON COLUMN scheduler.running_tasks.spread_moves IS 'How often its deliveries were so late that the rest was spread anew.';
COMMENT ON COLUMN scheduler.running_tasks.spread_note IS 'That and how the end of the catch-up window shortened the spread; NULL: it did not.';

CREATE FUNCTION scheduler.spread_seconds(spread interval, part double precision, begins timestamptz, window_end timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN spread IS NOT NULL THEN greatest(0, least(extract(epoch FROM spread) * part,
  extract(epoch FROM window_end - begins) - least(60, extract(epoch FROM window_end - begins) / 10)))::double precision END;
COMMENT ON FUNCTION scheduler.spread_seconds(interval, double precision, timestamptz, timestamptz) IS
  'Over how many seconds a part of a task''s deliveries goes out, from 0 to 1: that part of the spread, and no more than the catch-up window leaves. A tenth of what it leaves, a minute at most, stays free for calls and further tries.';

CREATE FUNCTION scheduler.spread_note(spread interval, waiting bigint, deliveries bigint, seconds double precision) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN seconds < extract(epoch FROM spread)::double precision * waiting / deliveries - 0.001 THEN
  format('spread shortened by the end of the catch-up window: %s of %s deliveries within %s in place of %s', waiting, deliveries,
    to_char(make_interval(secs => floor(seconds + 0.001)), 'HH24:MI:SS'),
    to_char(make_interval(secs => round(extract(epoch FROM spread)::double precision * waiting / deliveries)), 'HH24:MI:SS')) END;
COMMENT ON FUNCTION scheduler.spread_note(interval, bigint, bigint, double precision) IS 'Says that the deliveries that wait go out within fewer seconds than their part of the spread; NULL: they do not.';

CREATE FUNCTION scheduler.spread_problems(c scheduler.campaigns) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  seconds double precision := extract(epoch FROM c.spread); -- a month has 30 days, as in a window
BEGIN
  IF seconds IS NULL THEN
    RETURN '{}';
  ELSIF seconds NOT BETWEEN 1 AND 86400 THEN
    RETURN ARRAY[scheduler.as_problem('spread', 'must be from 1 second to 24 hours', c.spread::text,
      'write an interval such as ''30 minutes'', or NULL for all deliveries at once')];
  ELSIF seconds > extract(epoch FROM c.catch_up_window) THEN
    RETURN ARRAY[scheduler.as_problem('spread', 'must not be longer than catch_up_window', c.spread::text || ', catch_up_window ' || c.catch_up_window::text,
      'deliveries after the end of the window would be missed: make the spread shorter or catch_up_window longer')];
  END IF;
  RETURN '{}';
END $$;
COMMENT ON FUNCTION scheduler.spread_problems(scheduler.campaigns) IS 'What is wrong with a campaign''s spread.';

-- The texts of these functions are other migrations'; only what pace adds is changed
-- here.
DO $$
DECLARE
  change record; text_before text; text_after text;
BEGIN
  FOR change IN SELECT * FROM (VALUES
    ('scheduler.campaigns_accept()', 'AND NEW.times IS NULL', 'AND NEW.times IS NULL AND NEW.spread IS NULL'),
    ('scheduler.content_changed(scheduler.campaigns,scheduler.campaigns)', 'scheduler.strategy_changed(a, b)', 'scheduler.strategy_changed(a, b) OR a.spread IS DISTINCT FROM b.spread'),
    ('scheduler.campaign_problems(scheduler.campaigns,scheduler.apps)', '  RETURN problems;', '  problems := problems || scheduler.spread_problems(c);
  RETURN problems;')
  ) AS v (name, was, becomes) LOOP
    text_before := pg_get_functiondef(change.name::regprocedure);
    text_after := replace(text_before, change.was, change.becomes);
    IF text_after = text_before THEN
      RAISE EXCEPTION 'function % has not the text "%"', change.name, change.was;
    END IF;
    EXECUTE text_after;
  END LOOP;
END $$;

-- A running task says that its spread is shortened.
CREATE OR REPLACE VIEW scheduler.tasks WITH (security_barrier) AS
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
         r.started_at, s.sent_at, NULL, s.attempts, r.slices, s.done, r.targets, coalesce(s.reason, r.spread_note), NULL, NULL, NULL, NULL, NULL, NULL
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

SELECT scheduler.set_schema_version(30);

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

CREATE OR REPLACE FUNCTION scheduler.content_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.strategy_changed(a, b)
    OR (a.name, a.channel, a.request, a.audience_view, a.misfire_policy, a.catch_up_window, a.resend_unknown, a.spread)
    IS DISTINCT FROM (b.name, b.channel, b.request, b.audience_view, b.misfire_policy, b.catch_up_window, b.resend_unknown, b.spread)
$$;

CREATE OR REPLACE FUNCTION scheduler.campaign_problems(c scheduler.campaigns, app scheduler.apps) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}'; chan scheduler.channels;
BEGIN
  IF app.app_no IS NULL THEN
    problems := problems || scheduler.app_problem(c.app_id, c.workspace_id);
  END IF;
  IF coalesce(c.name, '') = '' THEN
    problems := problems || scheduler.as_problem('name', 'must not be empty', quote_nullable(c.name),
      'give the campaign a name; the push API calls it taskName');
  END IF;
  SELECT * INTO chan FROM scheduler.channels k WHERE k.channel = c.channel;
  IF chan.channel IS NULL THEN
    problems := problems || scheduler.channel_problem(c.channel);
  ELSIF app.provider <> chan.provider THEN
    problems := problems || scheduler.as_problem('channel', format('must be one of the app''s provider, %s', app.provider), quote_literal(c.channel),
      coalesce('use one of ' || (SELECT string_agg(k.channel, ', ' ORDER BY k.channel) FROM scheduler.channels k WHERE k.provider = app.provider),
               'the provider has no channels'));
  END IF;
  IF jsonb_typeof(c.request) <> 'object' THEN
    problems := problems || scheduler.as_problem('request', 'must be a JSON object', scheduler.strategy_clip(c.request::text),
      'write the push API''s parameters as {"name": value, ...}');
  END IF;
  IF c.misfire_policy NOT IN ('latest', 'all', 'skip') THEN
    problems := problems || scheduler.as_problem('misfire_policy', 'must be latest, all or skip', quote_literal(c.misfire_policy),
      'latest pushes only the newest of several missed occurrences');
  END IF;
  IF c.audience_view !~ '^[a-z_][a-z0-9_]{0,62}$' THEN
    problems := problems || scheduler.as_problem('audience_view', 'must be the bare name of a view in schema audience: lower-case letters, digits and _',
      quote_literal(c.audience_view), 'CREATE VIEW audience.name AS SELECT target, template_key_value, extended_params ...');
  END IF;
  RETURN problems || scheduler.spread_problems(c);
END $$;

CREATE OR REPLACE FUNCTION scheduler.campaigns_accept() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  at timestamptz := clock_timestamp(); content jsonb := NEW.strategy_content; own_id boolean := false; app integer; zone text; app_provider text; known boolean;
BEGIN
  IF NEW.id IS NULL THEN
    NEW.id := nextval('scheduler.campaigns_id_seq'::regclass);
  ELSIF NEW.id IS DISTINCT FROM pg_sequence_last_value('scheduler.campaigns_id_seq'::regclass) THEN
    BEGIN -- another session may have taken an id since
      own_id := NEW.id IS DISTINCT FROM currval('scheduler.campaigns_id_seq'::regclass);
    EXCEPTION WHEN object_not_in_prerequisite_state THEN own_id := true; -- this session was given none
    END;
  END IF;
  NEW.revision := CASE WHEN own_id THEN 0 ELSE 1 END;
  IF NEW.status_reason IS NOT NULL THEN
    NEW.status_reason := NULL;
  END IF;
  NEW.created_by := scheduler.actor();
  NEW.created_via := scheduler.actor_via();
  NEW.updated_by := NEW.created_by;
  NEW.updated_via := NEW.created_via;
  NEW.written_at := at;
  NEW.created_at := at;
  NEW.updated_at := at;
  -- Rows of one app mostly come together: what the last look-up found is kept in
  -- settings of the transaction. Anybody may write settings, so the policy and
  -- campaigns_inserted hold the rows against the apps.
  IF current_setting('scheduler.loading', true) = NEW.app_id || E'\n' || NEW.workspace_id THEN
    app := current_setting('scheduler.loading_app', true)::integer;
    zone := current_setting('scheduler.loading_zone', true);
    app_provider := current_setting('scheduler.loading_provider', true);
    known := true;
  ELSE
    SELECT a.app_no, a.time_zone, a.provider, a.zone_known INTO app, zone, app_provider, known
      FROM scheduler.apps a WHERE a.app_id = NEW.app_id AND a.workspace_id = NEW.workspace_id;
    IF known THEN
      PERFORM set_config('scheduler.loading', NEW.app_id || E'\n' || NEW.workspace_id, true), set_config('scheduler.loading_app', app::text, true),
              set_config('scheduler.loading_zone', zone, true), set_config('scheduler.loading_provider', app_provider, true);
    END IF;
  END IF;
  IF NEW.app_no IS NOT NULL THEN
    NEW.app_no := NULL;
  END IF;
  IF known AND NOT own_id
     AND (NEW.time_zone IS NULL OR NEW.time_zone = zone)
     AND octet_length(NEW.name) BETWEEN 1 AND 512
     AND (NEW.channel = app_provider OR starts_with(NEW.channel, app_provider || '.'))
     AND NEW.misfire_policy IN ('latest', 'all', 'skip')
     AND NEW.short_month_policy IN ('skip', 'last_day') AND NEW.dst_gap_policy = 'shift'
     AND NEW.catch_up_window BETWEEN interval '1 second' AND interval '30 days'
     AND NEW.status IN ('active', 'paused') AND NEW.resend_unknown IS NOT NULL AND NEW.audience_view IS NULL AND NEW.times IS NULL AND NEW.spread IS NULL
     AND (NEW.client_token IS NULL OR octet_length(NEW.client_token) BETWEEN 1 AND 128)
     AND jsonb_typeof(NEW.request) = 'object' AND octet_length(NEW.request::text) <= 4000 AND NOT NEW.request @? '$.**{33}'
     AND scheduler.strategy_is_plain(NEW.strategy_type, content, zone, at)
  THEN
    NEW.app_no := app;
    NEW.time_zone := zone;
  END IF;
  RETURN NEW;
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

SELECT scheduler.set_schema_version(28);

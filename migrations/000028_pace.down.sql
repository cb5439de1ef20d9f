-- Campaigns with a spread would push to all at once.
DO $$
BEGIN
  IF EXISTS (SELECT FROM scheduler.campaigns WHERE spread IS NOT NULL AND status IN ('active', 'paused')) THEN
    RAISE EXCEPTION 'there are campaigns with a spread, whose deliveries the schema of before would push at once' USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'cancel them, or let them do so: UPDATE scheduler.campaigns SET spread = NULL WHERE spread IS NOT NULL AND status IN (''active'', ''paused'')';
  END IF;
END $$;

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
     AND NEW.status IN ('active', 'paused') AND NEW.resend_unknown IS NOT NULL AND NEW.audience_view IS NULL AND NEW.times IS NULL
     AND (NEW.client_token IS NULL OR octet_length(NEW.client_token) BETWEEN 1 AND 128)
     AND jsonb_typeof(NEW.request) = 'object' AND octet_length(NEW.request::text) <= 4000 AND NOT NEW.request @? '$.**{33}'
     AND scheduler.strategy_is_plain(NEW.strategy_type, content, zone, at)
  THEN
    NEW.app_no := app;
    NEW.time_zone := zone;
  END IF;
  RETURN NEW;
END $$;

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
  RETURN problems;
END $$;

CREATE OR REPLACE FUNCTION scheduler.content_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.strategy_changed(a, b)
    OR (a.name, a.channel, a.request, a.audience_view, a.misfire_policy, a.catch_up_window, a.resend_unknown)
    IS DISTINCT FROM (b.name, b.channel, b.request, b.audience_view, b.misfire_policy, b.catch_up_window, b.resend_unknown)
$$;

DROP FUNCTION scheduler.spread_problems(scheduler.campaigns);
DROP FUNCTION scheduler.spread_note(interval, bigint, bigint, double precision);
DROP FUNCTION scheduler.spread_seconds(interval, double precision, timestamptz, timestamptz);

DROP INDEX scheduler.apps_paced;
ALTER TABLE scheduler.running_tasks DROP COLUMN spread, DROP COLUMN spread_until, DROP COLUMN spread_moves, DROP COLUMN spread_note;
ALTER TABLE scheduler.apps DROP COLUMN targets_per_second;
ALTER TABLE scheduler.campaigns DROP COLUMN spread;

SELECT scheduler.set_schema_version(27);

-- Rows with a calendar would push on closed days: they have to go first.
DO $$
BEGIN
  IF EXISTS (SELECT FROM scheduler.campaigns WHERE calendar IS NOT NULL AND status <> 'cancelled') THEN
    RAISE EXCEPTION 'there are campaigns with a calendar, which the schema of before would push on closed days' USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'cancel them, or take the calendar away: UPDATE scheduler.campaigns SET calendar = NULL, calendar_policy = NULL WHERE calendar IS NOT NULL';
  END IF;
END $$;

DROP TRIGGER campaigns_calendar_locked ON scheduler.campaigns;
DROP FUNCTION scheduler.campaigns_calendar_locked();

CREATE OR REPLACE FUNCTION scheduler.occurrences(campaign_id bigint, since timestamptz, until timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH version AS (
    SELECT c.*, c.strategy_content AS content, c.time_zone AS zone,
           (occurrences.since AT TIME ZONE 'UTC')::date - 2 AS first_day, (occurrences.until AT TIME ZONE 'UTC')::date + 2 AS last_day
      FROM scheduler.campaigns c WHERE c.id = occurrences.campaign_id
  ), occurrence AS (
    SELECT v.written_at AS due_at FROM version v WHERE v.strategy_type = 0
    UNION ALL
    SELECT to_timestamp(trunc((v.content ->> 'fixedTime')::numeric / 1000)::double precision) FROM version v WHERE v.strategy_type = 1
    UNION ALL
    SELECT i.due_at
      FROM version v
     CROSS JOIN LATERAL (
      SELECT (to_timestamp((v.content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS first,
             (to_timestamp((v.content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS last,
             (v.content ->> 'circleType')::numeric AS kind,
             CASE WHEN (v.content ->> 'circleType')::numeric > 1
                  THEN ARRAY(SELECT x::numeric FROM jsonb_array_elements_text(v.content -> 'circleValue') x) END AS chosen
     ) l
     CROSS JOIN LATERAL unnest(coalesce(v.times, ARRAY[v.content ->> 'time'])) AS c (clock)
     CROSS JOIN LATERAL generate_series(greatest(l.first, v.first_day)::timestamp, least(l.last, v.last_day)::timestamp, '1 day') AS g (day)
     CROSS JOIN LATERAL (SELECT g.day + c.clock::time AS wall, (g.day + c.clock::time) AT TIME ZONE 'UTC' AS utc) w
     CROSS JOIN LATERAL (
      SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE v.zone) - (w.wall - interval '26 hours')) AS before,
             w.utc - (((w.utc + interval '26 hours') AT TIME ZONE v.zone) - (w.wall + interval '26 hours')) AS after
     ) o
     CROSS JOIN LATERAL (
      SELECT coalesce(least(CASE WHEN o.before AT TIME ZONE v.zone = w.wall THEN o.before END,
                            CASE WHEN o.after AT TIME ZONE v.zone = w.wall THEN o.after END),
                      CASE WHEN v.dst_gap_policy = 'shift' THEN o.before END) AS due_at
     ) i
     WHERE v.strategy_type = 2 AND i.due_at >= v.written_at
       AND CASE l.kind WHEN 1 THEN true
           WHEN 2 THEN extract(isodow FROM g.day) = ANY (l.chosen)
           ELSE extract(day FROM g.day) = ANY (l.chosen)
             OR v.short_month_policy = 'last_day' AND extract(day FROM g.day + interval '1 day') = 1
                AND extract(day FROM g.day) < (SELECT max(x) FROM unnest(l.chosen) x)
           END
  )
  SELECT DISTINCT o.due_at FROM occurrence o WHERE o.due_at BETWEEN occurrences.since AND occurrences.until ORDER BY o.due_at
$$;

CREATE OR REPLACE FUNCTION scheduler.campaigns_judge() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  app scheduler.apps; problems scheduler.strategy_problem[]; verdict record; warning scheduler.strategy_warning;
  new_strategy boolean; at timestamptz := clock_timestamp(); zone text := NEW.time_zone; given text[] := NEW.times;
BEGIN
  IF TG_OP = 'UPDATE' AND scheduler.is_daemon() THEN
    -- The engine finishes and rejects; that is not an author's change.
    IF NEW.status IN ('finished', 'rejected') THEN
      NEW.updated_at := at;
    END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'UPDATE' AND NEW.written_at > OLD.written_at AND pg_trigger_depth() > 1 AND scheduler.is_owner() THEN
    RETURN NEW; -- campaigns_committed
  END IF;
  IF TG_OP = 'UPDATE' THEN
    PERFORM scheduler.refuse_old_snapshot();
  END IF;

  -- Defaults are materialised: an explicit NULL means the default, never zero.
  NEW.workspace_id := coalesce(NEW.workspace_id, '');
  NEW.strategy_type := coalesce(NEW.strategy_type, 0);
  NEW.request := coalesce(NEW.request, '{}');
  NEW.misfire_policy := coalesce(NEW.misfire_policy, 'latest');
  NEW.catch_up_window := coalesce(NEW.catch_up_window, interval '1 hour');
  NEW.short_month_policy := coalesce(NEW.short_month_policy, 'skip');
  NEW.dst_gap_policy := coalesce(NEW.dst_gap_policy, 'shift');
  NEW.resend_unknown := coalesce(NEW.resend_unknown, false);
  NEW.status := coalesce(NEW.status, 'active');
  IF NEW.strategy_type = 0 AND jsonb_typeof(NEW.strategy_content) = 'null' THEN
    NEW.strategy_content := NULL;
  END IF;
  -- No time at all is none, and the order in which they are written says nothing.
  -- What is judged is what the author wrote.
  IF cardinality(given) <= 24 THEN
    NEW.times := nullif(ARRAY(SELECT t FROM unnest(given) t ORDER BY t COLLATE "C"), '{}');
  END IF;
  SELECT * INTO app FROM scheduler.apps a WHERE a.app_id = NEW.app_id AND a.workspace_id = NEW.workspace_id;
  NEW.time_zone := coalesce(NEW.time_zone, app.time_zone, 'Asia/Shanghai');

  problems := scheduler.campaign_problems(NEW, app);
  IF coalesce(NEW.quiet_policy, '') = 'ignore' AND app.app_no IS NOT NULL AND NOT scheduler.quiet_exempt(app.app_no, NEW.channel, NEW.name)
     AND (TG_OP = 'INSERT' OR (NEW.quiet_policy, NEW.channel, NEW.name) IS DISTINCT FROM (OLD.quiet_policy, OLD.channel, OLD.name)) THEN
    problems := problems || scheduler.as_problem('quiet_policy', 'ignore has to be allowed by an admin for the campaign''s channel or name', quote_literal(NEW.quiet_policy),
      format('use hold or skip, or have an admin run SELECT scheduler.grant_quiet_exemption(%L, %L, channel => %L, name => %L);', NEW.app_id, NEW.workspace_id, NEW.channel, NEW.name));
  END IF;
  IF TG_OP = 'UPDATE' THEN
    problems := problems || scheduler.change_problems(OLD, NEW);
    -- What was written before there was a bound may stay.
    problems := problems || ARRAY(SELECT p FROM unnest(scheduler.size_problems(NEW)) p
      WHERE CASE p.field WHEN 'name' THEN NEW.name <> OLD.name WHEN 'request' THEN NEW.request <> OLD.request
            WHEN 'strategy_content' THEN NEW.strategy_content IS DISTINCT FROM OLD.strategy_content
            WHEN 'catch_up_window' THEN NEW.catch_up_window <> OLD.catch_up_window ELSE false END);
  ELSE
    IF NEW.status NOT IN ('active', 'paused') THEN
      problems := problems || scheduler.as_problem('status', 'must be active or paused in an INSERT', quote_literal(NEW.status), 'leave it out');
    END IF;
    problems := problems || scheduler.size_problems(NEW) || scheduler.id_problems(NEW);
  END IF;

  -- A strategy that is left alone is not held against today's date again.
  new_strategy := TG_OP = 'INSERT' OR scheduler.strategy_changed(OLD, NEW);
  NEW.written_at := CASE WHEN new_strategy THEN at ELSE OLD.written_at END;
  IF new_strategy THEN
    -- Without an app there is no zone but the author's own, and no today.
    SELECT * INTO verdict FROM scheduler.strategy_verdict(NEW.strategy_type, NEW.strategy_content,
      CASE WHEN app.app_no IS NULL THEN zone ELSE NEW.time_zone END, NEW.short_month_policy, NEW.dst_gap_policy, NEW.catch_up_window, NEW.written_at, given);
    problems := problems || ARRAY(SELECT p FROM unnest(verdict.problems) p WHERE app.app_no IS NOT NULL OR zone IS NOT NULL OR p.field <> 'time_zone');
  ELSIF NEW.catch_up_window <= interval '0' OR extract(epoch FROM NEW.catch_up_window) > 36525 * 86400.0 THEN
    problems := problems || scheduler.as_problem('catch_up_window', 'must be longer than zero and at most 36525 days', NEW.catch_up_window::text,
      'write an interval such as ''1 hour''');
  END IF;
  IF TG_OP = 'INSERT' AND app.app_no IS NULL AND scheduler.writable_apps() IS NOT NULL
     AND NOT EXISTS (SELECT FROM unnest(problems) p WHERE p.field NOT IN ('app_id', 'channel')) THEN
    NEW.app_no := 0; -- the policy refuses it, by the same way as a good row for somebody else's app: an error's context tells the way
    RETURN NEW;
  END IF;
  IF cardinality(problems) > 0 THEN
    PERFORM scheduler.refuse(problems);
  END IF;
  IF new_strategy THEN
    FOREACH warning IN ARRAY verdict.warnings LOOP
      RAISE NOTICE '%: %', warning.field, warning.message;
    END LOOP;
    IF jsonb_typeof(NEW.strategy_content) = 'string' THEN
      NEW.strategy_content := scheduler.strategy_object(NEW.strategy_content);
    END IF;
  END IF;

  NEW.app_no := app.app_no;
  NEW.updated_at := at;
  IF TG_OP = 'INSERT' THEN -- campaigns_accept has written the rest
    NEW.revision := 1;
    NEW.created_at := at;
    RETURN NEW;
  END IF;
  NEW.created_at := OLD.created_at;
  NEW.revision := OLD.revision;
  IF OLD.status IN ('rejected', 'finished') AND NEW.status = OLD.status AND scheduler.content_changed(OLD, NEW) THEN
    NEW.status := 'active'; -- a mended or prolonged campaign is judged and planned anew
  END IF;
  IF NEW.status <> 'rejected' THEN
    NEW.status_reason := NULL;
  END IF;
  IF NEW.status <> OLD.status OR scheduler.content_changed(OLD, NEW) THEN
    NEW.revision := OLD.revision + 1;
  END IF;
  RETURN NEW;
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
     AND NEW.status IN ('active', 'paused') AND NEW.resend_unknown IS NOT NULL AND NEW.audience_view IS NULL AND NEW.times IS NULL AND NEW.spread IS NULL AND NEW.quiet_policy IS NULL
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
  IF c.quiet_policy NOT IN ('hold', 'skip', 'ignore') THEN
    problems := problems || scheduler.as_problem('quiet_policy', 'must be hold, skip or ignore', quote_literal(c.quiet_policy),
      'hold pushes at the end of the app''s quiet hours, skip leaves the occurrence out');
  END IF;
  problems := problems || scheduler.spread_problems(c);
  RETURN problems;
END $$;

DROP FUNCTION scheduler.strategy_problems(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]);
DROP FUNCTION scheduler.strategy_warnings(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]);
DROP FUNCTION scheduler.strategy_verdict(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]);

CREATE FUNCTION scheduler.strategy_verdict(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz, times text[] DEFAULT NULL,
  OUT problems scheduler.strategy_problem[], OUT warnings scheduler.strategy_warning[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  keys CONSTANT text[] := '{fixedTime,startTime,endTime,circleType,circleValue,time}';
  max_millis CONSTANT bigint := 253402300799999; -- the end of the year 9999
  object_hint CONSTANT text := 'write a JSON object, or a JSON string that holds one';
  today date := scheduler.day_in_zone(written_at, time_zone); -- null: no such zone
  window_good boolean := catch_up_window > interval '0' AND extract(epoch FROM catch_up_window) <= 36525 * 86400.0;
  wrapped boolean := jsonb_typeof(content) = 'string';
  type_name text; body text; doc json; v text; key text; mend text;
  w record; at timestamptz;
  start_day date; end_day date; circle_type bigint; highest integer; days bigint := 0; clock text; clocks text[] := '{}';
  elements text[]; strange text; outside text; twice text;
BEGIN
  problems := '{}';
  warnings := '{}';

  -- The columns.
  IF strategy_type IN (0, 1, 2) IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('strategy_type', 'must be 0 (now), 1 (fixed time) or 2 (loop)', coalesce(strategy_type::text, ''),
      'leave it out to push at once');
  END IF;
  IF today IS NULL THEN
    problems := problems || scheduler.as_problem('time_zone', 'must be an IANA time zone, spelt as the IANA database spells it', coalesce(time_zone, ''),
      'use an Area/Location name such as Asia/Shanghai, or UTC; abbreviations and offsets are not zones');
  END IF;
  IF short_month_policy IN ('skip', 'last_day') IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('short_month_policy', 'must be skip or last_day', coalesce(short_month_policy, ''),
      'skip leaves out a month without the day; last_day takes the month''s last day instead');
  END IF;
  IF dst_gap_policy IN ('shift', 'skip') IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('dst_gap_policy', 'must be shift or skip', coalesce(dst_gap_policy, ''),
      'shift moves a local time that a clock change skips forward by the gap; skip leaves that day out');
  END IF;
  IF window_good IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('catch_up_window', 'must be longer than zero and at most 36525 days',
      coalesce(trim_scale(extract(epoch FROM catch_up_window)), 0) || ' s', 'write an interval such as ''1 hour''');
  END IF;
  IF cardinality(times) > 0 THEN
    IF strategy_type IN (0, 1) THEN
      warnings := warnings || ROW('times', 'is ignored: it belongs to strategy type 2 (loop)')::scheduler.strategy_warning;
    END IF;
    IF cardinality(times) > 24 THEN
      problems := problems || scheduler.as_problem('times', 'must not hold more than 24 times', cardinality(times) || ' times',
        'write at most 24, or divide them among several campaigns');
    ELSE
      FOREACH clock IN ARRAY times LOOP
        IF clock ~ '^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$' IS NOT TRUE THEN
          strange := coalesce(strange, '"' || clock || '"', 'NULL');
        ELSIF clock = ANY (clocks) THEN
          twice := coalesce(twice, '"' || clock || '"');
        ELSE
          clocks := clocks || clock;
        END IF;
      END LOOP;
      IF strange IS NOT NULL THEN
        problems := problems || scheduler.as_problem('times', 'must hold times of day from 00:00:00 to 23:59:59', strange, 'write each time of day as "HH:mm:ss"');
      END IF;
      IF twice IS NOT NULL THEN
        problems := problems || scheduler.as_problem('times', 'must not hold a time twice', twice, 'keep one of them');
      END IF;
      strange := NULL;
      twice := NULL;
    END IF;
  END IF;

  -- The content as a whole.
  IF strategy_type = 0 THEN
    IF content NOT IN ('null', '{}', '""') THEN
      warnings := warnings || ROW('strategy_content', 'is ignored: strategy type 0 (now) has none')::scheduler.strategy_warning;
    END IF;
    RETURN;
  ELSIF strategy_type IN (1, 2) IS NOT TRUE THEN
    RETURN;
  END IF;
  type_name := CASE strategy_type WHEN 1 THEN '1 (fixed time)' ELSE '2 (loop)' END;
  IF content IS NULL OR content = 'null' THEN
    problems := problems || scheduler.as_problem('strategy_content', 'is required for strategy type ' || type_name, 'null',
      CASE strategy_type WHEN 1 THEN 'write {"fixedTime": <Unix milliseconds>}'
        ELSE 'write {"startTime": <Unix milliseconds>, "endTime": <Unix milliseconds>, "circleType": 1, "time": "HH:mm:ss"}' END);
    RETURN;
  END IF;
  body := CASE WHEN wrapped THEN content #>> '{}' ELSE content::text END;
  IF char_length(body) > 8192 THEN
    problems := problems || scheduler.as_problem('strategy_content', 'must not be longer than 8192 characters', body,
      CASE strategy_type WHEN 1 THEN 'write {"fixedTime": <Unix milliseconds>}'
        ELSE 'write {"startTime": <Unix milliseconds>, "endTime": <Unix milliseconds>, "circleType": 1, "time": "HH:mm:ss"}' END);
    RETURN;
  END IF;
  -- json, not jsonb: it keeps repeated keys and how values were written.
  IF wrapped THEN
    BEGIN
      doc := body;
      PERFORM json_strip_nulls(doc); -- reads every string, where json only looks for its end
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
      problems := problems || scheduler.as_problem('strategy_content', 'must be valid JSON with nothing after it', body, object_hint);
      RETURN;
    END;
  ELSE
    doc := body;
  END IF;
  IF json_typeof(doc) <> 'object' THEN
    problems := problems || scheduler.as_problem('strategy_content', 'must be a JSON object', body, object_hint);
    RETURN;
  END IF;
  IF wrapped OR content - keys <> '{}' THEN
    problems := problems || scheduler.strategy_keys(doc);
  END IF;

  -- The moments.
  FOREACH key IN ARRAY CASE strategy_type WHEN 1 THEN '{fixedTime}'::text[] ELSE '{startTime,endTime}'::text[] END LOOP
    v := (doc -> key)::text;
    mend := CASE key WHEN 'fixedTime' THEN 'write the moment of the push in Unix milliseconds'
      WHEN 'startTime' THEN 'write the first day as the Unix milliseconds of any moment in it'
      ELSE 'write the last day as the Unix milliseconds of any moment in it' END;
    IF v IS NULL THEN
      problems := problems || scheduler.as_problem(key, 'is required for strategy type ' || type_name, '', mend);
      CONTINUE;
    END IF;
    w := scheduler.strategy_whole(v);
    IF w.why IS NOT NULL OR w.n NOT BETWEEN 0 AND max_millis THEN
      problems := problems || scheduler.as_problem(key, coalesce(w.why, 'must be Unix milliseconds of the years 1970 to 9999'), v, mend);
      CONTINUE;
    END IF;
    at := to_timestamp(w.n / 1000);
    IF key = 'fixedTime' THEN
      IF window_good AND at < written_at - make_interval(secs => extract(epoch FROM catch_up_window)::double precision) THEN
        problems := problems || scheduler.as_problem(key, 'must not be further in the past than catch_up_window', v,
          CASE WHEN w.n >= 100000000 AND w.n < 100000000000 THEN 'it looks like seconds: write Unix milliseconds'
            ELSE 'it means ' || to_char(at AT TIME ZONE CASE WHEN today IS NULL THEN 'UTC' ELSE time_zone END, 'YYYY-MM-DD HH24:MI:SS')
              || ' in ' || CASE WHEN today IS NULL THEN 'UTC' ELSE time_zone END
              || ': write a moment to come, or a longer catch_up_window' END);
      END IF;
      CONTINUE;
    END IF;
    CONTINUE WHEN today IS NULL;
    IF key = 'startTime' THEN
      start_day := (at AT TIME ZONE time_zone)::date;
    ELSE
      end_day := (at AT TIME ZONE time_zone)::date;
    END IF;
    IF coalesce(end_day, start_day) < today THEN
      problems := problems || scheduler.as_problem(key, 'must not lie before today 00:00', v,
        CASE WHEN w.n >= 100000000 AND w.n < 100000000000 THEN 'it looks like seconds: write Unix milliseconds'
          ELSE format('it means %s and today is %s in %s', to_char(coalesce(end_day, start_day), 'YYYY-MM-DD'), to_char(today, 'YYYY-MM-DD'), time_zone) END);
    ELSIF end_day < start_day THEN
      problems := problems || scheduler.as_problem(key, 'must not lie before startTime', v,
        format('it means %s and startTime means %s in %s', to_char(end_day, 'YYYY-MM-DD'), to_char(start_day, 'YYYY-MM-DD'), time_zone));
    END IF;
    IF end_day > today + 180 THEN
      problems := problems || scheduler.as_problem(key, 'must lie at most 180 days after today', v,
        format('it means %s: write %s in %s or earlier', to_char(end_day, 'YYYY-MM-DD'), to_char(today + 180, 'YYYY-MM-DD'), time_zone));
    END IF;
  END LOOP;

  IF strategy_type = 1 THEN
    FOREACH key IN ARRAY keys[2:] LOOP
      IF doc -> key IS NOT NULL THEN
        warnings := warnings || ROW(key, 'is ignored: it belongs to strategy type 2 (loop)')::scheduler.strategy_warning;
      END IF;
    END LOOP;
  ELSE
    -- The circle.
    v := (doc -> 'circleType')::text;
    mend := 'write 1 for daily, 2 for weekly or 3 for monthly';
    IF v IS NULL THEN
      problems := problems || scheduler.as_problem('circleType', 'is required for strategy type 2 (loop)', '', mend);
    ELSE
      w := scheduler.strategy_whole(v);
      circle_type := w.n;
      IF w.why IS NOT NULL OR circle_type NOT IN (1, 2, 3) THEN
        problems := problems || scheduler.as_problem('circleType', coalesce(w.why, 'must be 1 (daily), 2 (weekly) or 3 (monthly)'), v, mend);
      END IF;
    END IF;

    v := (doc -> 'circleValue')::text;
    IF circle_type IN (2, 3) THEN
      highest := CASE circle_type WHEN 2 THEN 7 ELSE 31 END;
      mend := CASE circle_type WHEN 2 THEN 'write the days of the week, for example [1,7] for Monday and Sunday'
        ELSE 'write the days of the month, for example [1,15]' END;
      IF v IS NULL THEN
        problems := problems || scheduler.as_problem('circleValue', 'is required for a weekly or monthly loop', '', mend);
      ELSIF v NOT LIKE '[%' THEN
        problems := problems || scheduler.as_problem('circleValue', 'must be an array of whole numbers', v, mend);
      ELSIF json_array_length(v::json) = 0 THEN
        problems := problems || scheduler.as_problem('circleValue', 'must not be empty', v, mend);
      ELSE
        IF v ~ '^\[[0-9, ]+\]$' THEN -- spares the good row a query
          elements := string_to_array(translate(v, '[] ', ''), ',');
        ELSE
          elements := ARRAY(SELECT e.value::text FROM json_array_elements(v::json) WITH ORDINALITY AS e (value, n) ORDER BY e.n);
        END IF;
        FOREACH v IN ARRAY elements LOOP
          w := scheduler.strategy_whole(v);
          IF w.why IS NOT NULL THEN
            strange := coalesce(strange, v);
          ELSIF w.n NOT BETWEEN 1 AND highest THEN
            outside := coalesce(outside, v);
          ELSIF (days >> w.n::integer) & 1 = 1 THEN
            twice := coalesce(twice, v);
          ELSE
            days := days | (1::bigint << w.n::integer);
          END IF;
        END LOOP;
        IF strange IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', 'must hold whole numbers only', strange, mend);
        END IF;
        IF outside IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', CASE circle_type WHEN 2 THEN 'must hold days from 1 (Monday) to 7 (Sunday)'
            ELSE 'must hold days from 1 to 31' END, outside, mend);
        END IF;
        IF twice IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', 'must not hold a day twice', twice, mend);
        END IF;
      END IF;
    END IF;

    v := (doc -> 'time')::text;
    mend := 'write the time of day as "HH:mm:ss"';
    IF cardinality(times) > 0 THEN
      IF v IS NOT NULL THEN
        warnings := warnings || ROW('time', 'is ignored: the column times stands in its place')::scheduler.strategy_warning;
      END IF;
    ELSIF v IS NULL THEN
      problems := problems || scheduler.as_problem('time', 'is required for strategy type 2 (loop)', '', mend);
    ELSIF v LIKE '"%' AND doc ->> 'time' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$' THEN
      clocks := ARRAY[doc ->> 'time'];
    ELSE
      problems := problems || scheduler.as_problem('time', 'must be a time of day from 00:00:00 to 23:59:59', v, mend);
    END IF;

    IF doc -> 'fixedTime' IS NOT NULL THEN
      warnings := warnings || ROW('fixedTime', 'is ignored: it belongs to strategy type 1 (fixed time)')::scheduler.strategy_warning;
    END IF;
    IF circle_type = 1 AND doc -> 'circleValue' IS NOT NULL THEN
      warnings := warnings || ROW('circleValue', 'is ignored: a daily loop pushes on every day')::scheduler.strategy_warning;
    END IF;
  END IF;

  -- What only a strategy without other faults can be asked.
  IF cardinality(problems) = 0 AND wrapped THEN
    BEGIN
      PERFORM body::jsonb;
    EXCEPTION WHEN numeric_value_out_of_range THEN
      problems := problems || scheduler.as_problem('strategy_content', 'must not hold a number beyond what PostgreSQL stores', body, 'remove it');
    END;
  END IF;
  IF cardinality(problems) = 0 AND strategy_type = 2 THEN
    FOREACH clock IN ARRAY clocks LOOP
      IF scheduler.strategy_occurs(time_zone, start_day, end_day, circle_type, days, clock::time, short_month_policy, dst_gap_policy, written_at) THEN
        RETURN;
      END IF;
    END LOOP;
    problems := problems || scheduler.as_problem('strategy_content', 'must yield at least one occurrence from now on', body,
      format('widen startTime to endTime, or change circleValue, %s, short_month_policy or dst_gap_policy', CASE WHEN cardinality(times) > 0 THEN 'times' ELSE 'time' END));
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.strategy_verdict(smallint, jsonb, text, text, text, interval, timestamptz, text[]) IS
  'Judges a strategy once: every problem and every warning, in a fixed order. written_at decides which day is today.';

CREATE FUNCTION scheduler.strategy_problems(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz,
  times text[] DEFAULT NULL)
RETURNS TABLE (field text, message text, value text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT p.field, p.message, p.value, p.hint
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7, $8) AS v, unnest(v.problems) AS p
$$;
COMMENT ON FUNCTION scheduler.strategy_problems(smallint, jsonb, text, text, text, interval, timestamptz, text[]) IS
  'Every reason to refuse a strategy, one row each; none: it is good. Try a strategy out with it before inserting a campaign.';

CREATE FUNCTION scheduler.strategy_warnings(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz,
  times text[] DEFAULT NULL)
RETURNS TABLE (field text, message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT w.field, w.message
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7, $8) AS v, unnest(v.warnings) AS w
$$;
COMMENT ON FUNCTION scheduler.strategy_warnings(smallint, jsonb, text, text, text, interval, timestamptz, text[]) IS
  'What the author of a strategy should know of, one row each.';

CREATE OR REPLACE FUNCTION scheduler.strategy_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (a.strategy_type, a.strategy_content, a.time_zone, a.short_month_policy, a.dst_gap_policy, a.times)
    IS DISTINCT FROM (b.strategy_type, b.strategy_content, b.time_zone, b.short_month_policy, b.dst_gap_policy, b.times)
$$;

DROP FUNCTION scheduler.delete_calendar_days(text, date[]);
DROP FUNCTION scheduler.delete_calendar(text);
DROP TABLE scheduler.calendar_days;
DROP TABLE scheduler.calendars;
DROP FUNCTION scheduler.calendars_followed();
DROP FUNCTION scheduler.calendar_days_followed();
DROP FUNCTION scheduler.calendar_days_judge();
DROP FUNCTION scheduler.calendars_judge();
DROP FUNCTION scheduler.refuse_named_calendar(text, text);
DROP FUNCTION scheduler.refuse_calendar(scheduler.strategy_problem[], text);
DROP FUNCTION scheduler.campaign_closed(scheduler.campaigns, timestamptz);
DROP FUNCTION scheduler.closed_from(timestamptz[], timestamptz[], timestamptz);
DROP FUNCTION scheduler.open_occurrences(smallint, jsonb, text, text, text, text[], timestamptz, text, timestamptz[], timestamptz);
DROP FUNCTION scheduler.closed_between(text, date, date);

ALTER TABLE scheduler.campaigns DROP COLUMN calendar, DROP COLUMN calendar_policy, DROP COLUMN calendar_closed, DROP COLUMN calendar_since;

CREATE OR REPLACE FUNCTION scheduler.grant_privileges() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  role name; object record; owner name;
  -- What a campaign's author writes, as far as the columns are there.
  authors_columns CONSTANT name[] := '{name,app_id,workspace_id,channel,strategy_type,strategy_content,request,audience_view,time_zone,misfire_policy,
    catch_up_window,short_month_policy,dst_gap_policy,resend_unknown,status,calendar,calendar_policy,times,quiet_policy,spread}';
  -- What somebody did, and what nobody does by hand: functions write it.
  functions_tables CONSTANT name[] := '{channels,apps,app_quotas,app_grants,campaigns,campaign_targets,campaign_history,rulings,triggered_tasks,hold,
    time_zones,schema_version,schema_migrations}';
BEGIN
  SELECT pg_get_userbyid(n.nspowner) INTO owner FROM pg_namespace n WHERE n.nspname = 'scheduler';
  PERFORM scheduler.adopt(owner);
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA scheduler FROM PUBLIC;

  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_daemon', 'scheduler_author', 'scheduler_reader'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL OR role = owner;
    EXECUTE format('GRANT USAGE ON SCHEMA scheduler TO %I', role);
    -- A trigger function in a stranger's own trigger, on rows of his making, would
    -- do the owner's work for him: nobody but the owner may use one. A function
    -- with its caller's rights can do nothing that the caller cannot. Of those
    -- with the owner's rights, deeds are people's and never the daemon's.
    FOR object IN SELECT p.oid::regprocedure AS name, p.proname, p.prosecdef AS owners_rights FROM pg_proc p
       WHERE p.pronamespace = 'scheduler'::regnamespace AND p.prorettype <> 'trigger'::regtype AND pg_has_role(p.proowner, 'USAGE') LOOP
      IF (CASE WHEN NOT object.owners_rights THEN true
           WHEN object.proname = ANY ('{delete_campaign,delete_targets,skip_occurrence,unskip_occurrence,revoke_task,note_campaign,campaign_written_now}') THEN role IN ('scheduler_admin', 'scheduler_author')
           WHEN object.proname ~ '^(trigger|resolve|hold|release|skip|unskip|revoke|grant|delete|set)_' THEN role = 'scheduler_admin'
           ELSE role IN ('scheduler_admin', 'scheduler_daemon') END) THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', object.name, role);
      ELSE
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %I', object.name, role);
      END IF;
    END LOOP;
    -- What only allows a LOCK, or a foreign key or a trigger of one's own, goes;
    -- columns follow below. With UPDATE on a table go those on its columns.
    IF role <> 'scheduler_daemon' THEN
      FOR object IN SELECT c.oid::regclass AS name FROM pg_class c
         WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_has_role(c.relowner, 'USAGE') LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I', object.name, role);
      END LOOP;
    END IF;
    IF role <> 'scheduler_author' THEN
      EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA scheduler TO %I', role);
    END IF;
  END LOOP;

  IF to_regrole('scheduler_admin') IS NOT NULL AND owner <> 'scheduler_admin' THEN
    REVOKE INSERT ON scheduler.app_grants FROM scheduler_admin;
    GRANT INSERT ON scheduler.apps, scheduler.app_quotas, scheduler.campaigns, scheduler.campaign_targets TO scheduler_admin;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.apps TO scheduler_admin', scheduler.columns_but('scheduler.apps', '{app_no,created_at,updated_at}'));
    GRANT UPDATE (weekly_quota) ON scheduler.app_quotas TO scheduler_admin;
    GRANT USAGE, CREATE ON SCHEMA audience TO scheduler_admin;
  END IF;

  FOREACH role IN ARRAY ARRAY['scheduler_admin', 'scheduler_author'] LOOP
    CONTINUE WHEN to_regrole(role::text) IS NULL OR role = owner;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.campaigns TO %I', scheduler.columns_of('scheduler.campaigns', authors_columns), role);
    EXECUTE format('GRANT INSERT, UPDATE (%s) ON scheduler.campaign_targets TO %I', scheduler.columns_but('scheduler.campaign_targets', '{}'), role);
  END LOOP;

  IF to_regrole('scheduler_daemon') IS NOT NULL AND owner <> 'scheduler_daemon' THEN
    GRANT INSERT, UPDATE ON scheduler.channels, scheduler.apps, scheduler.app_quotas TO scheduler_daemon;
    GRANT UPDATE (status, status_reason) ON scheduler.campaigns TO scheduler_daemon;
    -- The guard holds; operators release. hold_signed writes who it was.
    REVOKE INSERT, UPDATE, DELETE ON scheduler.hold FROM scheduler_daemon;
    EXECUTE format('GRANT UPDATE (%s) ON scheduler.hold TO scheduler_daemon',
      scheduler.columns_but('scheduler.hold', '{only_row,skip_before,released_at,held_by,held_via,released_by,released_via}'));
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA scheduler TO scheduler_daemon;
    GRANT USAGE ON SCHEMA audience TO scheduler_daemon;
    -- The engine's own tables, those of later migrations too. A table that says
    -- who did something is an audit: functions write it.
    FOR object IN SELECT c.oid::regclass AS name,
           c.relname = ANY (functions_tables) OR EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname ~ '_by$' AND NOT t.attisdropped) AS audit
         FROM pg_class c
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE') LOOP
      IF NOT object.audit THEN
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %s TO scheduler_daemon', object.name);
      END IF;
    END LOOP;
    FOR object IN SELECT c.oid::regclass AS name FROM pg_class c
       WHERE c.relnamespace = 'audience'::regnamespace AND c.relkind IN ('v', 'm') AND pg_has_role(c.relowner, 'USAGE') LOOP
      EXECUTE format('GRANT SELECT ON %s TO scheduler_daemon', object.name);
    END LOOP;
    FOR object IN SELECT c.oid, c.oid::regclass AS name FROM pg_class c
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relrowsecurity
         AND NOT EXISTS (SELECT FROM pg_policy y WHERE y.polrelid = c.oid AND y.polname = 'daemon') LOOP
      EXECUTE format('CREATE POLICY daemon ON %s TO scheduler_daemon USING (true)', object.name);
    END LOOP;
  END IF;

  IF to_regrole('scheduler_author') IS NOT NULL AND owner <> 'scheduler_author' THEN
    GRANT SELECT ON scheduler.apps, scheduler.channels, scheduler.time_zones, scheduler.app_grants, scheduler.campaigns, scheduler.campaign_targets,
      scheduler.campaign_history, scheduler.tasks, scheduler.deliveries, scheduler.upcoming, scheduler.missed, scheduler.unresolved,
      scheduler.app_usage, scheduler.quota_usage TO scheduler_author;
    FOR object IN SELECT c.oid::regclass AS name FROM pg_class c -- of later migrations
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relname = ANY ('{audit,state,quota_calls,skipped_occurrences,quiet_exemptions,revocations,revocation_calls}') LOOP
      EXECUTE format('GRANT SELECT ON %s TO scheduler_author', object.name);
    END LOOP;
    -- id for DEFAULT alone: 000015 refuses a number of the author's own.
    EXECUTE format('GRANT INSERT (%s) ON scheduler.campaigns TO scheduler_author', scheduler.columns_of('scheduler.campaigns', authors_columns || '{id,client_token,client_digest}'::name[]));
  END IF;

  -- Fronts use nonces before they take on a role, which has nothing to do with them.
  IF to_regrole('scheduler_front') IS NOT NULL THEN
    GRANT USAGE ON SCHEMA scheduler TO scheduler_front;
    FOR object IN SELECT p.oid::regprocedure AS name FROM pg_proc p
       WHERE p.pronamespace = 'scheduler'::regnamespace AND p.proname = ANY ('{use_nonce,prune_nonces}') LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO scheduler_front', object.name);
    END LOOP;
  END IF;
END $$;

SELECT scheduler.set_schema_version(30);

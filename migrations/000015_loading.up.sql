-- What authors write by SQL: loaded fast, bounded, and told apart from what is
-- other people's before anything of theirs is asked.
--
-- A good row goes one short way: campaigns_accept, with one look-up and one
-- expression. Whatever that does not recognise at once goes on to
-- campaigns_judge, which lists every problem. What is the same for all rows of a
-- statement is asked once, after it, by campaigns_inserted.

------------------------------------------------------------------------- columns

ALTER TABLE scheduler.campaigns ADD COLUMN client_token text;
COMMENT ON COLUMN scheduler.campaigns.client_token IS
  'A token of the author''s own, unique per app: an INSERT with ON CONFLICT DO NOTHING can be repeated after a cut connection. NULL: none.';
CREATE UNIQUE INDEX campaigns_client_token ON scheduler.campaigns (app_id, workspace_id, client_token);

ALTER TABLE scheduler.apps ADD COLUMN zone_known boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN scheduler.apps.zone_known IS 'Whether time_zone is in scheduler.time_zones; kept by a trigger. Spares each new campaign the question.';

CREATE FUNCTION scheduler.apps_zone() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  NEW.zone_known := EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = NEW.time_zone);
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.apps_zone() IS 'Keeps apps.zone_known.';

CREATE TRIGGER apps_zone BEFORE INSERT OR UPDATE ON scheduler.apps FOR EACH ROW EXECUTE FUNCTION scheduler.apps_zone();
UPDATE scheduler.apps SET zone_known = true WHERE EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = time_zone);

---------------------------------------------------------------------- references

-- A foreign key asks once a row; these ask once a statement, and answer alike.
-- The rows referred to are locked against deletion, as a foreign key locks them.

ALTER TABLE scheduler.campaigns DROP CONSTRAINT campaigns_channel_fkey, DROP CONSTRAINT campaigns_app_id_workspace_id_fkey;
ALTER TABLE scheduler.campaign_targets DROP CONSTRAINT campaign_targets_campaign_id_fkey;

CREATE FUNCTION scheduler.refuse_unreferenced(message text, detail text, in_table text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = message, DETAIL = detail, SCHEMA = 'scheduler', TABLE = in_table;
END $$;
COMMENT ON FUNCTION scheduler.refuse_unreferenced(text, text, text) IS 'Raises 23503, as a foreign key does.';

CREATE FUNCTION scheduler.apps_referenced() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM scheduler.campaigns c WHERE c.app_no = OLD.app_no) THEN
    PERFORM scheduler.refuse_unreferenced(format('app %L with workspace_id %L still has campaigns', OLD.app_id, OLD.workspace_id),
      'a deleted app would leave them without one', 'apps');
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_referenced() IS 'Refuses to delete an app that has campaigns.';

CREATE TRIGGER apps_referenced AFTER DELETE ON scheduler.apps FOR EACH ROW EXECUTE FUNCTION scheduler.apps_referenced();

CREATE FUNCTION scheduler.channels_referenced() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM scheduler.campaigns c WHERE c.channel = OLD.channel) THEN
    PERFORM scheduler.refuse_unreferenced(format('channel %L still has campaigns', OLD.channel), 'they name it', 'channels');
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.channels_referenced() IS 'Refuses to delete or rename a channel that campaigns name.';

CREATE TRIGGER channels_referenced AFTER DELETE ON scheduler.channels FOR EACH ROW EXECUTE FUNCTION scheduler.channels_referenced();
CREATE TRIGGER channels_renamed AFTER UPDATE ON scheduler.channels
  FOR EACH ROW WHEN (NEW.channel <> OLD.channel) EXECUTE FUNCTION scheduler.channels_referenced();

-- Before campaigns_deleted, by the order of their names.
CREATE FUNCTION scheduler.campaigns_delete_targets() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.campaign_targets t WHERE t.campaign_id = OLD.id;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_delete_targets() IS 'Deletes the targets of a deleted campaign.';

CREATE TRIGGER campaigns_delete_targets AFTER DELETE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_delete_targets();

------------------------------------------------------------------- refusing, short

-- At most 20 problems are spelt out.
CREATE OR REPLACE FUNCTION scheduler.refuse(problems scheduler.strategy_problem[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  message text; detail text; hint text; more text := '';
BEGIN
  IF cardinality(problems) > 20 THEN
    more := format('… and %s more', ltrim(to_char(cardinality(problems) - 20, '999,999,999,999')));
  END IF;
  SELECT string_agg(p.field || ': ' || p.message, '; ' ORDER BY p.n), string_agg(p.field || ' = ' || coalesce(p.value, 'NULL'), E'\n' ORDER BY p.n),
         string_agg(p.field || ': ' || p.hint, E'\n' ORDER BY p.n) FILTER (WHERE p.hint <> '')
    INTO message, detail, hint
    FROM unnest(problems[:20]) WITH ORDINALITY AS p (field, message, value, hint, n);
  RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = concat_ws('; ', message, nullif(more, '')), DETAIL = concat_ws(E'\n', detail, nullif(more, '')),
    HINT = coalesce(hint, ''), SCHEMA = 'scheduler', TABLE = 'campaigns';
END $$;
COMMENT ON FUNCTION scheduler.refuse(scheduler.strategy_problem[]) IS 'Raises 23514 that lists the first 20 problems: fields, rules, values and fixes.';

-------------------------------------------------------------------------- bounds

-- The length as text is asked first, so that the rest looks at little.
CREATE FUNCTION scheduler.json_depth_fits(doc jsonb, most integer) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT NOT jsonb_path_exists(doc, format('$.**{%s}', most + 1)::jsonpath) $$;
COMMENT ON FUNCTION scheduler.json_depth_fits(jsonb, integer) IS 'Whether a JSON value is nested at most so deep: 1 for an object of plain values.';

CREATE FUNCTION scheduler.json_members(doc jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT count(*) - 1 FROM jsonb_path_query(doc, 'strict $.**') $$;
COMMENT ON FUNCTION scheduler.json_members(jsonb) IS 'How many keys and list entries a JSON value has on all its levels.';

CREATE FUNCTION scheduler.json_problem(field text, doc jsonb, most_bytes integer, most_members integer, most_depth integer, hint text)
  RETURNS scheduler.strategy_problem
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  bytes integer := octet_length(doc::text); members bigint;
BEGIN
  IF bytes > most_bytes THEN
    RETURN scheduler.as_problem(field, format('must not be longer than %s bytes', most_bytes), bytes || ' bytes', hint);
  ELSIF NOT scheduler.json_depth_fits(doc, most_depth) THEN
    RETURN scheduler.as_problem(field, format('must not be nested deeper than %s levels', most_depth), doc::text, 'write fewer levels');
  END IF;
  members := scheduler.json_members(doc);
  IF members > most_members THEN
    RETURN scheduler.as_problem(field, format('must not have more than %s keys and list entries', most_members), members || ' keys and list entries', hint);
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.json_problem(text, jsonb, integer, integer, integer, text) IS 'What is wrong with the size of a JSON value; NULL: nothing.';

-- A daemon holds campaigns in memory and judges their requests, so each column
-- has a bound.
CREATE FUNCTION scheduler.size_problems(c scheduler.campaigns) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}'; problem scheduler.strategy_problem;
BEGIN
  IF octet_length(c.name) > 512 THEN
    problems := problems || scheduler.as_problem('name', 'must not be longer than 512 bytes', octet_length(c.name) || ' bytes', 'give the campaign a shorter name');
  END IF;
  problem := scheduler.json_problem('request', c.request, 65536, 2000, 32,
    'targets belong into campaign_targets, one row each, or into a view: audience_view');
  IF problem IS NOT NULL THEN
    problems := problems || problem;
  END IF;
  IF c.strategy_type = 0 AND octet_length(c.strategy_content::text) > 32768 THEN -- ignored, and yet stored
    problems := problems || scheduler.as_problem('strategy_content', 'must not be longer than 32768 bytes', octet_length(c.strategy_content::text) || ' bytes',
      'leave it out: strategy type 0 (now) has none');
  END IF;
  IF c.catch_up_window > interval '0' AND c.catch_up_window < interval '1 second' THEN
    problems := problems || scheduler.as_problem('catch_up_window', 'must be at least 1 second', c.catch_up_window::text,
      'no push begins sooner than that for certain: write an interval such as ''1 hour''');
  END IF;
  IF c.client_token = '' OR octet_length(c.client_token) > 128 THEN
    problems := problems || scheduler.as_problem('client_token', 'must have from 1 to 128 bytes', octet_length(c.client_token) || ' bytes',
      'use a UUID, or leave it out');
  END IF;
  RETURN problems;
END $$;
COMMENT ON FUNCTION scheduler.size_problems(scheduler.campaigns) IS 'Which columns of a campaign hold more than they may.';

CREATE FUNCTION scheduler.refuse_target(target text, msg_key text, template_key_value jsonb, extended_params jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}'; problem scheduler.strategy_problem; message text; detail text; hint text;
BEGIN
  IF octet_length(target) > 1024 THEN
    problems := problems || scheduler.as_problem('target', 'must not be longer than 1024 bytes', octet_length(target) || ' bytes',
      'write the id of one device or user, as the push API knows it');
  END IF;
  IF octet_length(msg_key) > 256 THEN
    problems := problems || scheduler.as_problem('msg_key', 'must not be longer than 256 bytes', octet_length(msg_key) || ' bytes',
      'leave it out, and the daemon derives one');
  END IF;
  problem := scheduler.json_problem('template_key_value', template_key_value, 4096, 4096, 8, 'write the values of this target''s placeholders only');
  IF problem IS NOT NULL THEN
    problems := problems || problem;
  END IF;
  problem := scheduler.json_problem('extended_params', extended_params, 4096, 4096, 8, 'write this target''s own parameters only');
  IF problem IS NOT NULL THEN
    problems := problems || problem;
  END IF;
  IF cardinality(problems) = 0 THEN
    RETURN true;
  END IF;
  SELECT string_agg(p.field || ': ' || p.message, '; ' ORDER BY p.n), string_agg(p.field || ' = ' || p.value, E'\n' ORDER BY p.n),
         string_agg(p.field || ': ' || p.hint, E'\n' ORDER BY p.n)
    INTO message, detail, hint FROM unnest(problems) WITH ORDINALITY AS p (field, message, value, hint, n);
  RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = message, DETAIL = detail, HINT = hint,
    SCHEMA = 'scheduler', TABLE = 'campaign_targets', COLUMN = problems[1].field;
END $$;
COMMENT ON FUNCTION scheduler.refuse_target(text, text, jsonb, jsonb) IS
  'Raises 23514 that lists every column of a target that holds more than it may; true: none does.';

-- Existing rows stay as they are. The expression is for the good row; the function
-- says what is wrong with a bad one.
ALTER TABLE scheduler.campaign_targets ADD CONSTRAINT campaign_targets_bounds CHECK (
  octet_length(target) <= 1024 AND (msg_key IS NULL OR octet_length(msg_key) <= 256)
  AND (template_key_value IS NULL OR octet_length(template_key_value::text) <= 4096 AND NOT template_key_value @? '$.**{9}')
  AND (extended_params IS NULL OR octet_length(extended_params::text) <= 4096 AND NOT extended_params @? '$.**{9}')
  OR scheduler.refuse_target(target, msg_key, template_key_value, extended_params)) NOT VALID;

---------------------------------------------------------------------- a good row

-- Whether a strategy is good, and to be warned of nothing, by rules that cost
-- little. What it does not recognise may be good all the same: strategy_verdict
-- decides. The margins of hours and days spare a look at the calendar: no day of
-- any zone, and no clock change, is longer. Regular expressions, and functions of
-- long texts, would cost more than all the rest.
CREATE FUNCTION scheduler.strategy_is_plain(strategy_type smallint, content jsonb, time_zone text, written_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
  WHEN strategy_type = 0 THEN content IS NULL
  WHEN jsonb_typeof(content) IS DISTINCT FROM 'object' THEN false
  WHEN strategy_type = 1 THEN CASE
    WHEN content - 'fixedTime' = '{}' AND jsonb_typeof(content -> 'fixedTime') = 'number' AND content ->> 'fixedTime' NOT LIKE '%.%'
    THEN (content -> 'fixedTime')::numeric BETWEEN (date_part('epoch', written_at) * 1000)::bigint AND 253402300799999
    ELSE false END
  WHEN strategy_type = 2 THEN CASE
    WHEN content - '{startTime,endTime,circleType,circleValue,time}'::text[] = '{}'
     AND jsonb_typeof(content -> 'startTime') = 'number' AND content ->> 'startTime' NOT LIKE '%.%'
     AND jsonb_typeof(content -> 'endTime') = 'number' AND content ->> 'endTime' NOT LIKE '%.%'
     -- From 00:00:00 to 23:59:59.
     AND jsonb_typeof(content -> 'time') = 'string' AND content ->> 'time' LIKE '__:__:__' AND translate(content ->> 'time', '0123456789', '') = '::'
     AND content ->> 'time' COLLATE "C" < '24' AND substr(content ->> 'time', 4, 1) COLLATE "C" < '6' AND substr(content ->> 'time', 7, 1) COLLATE "C" < '6'
     AND CASE content -> 'circleType' WHEN '1' THEN content -> 'circleValue' IS NULL WHEN '2' THEN content -> 'circleValue' <@ '[1, 2, 3, 4, 5, 6, 7]'
           WHEN '3' THEN content -> 'circleValue' <@ '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31]'
             AND NOT content -> 'circleValue' <@ '[29, 30, 31]' ELSE false END
    THEN CASE WHEN content -> 'circleValue' IS NULL THEN true WHEN jsonb_typeof(content -> 'circleValue') <> 'array' THEN false
           WHEN jsonb_array_length(content -> 'circleValue') = 1 THEN octet_length(content ->> 'circleValue') <= 200
           ELSE content ->> 'circleValue' ~ '^\[[0-9, ]{1,200}\]$' AND content ->> 'circleValue' !~ '\y([0-9]+)\y.*\y\1\y' END
      -- It begins today or later, ends within 180 days, and lasts long enough from
      -- tomorrow on to have an occurrence.
      AND (content -> 'startTime')::numeric BETWEEN greatest(0, (date_part('epoch', written_at) * 1000)::bigint - 90000000) AND 253402300799999
      AND (content -> 'endTime')::numeric <= (date_part('epoch', written_at) * 1000)::bigint + 179 * 86400000::bigint
      AND (content -> 'endTime')::numeric - greatest((content -> 'startTime')::numeric, (date_part('epoch', written_at) * 1000)::bigint)
        > CASE content -> 'circleType' WHEN '1' THEN 3 WHEN '2' THEN 9 ELSE 33 END * 86400000::bigint
      AND CASE WHEN (content -> 'startTime')::numeric < (date_part('epoch', written_at) * 1000)::bigint + 14400000
            THEN (to_timestamp((content -> 'startTime')::bigint / 1000) AT TIME ZONE time_zone)::date >= (written_at AT TIME ZONE time_zone)::date
            ELSE true END
    ELSE false END
  ELSE false END;
COMMENT ON FUNCTION scheduler.strategy_is_plain(smallint, jsonb, text, timestamptz) IS
  'Whether a strategy with dst_gap_policy shift is certainly good and without a warning; otherwise strategy_verdict says. The zone must be known.';

-- Reads the app with its owner's rights: whether the author may use it is asked
-- by the policy of the table, once a statement. A row that is not plainly good is
-- left without app_no; campaigns_judge takes it from there. revision 0 tells it
-- that the id is not the sequence's.
CREATE FUNCTION scheduler.campaigns_accept() RETURNS trigger
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
     AND NEW.status IN ('active', 'paused') AND NEW.resend_unknown IS NOT NULL AND NEW.audience_view IS NULL
     AND (NEW.client_token IS NULL OR octet_length(NEW.client_token) BETWEEN 1 AND 128)
     AND jsonb_typeof(NEW.request) = 'object' AND octet_length(NEW.request::text) <= 4000 AND NOT NEW.request @? '$.**{33}'
     AND scheduler.strategy_is_plain(NEW.strategy_type, content, zone, at)
  THEN
    NEW.app_no := app;
    NEW.time_zone := zone;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_accept() IS 'Takes a campaign that is plainly good, writes what is the scheduler''s into it, and leaves all others to campaigns_judge.';

CREATE OR REPLACE FUNCTION scheduler.day_in_zone(at timestamptz, zone text) RETURNS date
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF zone IS NULL OR zone COLLATE "C" !~ '^[A-Z]' OR zone IN ('CET', 'EET', 'EST', 'HST', 'MET', 'MST', 'WET', 'Local') THEN
    RETURN NULL;
  END IF;
  IF NOT EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = zone)
     AND NOT EXISTS (SELECT FROM pg_timezone_names z WHERE z.name = zone) THEN
    RETURN NULL;
  END IF;
  RETURN (at AT TIME ZONE zone)::date;
EXCEPTION WHEN invalid_parameter_value OR undefined_file THEN
  RETURN NULL; -- the server has lost the zone since the migration, or cannot list its zones
END $$;

------------------------------------------------------------------------ a bad row

-- Which app there is not, and which is somebody else's, get one answer.
CREATE FUNCTION scheduler.app_problem(app_id text, workspace_id text) RETURNS scheduler.strategy_problem
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.as_problem('app_id', 'must be an app in scheduler.apps, together with workspace_id',
    format('%s, workspace_id %L', coalesce(quote_literal(scheduler.strategy_clip(app_id)), 'NULL'), scheduler.strategy_clip(workspace_id)),
    format('add the app to the daemon''s configuration, or to scheduler.apps; an author has to be granted it too, by an admin: SELECT scheduler.grant_app(%L, %L, %L);',
      scheduler.strategy_clip(app_id), scheduler.strategy_clip(workspace_id), current_user))
$$;
COMMENT ON FUNCTION scheduler.app_problem(text, text) IS 'The problem of a campaign whose app there is not, or is not its author''s.';

CREATE FUNCTION scheduler.channel_problem(channel text) RETURNS scheduler.strategy_problem
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.as_problem('channel', 'must be a known channel', quote_nullable(scheduler.strategy_clip(channel)),
    'use one of ' || (SELECT string_agg(k.channel, ', ' ORDER BY k.channel) FROM scheduler.channels k))
$$;
COMMENT ON FUNCTION scheduler.channel_problem(text) IS 'The problem of a campaign whose channel there is not.';

CREATE FUNCTION scheduler.refuse_app(app_id text, workspace_id text, channel text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse(ARRAY[scheduler.app_problem(app_id, workspace_id)]
    || CASE WHEN NOT EXISTS (SELECT FROM scheduler.channels k WHERE k.channel = refuse_app.channel) THEN ARRAY[scheduler.channel_problem(channel)] END);
  RETURN false;
END $$;
COMMENT ON FUNCTION scheduler.refuse_app(text, text, text) IS 'Raises 23514, as for an app that there is not. For the policy of campaigns.';

-- Those who may write to every app may bring ids along, as from another
-- installation. The record of an id stays when its campaign is deleted, and its
-- occurrences would count as decided.
CREATE FUNCTION scheduler.id_problems(c scheduler.campaigns) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF c.revision <> 0 THEN
    RETURN '{}';
  ELSIF scheduler.writable_apps() IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'campaigns', COLUMN = 'id',
      MESSAGE = 'id: is given by the database', HINT = 'leave id out, or write DEFAULT; for an INSERT that can be repeated there is client_token';
  ELSIF c.id < 1 THEN
    RETURN ARRAY[scheduler.as_problem('id', 'must be 1 or more', c.id::text, 'leave id out: the database gives one')];
  ELSIF EXISTS (SELECT FROM scheduler.campaign_history h WHERE h.campaign_id = c.id)
     OR EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = c.id)
     OR EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = c.id) THEN
    RETURN ARRAY[scheduler.as_problem('id', 'must not be used again: it is that of a campaign with a record', c.id::text,
      'leave id out: the campaign comes back under a new one, and what the old one had decided stays decided')];
  END IF;
  RETURN '{}';
END $$;
COMMENT ON FUNCTION scheduler.id_problems(scheduler.campaigns) IS 'What is wrong with an id that the author has chosen.';

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

CREATE OR REPLACE FUNCTION scheduler.change_problems(a scheduler.campaigns, b scheduler.campaigns) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}'; changed boolean := scheduler.content_changed(a, b);
  was text := format('%L, was %s', b.status, a.status);
BEGIN
  IF (a.id, a.app_id, a.workspace_id) IS DISTINCT FROM (b.id, b.app_id, b.workspace_id) THEN
    problems := problems || scheduler.as_problem('app_id', 'id, app_id and workspace_id of a campaign cannot change', quote_nullable(b.app_id),
      'cancel this campaign and insert another');
  END IF;
  IF a.client_token IS DISTINCT FROM b.client_token THEN
    problems := problems || scheduler.as_problem('client_token', 'cannot change', quote_nullable(b.client_token), 'it names the INSERT that wrote the campaign');
  END IF;
  IF a.status = 'cancelled' AND (b.status <> 'cancelled' OR changed) THEN
    problems := problems || scheduler.as_problem('status', 'a cancelled campaign stays cancelled and as it is', was, 'insert another campaign');
  ELSIF b.status <> a.status AND b.status NOT IN ('active', 'paused', 'cancelled') THEN
    problems := problems || scheduler.as_problem('status', 'must be active, paused or cancelled', was, 'finished and rejected are set by the daemon');
  ELSIF b.status <> a.status AND b.status <> 'cancelled' AND a.status IN ('finished', 'rejected') AND NOT changed THEN
    problems := problems || scheduler.as_problem('status', format('a %s campaign becomes active by a change of its content', a.status), was,
      CASE a.status WHEN 'finished' THEN 'give it a strategy with coming occurrences' ELSE 'mend what status_reason names' END);
  END IF;
  RETURN problems;
END $$;

-- With the author's own rights: an app that is not theirs to use is none.
CREATE OR REPLACE FUNCTION scheduler.campaigns_judge() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  app scheduler.apps; problems scheduler.strategy_problem[]; verdict record; warning scheduler.strategy_warning;
  new_strategy boolean; at timestamptz := clock_timestamp(); zone text := NEW.time_zone;
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
  SELECT * INTO app FROM scheduler.apps a WHERE a.app_id = NEW.app_id AND a.workspace_id = NEW.workspace_id;
  NEW.time_zone := coalesce(NEW.time_zone, app.time_zone, 'Asia/Shanghai');

  problems := scheduler.campaign_problems(NEW, app);
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
      CASE WHEN app.app_no IS NULL THEN zone ELSE NEW.time_zone END, NEW.short_month_policy, NEW.dst_gap_policy, NEW.catch_up_window, NEW.written_at);
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

CREATE OR REPLACE FUNCTION scheduler.strategy_keys(doc json) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  keys CONSTANT text[] := '{fixedTime,startTime,endTime,circleType,circleValue,time}';
  problems scheduler.strategy_problem[] := '{}';
  seen text[] := '{}'; repeated text[] := '{}';
  field text; near text; m record;
BEGIN
  FOR m IN SELECT e.key, e.value::text AS value FROM json_each(doc) WITH ORDINALITY AS e (key, value, n) ORDER BY e.n LOOP
    field := CASE WHEN m.key = '' THEN '""' ELSE scheduler.strategy_clip(m.key) END;
    IF m.key = ANY (seen) THEN
      IF m.key <> ALL (repeated) THEN
        repeated := repeated || m.key;
        problems := problems || scheduler.as_problem(field, 'appears more than once', m.value, 'keep one');
      END IF;
    ELSIF m.key <> ALL (keys) THEN
      near := CASE WHEN cardinality(problems) < 20 THEN scheduler.strategy_nearest(m.key) END; -- more are not spelt out
      problems := problems || scheduler.as_problem(field, 'is not a key of StrategyContent', m.value,
        CASE WHEN near IS NULL THEN 'remove it: the keys are ' || array_to_string(keys, ', ')
             ELSE 'did you mean ' || near || '?' END);
    END IF;
    seen := seen || m.key;
  END LOOP;
  RETURN problems;
END $$;

DROP TRIGGER campaigns_judge ON scheduler.campaigns;
DROP TRIGGER campaigns_signed ON scheduler.campaigns;
CREATE TRIGGER campaigns_accept BEFORE INSERT ON scheduler.campaigns FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_accept();
CREATE TRIGGER campaigns_judge BEFORE INSERT ON scheduler.campaigns
  FOR EACH ROW WHEN (NEW.app_no IS NULL) EXECUTE FUNCTION scheduler.campaigns_judge();
CREATE TRIGGER campaigns_judge_change BEFORE UPDATE ON scheduler.campaigns FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_judge();
CREATE TRIGGER campaigns_signed BEFORE UPDATE ON scheduler.campaigns FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_signed();

CREATE OR REPLACE FUNCTION scheduler.campaigns_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  apps integer[]; names text[]; found bigint; bad text;
BEGIN
  apps := ARRAY(SELECT n.app_no FROM inserted n GROUP BY n.app_no ORDER BY n.app_no);
  IF cardinality(apps) = 0 THEN
    RETURN NULL;
  END IF;
  -- As foreign keys do: what the rows name is there, and stays until they are.
  PERFORM FROM scheduler.apps a WHERE a.app_no = ANY (apps) ORDER BY a.app_no FOR KEY SHARE;
  GET DIAGNOSTICS found = ROW_COUNT;
  IF found < cardinality(apps) THEN
    PERFORM scheduler.refuse_unreferenced('an app of these campaigns was deleted meanwhile', format('app_no %s', apps), 'campaigns');
  END IF;
  IF EXISTS (SELECT FROM (SELECT n.app_id, n.workspace_id, n.app_no, n.channel, n.time_zone FROM inserted n GROUP BY 1, 2, 3, 4, 5) n
        LEFT JOIN scheduler.apps a ON a.app_no = n.app_no LEFT JOIN scheduler.channels k ON k.channel = n.channel
       WHERE (a.app_id, a.workspace_id) IS DISTINCT FROM (n.app_id, n.workspace_id) OR k.provider <> a.provider
          OR NOT EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = n.time_zone) AND scheduler.day_in_zone(clock_timestamp(), n.time_zone) IS NULL) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'campaigns',
      MESSAGE = 'an app was changed meanwhile, or a setting scheduler.loading… was written by hand', HINT = 'repeat the transaction';
  END IF;
  names := ARRAY(SELECT n.channel FROM inserted n GROUP BY n.channel);
  PERFORM FROM scheduler.channels k WHERE k.channel = ANY (names) ORDER BY k.channel FOR KEY SHARE;
  GET DIAGNOSTICS found = ROW_COUNT;
  IF found < cardinality(names) THEN
    SELECT m INTO bad FROM unnest(names) m WHERE NOT EXISTS (SELECT FROM scheduler.channels k WHERE k.channel = m) ORDER BY m LIMIT 1;
    PERFORM scheduler.refuse(ARRAY[scheduler.channel_problem(bad)]);
  END IF;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT n.app_no, n.id FROM inserted n;
  PERFORM pg_notify('scheduler_changes', CASE cardinality(apps) WHEN 1 THEN apps[1]::text ELSE '' END);
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_inserted() IS 'Asks what is the same for many rows, and tells the planner of new campaigns, once a statement.';

----------------------------------------------------------------------- at once

-- The window of a campaign that pushes at once begins when it could first be
-- pushed: when the transaction that wrote it ends, and when it becomes active.

CREATE FUNCTION scheduler.campaigns_committed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF clock_timestamp() - NEW.written_at > least(NEW.catch_up_window / 4, interval '1 second') THEN
    UPDATE scheduler.campaigns c SET written_at = clock_timestamp()
     WHERE c.id = NEW.id AND c.revision = NEW.revision AND c.written_at = NEW.written_at AND c.strategy_type = 0 AND c.status = 'active';
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_committed() IS 'Moves the occurrence of a campaign that pushes at once to the end of its transaction, when that was long.';

CREATE CONSTRAINT TRIGGER campaigns_committed AFTER INSERT ON scheduler.campaigns DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.strategy_type = 0 AND NEW.status = 'active') EXECUTE FUNCTION scheduler.campaigns_committed();
CREATE CONSTRAINT TRIGGER campaigns_recommitted AFTER UPDATE ON scheduler.campaigns DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.strategy_type = 0 AND NEW.status = 'active' AND NEW.written_at <> OLD.written_at) EXECUTE FUNCTION scheduler.campaigns_committed();

-- Comes after campaigns_judge_change. What has begun keeps its occurrence.
CREATE FUNCTION scheduler.campaigns_made_active() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM scheduler.decided_tasks d WHERE d.campaign_id = OLD.id AND d.due_at = OLD.written_at)
     AND NOT EXISTS (SELECT FROM scheduler.running_tasks r WHERE r.campaign_id = OLD.id AND r.due_at = OLD.written_at)
     AND NOT EXISTS (SELECT FROM scheduler.claims k WHERE OLD.id = ANY (k.campaign_ids)) THEN
    NEW.written_at := clock_timestamp();
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_made_active() IS 'Moves the occurrence of a campaign that pushes at once, and has not begun, to when it becomes active.';

CREATE TRIGGER campaigns_made_active BEFORE UPDATE ON scheduler.campaigns
  FOR EACH ROW WHEN (NEW.strategy_type = 0 AND OLD.strategy_type = 0 AND NEW.status = 'active' AND OLD.status IN ('paused', 'rejected'))
  EXECUTE FUNCTION scheduler.campaigns_made_active();

----------------------------------------------------------------------- whose it is

-- To read is one right, to write another. A policy answers before a unique index
-- is asked or a row is locked, whatever the form of the INSERT.

DROP POLICY granted_apps ON scheduler.campaigns;
CREATE POLICY granted_apps ON scheduler.campaigns FOR SELECT
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));
CREATE POLICY granted_apps_insert ON scheduler.campaigns FOR INSERT
  WITH CHECK ((SELECT scheduler.writable_apps()) IS NULL
    OR (app_id, workspace_id, app_no) IN (SELECT a.app_id, a.workspace_id, a.app_no FROM scheduler.apps a WHERE a.app_no = ANY ((SELECT scheduler.writable_apps())::integer[]))
    OR scheduler.refuse_app(app_id, workspace_id, channel));
CREATE POLICY granted_apps_update ON scheduler.campaigns FOR UPDATE
  USING ((SELECT scheduler.writable_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.writable_apps())::integer[]))
  WITH CHECK ((SELECT scheduler.writable_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.writable_apps())::integer[])
    OR scheduler.refuse_app(app_id, workspace_id, channel));
CREATE POLICY granted_apps_delete ON scheduler.campaigns FOR DELETE
  USING ((SELECT scheduler.writable_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.writable_apps())::integer[]));

-- A campaign that this transaction wrote is its writer's to write: its own policy has
-- let it pass. With its owner's rights, so that whose it is need not be asked for
-- each target; it tells of nothing but what the transaction itself did.
CREATE FUNCTION scheduler.campaign_written_now(campaign_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_written_now.campaign_id AND c.xmin = pg_current_xact_id()::xid);
END $$;
COMMENT ON FUNCTION scheduler.campaign_written_now(bigint) IS 'Whether the current transaction wrote the campaign''s row.';

-- Looks again with the eyes of a new statement: the campaign may have been written
-- by the same one.
CREATE FUNCTION scheduler.campaign_writable(campaign_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  apps integer[];
BEGIN
  IF scheduler.campaign_written_now(campaign_id) THEN
    RETURN true;
  END IF;
  apps := scheduler.writable_apps(); -- once, since it costs more than the rest
  PERFORM FROM scheduler.campaigns c WHERE c.id = campaign_writable.campaign_id AND (apps IS NULL OR c.app_no = ANY (apps));
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', SCHEMA = 'scheduler', TABLE = 'campaign_targets', COLUMN = 'campaign_id',
      MESSAGE = format('campaign_id: %s is no campaign of an app that was granted to %s', coalesce(campaign_id::text, 'NULL'), current_user),
      HINT = 'SELECT id, name FROM scheduler.campaigns shows yours; an admin grants apps: SELECT scheduler.grant_app(app_id, workspace_id, role)';
  END IF;
  RETURN true;
END $$;
COMMENT ON FUNCTION scheduler.campaign_writable(bigint) IS 'Raises 42501 when a campaign is not the current role''s to write, or is not there. For the policy of campaign_targets.';

DROP POLICY granted_apps ON scheduler.campaign_targets;
CREATE POLICY granted_apps ON scheduler.campaign_targets FOR SELECT
  USING (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id));
CREATE POLICY granted_apps_insert ON scheduler.campaign_targets FOR INSERT
  WITH CHECK (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id
      AND ((SELECT scheduler.writable_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.writable_apps())::integer[])))
    OR scheduler.campaign_writable(campaign_id));
CREATE POLICY granted_apps_update ON scheduler.campaign_targets FOR UPDATE
  USING (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id
      AND ((SELECT scheduler.writable_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.writable_apps())::integer[]))))
  WITH CHECK (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id
      AND ((SELECT scheduler.writable_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.writable_apps())::integer[])))
    OR scheduler.campaign_writable(campaign_id));
CREATE POLICY granted_apps_delete ON scheduler.campaign_targets FOR DELETE
  USING (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id
      AND ((SELECT scheduler.writable_apps()) IS NULL OR c.app_no = ANY ((SELECT scheduler.writable_apps())::integer[]))));

DROP TRIGGER campaign_targets_granted_insert ON scheduler.campaign_targets;
DROP TRIGGER campaign_targets_granted_update ON scheduler.campaign_targets;
DROP FUNCTION scheduler.campaign_targets_granted();

CREATE FUNCTION scheduler.campaign_targets_stored() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids bigint[] := ARRAY(SELECT n.campaign_id FROM stored n GROUP BY n.campaign_id); found bigint;
BEGIN
  IF TG_OP = 'UPDATE' THEN -- most change no campaign_id
    ids := ARRAY(SELECT unnest(ids) EXCEPT SELECT o.campaign_id FROM was o);
  END IF;
  IF cardinality(ids) = 0 THEN
    RETURN NULL;
  END IF;
  PERFORM FROM scheduler.campaigns c WHERE c.id = ANY (ids) ORDER BY c.id FOR KEY SHARE;
  GET DIAGNOSTICS found = ROW_COUNT;
  IF found < cardinality(ids) THEN
    PERFORM scheduler.refuse_unreferenced('campaign_id: there is no such campaign',
      format('campaign_id = %s', (SELECT min(i) FROM unnest(ids) i WHERE NOT EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = i))), 'campaign_targets');
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaign_targets_stored() IS 'Refuses targets of campaigns that there are not, and locks the others against deletion, once a statement.';

CREATE TRIGGER campaign_targets_stored_insert AFTER INSERT ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_stored();
CREATE TRIGGER campaign_targets_stored_update AFTER UPDATE ON scheduler.campaign_targets
  REFERENCING OLD TABLE AS was NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_stored();

-- Who else may use an app is not an author's to know.
ALTER TABLE scheduler.app_grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_grants ON scheduler.app_grants
  USING ((SELECT scheduler.is_owner() OR scheduler.acts_as('scheduler_admin') OR scheduler.acts_as('scheduler_daemon') OR scheduler.acts_as('scheduler_reader'))
    OR scheduler.acts_as(role));

--------------------------------------------------------------------------- views

-- The question of whose a row is stands outside the union. Were the union the
-- whole of the view, it would be pulled up into the caller's query, and a cheap
-- condition of the caller's be asked of every row first.
CREATE OR REPLACE VIEW scheduler.deliveries WITH (security_barrier) AS
SELECT d.id, d.task_id, d.campaign_id, d.slice_no, d.status, d.attempts, d.target_count, d.targets, d.reason, d.code, d.message,
       d.request_id, d.message_id, d.sent_at, d.finished_at
  FROM (
    SELECT s.id, s.task_id, s.campaign_id, s.slice_no,
           CASE WHEN s.status = 'accepted' THEN 'succeeded'
                WHEN s.status NOT IN ('waiting', 'held') THEN s.status::text
                WHEN c.id IS NULL OR c.status = 'cancelled' THEN scheduler.ended('cancelled', s.maybe_sent)::text
                WHEN c.status = 'paused' THEN 'held'
                ELSE 'pending' END AS status,
           s.attempts, coalesce(cardinality(x.targets), 0) AS target_count, coalesce(x.targets, '{}') AS targets, s.reason, s.code, s.message,
           s.request_id, s.message_id, s.sent_at, s.finished_at, s.app_no
      FROM scheduler.slices s
      LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id
      LEFT JOIN scheduler.campaigns c ON c.id = s.campaign_id
    UNION ALL
    SELECT NULL, c.id, c.campaign_id, 1, 'running', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.app_no
      FROM scheduler.claimed_tasks c
    UNION ALL
    SELECT NULL, d.id, d.campaign_id, 1, d.status::text, d.attempts, d.target_count::integer, d.targets, d.reason, d.code, d.message,
           d.request_id, d.message_id, d.sent_at, d.decided_at, d.app_no
      FROM scheduler.decided_tasks d
     WHERE d.attempts > 0 AND d.slices = 1 AND NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = d.id)
  ) d
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR d.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);

---------------------------------------------------------------------- privileges

DO $$
BEGIN
  IF to_regrole('scheduler_author') IS NOT NULL THEN
    GRANT INSERT (id, client_token) ON scheduler.campaigns TO scheduler_author; -- id: for those who write DEFAULT
  END IF;
END $$;

SELECT scheduler.set_schema_version(15);

DO $$
BEGIN
  IF to_regrole('scheduler_author') IS NOT NULL THEN
    REVOKE INSERT (id, client_token) ON scheduler.campaigns FROM scheduler_author;
  END IF;
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

DROP POLICY own_grants ON scheduler.app_grants;
DROP POLICY IF EXISTS daemon ON scheduler.app_grants;
ALTER TABLE scheduler.app_grants DISABLE ROW LEVEL SECURITY;

DROP TRIGGER campaign_targets_stored_insert ON scheduler.campaign_targets;
DROP TRIGGER campaign_targets_stored_update ON scheduler.campaign_targets;
DROP FUNCTION scheduler.campaign_targets_stored();
DROP POLICY granted_apps ON scheduler.campaign_targets;
DROP POLICY granted_apps_insert ON scheduler.campaign_targets;
DROP POLICY granted_apps_update ON scheduler.campaign_targets;
DROP POLICY granted_apps_delete ON scheduler.campaign_targets;
DROP FUNCTION scheduler.campaign_writable(bigint);
DROP FUNCTION scheduler.campaign_written_now(bigint);
CREATE POLICY granted_apps ON scheduler.campaign_targets
  USING (EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = campaign_id)) WITH CHECK (true);
CREATE FUNCTION scheduler.campaign_targets_granted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  campaign bigint;
BEGIN
  IF scheduler.visible_apps() IS NULL THEN
    RETURN NULL;
  END IF;
  SELECT n.campaign_id INTO campaign FROM stored n WHERE NOT EXISTS (SELECT FROM scheduler.campaigns c WHERE c.id = n.campaign_id) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'campaign % belongs to no app that % was granted', campaign, current_user
      USING ERRCODE = 'insufficient_privilege', HINT = format('an admin grants apps: SELECT scheduler.grant_app(app_id, workspace_id, %L);', current_user);
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaign_targets_granted() IS 'Refuses targets for campaigns of apps that the author was not granted.';
CREATE TRIGGER campaign_targets_granted_insert AFTER INSERT ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_granted();
CREATE TRIGGER campaign_targets_granted_update AFTER UPDATE ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_granted();

DROP POLICY granted_apps ON scheduler.campaigns;
DROP POLICY granted_apps_insert ON scheduler.campaigns;
DROP POLICY granted_apps_update ON scheduler.campaigns;
DROP POLICY granted_apps_delete ON scheduler.campaigns;
CREATE POLICY granted_apps ON scheduler.campaigns
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

DROP TRIGGER campaigns_made_active ON scheduler.campaigns;
DROP FUNCTION scheduler.campaigns_made_active();
DROP TRIGGER campaigns_committed ON scheduler.campaigns;
DROP TRIGGER campaigns_recommitted ON scheduler.campaigns;
DROP FUNCTION scheduler.campaigns_committed();

DROP TRIGGER campaigns_accept ON scheduler.campaigns;
DROP TRIGGER campaigns_judge ON scheduler.campaigns;
DROP TRIGGER campaigns_judge_change ON scheduler.campaigns;
DROP TRIGGER campaigns_signed ON scheduler.campaigns;
CREATE TRIGGER campaigns_judge BEFORE INSERT OR UPDATE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_judge();
CREATE TRIGGER campaigns_signed BEFORE INSERT OR UPDATE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_signed();
CREATE OR REPLACE FUNCTION scheduler.campaigns_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT n.app_no, n.id FROM inserted n;
  PERFORM pg_notify('scheduler_changes', CASE WHEN count(*) = 1 THEN min(a.app_no)::text ELSE '' END)
    FROM (SELECT DISTINCT n.app_no FROM inserted n LIMIT 2) a HAVING count(*) > 0;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_inserted() IS 'Tells the planner of new campaigns, once a statement.';

CREATE OR REPLACE FUNCTION scheduler.campaigns_judge() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  app scheduler.apps; problems scheduler.strategy_problem[]; verdict record; warning scheduler.strategy_warning;
  new_strategy boolean; at timestamptz := clock_timestamp();
BEGIN
  IF TG_OP = 'UPDATE' AND scheduler.is_daemon() THEN
    -- The engine finishes and rejects; that is not an author's change.
    IF NEW.status IN ('finished', 'rejected') THEN
      NEW.updated_at := at;
    END IF;
    RETURN NEW;
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
  ELSIF NEW.status NOT IN ('active', 'paused') THEN
    problems := problems || scheduler.as_problem('status', 'must be active or paused in an INSERT', quote_literal(NEW.status), 'leave it out');
  END IF;

  -- A strategy that is left alone is not held against today's date again.
  new_strategy := TG_OP = 'INSERT' OR scheduler.strategy_changed(OLD, NEW);
  NEW.written_at := CASE WHEN new_strategy THEN at ELSE OLD.written_at END;
  IF new_strategy THEN
    SELECT * INTO verdict FROM scheduler.strategy_verdict(NEW.strategy_type, NEW.strategy_content, NEW.time_zone,
      NEW.short_month_policy, NEW.dst_gap_policy, NEW.catch_up_window, NEW.written_at);
    problems := problems || verdict.problems;
  ELSIF NEW.catch_up_window <= interval '0' OR extract(epoch FROM NEW.catch_up_window) > 36525 * 86400.0 THEN
    problems := problems || scheduler.as_problem('catch_up_window', 'must be longer than zero and at most 36525 days', NEW.catch_up_window::text,
      'write an interval such as ''1 hour''');
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
  NEW.updated_by := current_user;
  IF TG_OP = 'INSERT' THEN
    NEW.revision := 1;
    NEW.status_reason := NULL;
    NEW.created_at := at;
    NEW.created_by := current_user;
    RETURN NEW;
  END IF;
  NEW.created_at := OLD.created_at;
  NEW.created_by := OLD.created_by;
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

CREATE OR REPLACE FUNCTION scheduler.campaign_problems(c scheduler.campaigns, app scheduler.apps) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}'; chan scheduler.channels;
BEGIN
  IF app.app_no IS NULL THEN
    problems := problems || scheduler.as_problem('app_id', 'must be an app in scheduler.apps, together with workspace_id',
      format('%s, workspace_id %L', coalesce(quote_literal(c.app_id), 'NULL'), c.workspace_id),
      format('add the app to the daemon''s configuration, or to scheduler.apps; an author has to be granted it too, by an admin: SELECT scheduler.grant_app(%L, %L, %L);',
        c.app_id, c.workspace_id, current_user));
  END IF;
  IF coalesce(c.name, '') = '' THEN
    problems := problems || scheduler.as_problem('name', 'must not be empty', quote_nullable(c.name),
      'give the campaign a name; the push API calls it taskName');
  END IF;
  SELECT * INTO chan FROM scheduler.channels k WHERE k.channel = c.channel;
  IF chan.channel IS NULL THEN
    problems := problems || scheduler.as_problem('channel', 'must be a known channel', quote_nullable(c.channel),
      'use one of ' || (SELECT string_agg(k.channel, ', ' ORDER BY k.channel) FROM scheduler.channels k));
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

CREATE OR REPLACE FUNCTION scheduler.refuse(problems scheduler.strategy_problem[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  message text; detail text; hint text;
BEGIN
  SELECT string_agg(p.field || ': ' || p.message, '; ' ORDER BY p.n), string_agg(p.field || ' = ' || coalesce(p.value, 'NULL'), E'\n' ORDER BY p.n),
         string_agg(p.field || ': ' || p.hint, E'\n' ORDER BY p.n) FILTER (WHERE p.hint <> '')
    INTO message, detail, hint
    FROM unnest(problems) WITH ORDINALITY AS p (field, message, value, hint, n);
  RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = message, DETAIL = detail, HINT = coalesce(hint, ''),
    SCHEMA = 'scheduler', TABLE = 'campaigns';
END $$;
COMMENT ON FUNCTION scheduler.refuse(scheduler.strategy_problem[]) IS 'Raises 23514 that lists every problem: fields, rules, values and mends.';

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
      near := scheduler.strategy_nearest(m.key);
      problems := problems || scheduler.as_problem(field, 'is not a key of StrategyContent', m.value,
        CASE WHEN near IS NULL THEN 'remove it: the keys are ' || array_to_string(keys, ', ')
             ELSE 'did you mean ' || near || '?' END);
    END IF;
    seen := seen || m.key;
  END LOOP;
  RETURN problems;
END $$;

CREATE OR REPLACE FUNCTION scheduler.day_in_zone(at timestamptz, zone text) RETURNS date
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF zone COLLATE "C" !~ '^[A-Z]' OR zone IN ('CET', 'EET', 'EST', 'HST', 'MET', 'MST', 'WET', 'Local') THEN
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

DROP FUNCTION scheduler.campaigns_accept();
DROP FUNCTION scheduler.strategy_is_plain(smallint, jsonb, text, timestamptz);
DROP FUNCTION scheduler.id_problems(scheduler.campaigns);
DROP FUNCTION scheduler.refuse_app(text, text, text);
DROP FUNCTION scheduler.channel_problem(text);
DROP FUNCTION scheduler.app_problem(text, text);
ALTER TABLE scheduler.campaign_targets DROP CONSTRAINT campaign_targets_bounds;
DROP FUNCTION scheduler.refuse_target(text, text, jsonb, jsonb);
DROP FUNCTION scheduler.size_problems(scheduler.campaigns);
DROP FUNCTION scheduler.json_problem(text, jsonb, integer, integer, integer, text);
DROP FUNCTION scheduler.json_members(jsonb);
DROP FUNCTION scheduler.json_depth_fits(jsonb, integer);

DROP TRIGGER campaigns_delete_targets ON scheduler.campaigns;
DROP FUNCTION scheduler.campaigns_delete_targets();
DROP TRIGGER channels_referenced ON scheduler.channels;
DROP TRIGGER channels_renamed ON scheduler.channels;
DROP FUNCTION scheduler.channels_referenced();
DROP TRIGGER apps_referenced ON scheduler.apps;
DROP FUNCTION scheduler.apps_referenced();
DROP FUNCTION scheduler.refuse_unreferenced(text, text, text);
ALTER TABLE scheduler.campaigns ADD CONSTRAINT campaigns_channel_fkey FOREIGN KEY (channel) REFERENCES scheduler.channels (channel),
  ADD CONSTRAINT campaigns_app_id_workspace_id_fkey FOREIGN KEY (app_id, workspace_id) REFERENCES scheduler.apps (app_id, workspace_id);
ALTER TABLE scheduler.campaign_targets ADD CONSTRAINT campaign_targets_campaign_id_fkey
  FOREIGN KEY (campaign_id) REFERENCES scheduler.campaigns (id) ON DELETE CASCADE;

DROP TRIGGER apps_zone ON scheduler.apps;
DROP FUNCTION scheduler.apps_zone();
ALTER TABLE scheduler.apps DROP COLUMN zone_known;
ALTER TABLE scheduler.campaigns DROP COLUMN client_token;

SELECT scheduler.set_schema_version(14);

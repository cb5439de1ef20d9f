-- Quiet hours of an app, and what a campaign does about them. All of it is NULL
-- by default; an app without quiet hours is asked nothing more than before.

ALTER TABLE scheduler.apps
  ADD COLUMN quiet_from time(0),
  ADD COLUMN quiet_until time(0),
  ADD CONSTRAINT apps_quiet_hours CHECK ((quiet_from IS NULL) = (quiet_until IS NULL) AND quiet_from <> quiet_until AND quiet_from < '24:00' AND quiet_until < '24:00');
COMMENT ON COLUMN scheduler.apps.quiet_from IS 'When the app''s quiet hours begin, each day, in its time_zone: no push of it begins then, but of campaigns that may ignore them. NULL: there are none.';
COMMENT ON COLUMN scheduler.apps.quiet_until IS 'When its quiet hours end; earlier than quiet_from: on the next day.';
-- Claims ask which of their apps have any: of none, in no time.
CREATE INDEX apps_quiet ON scheduler.apps (app_no) WHERE quiet_from IS NOT NULL;

ALTER TABLE scheduler.campaigns ADD COLUMN quiet_policy text CHECK (quiet_policy IN ('hold', 'skip', 'ignore'));
COMMENT ON COLUMN scheduler.campaigns.quiet_policy IS
  'What becomes of an occurrence within the app''s quiet hours: hold (it is pushed at their end), skip (it is missed), or ignore (it is pushed; an admin has to have allowed it). NULL: hold.';

ALTER TABLE scheduler.pending_tasks ADD COLUMN window_from timestamptz;
COMMENT ON COLUMN scheduler.pending_tasks.window_from IS 'Where its catch-up window begins: when a change let it go that quiet hours had held; NULL: due_at.';
COMMENT ON COLUMN scheduler.pending_tasks.ready_at IS 'When the dispatcher should look at it: due_at, or later while it waits for a quota or for the end of quiet hours.';
COMMENT ON COLUMN scheduler.pending_tasks.waits_for IS 'quota, or the end of quiet hours, when it waits for one of them.';
COMMENT ON COLUMN scheduler.running_tasks.window_from IS 'Where its catch-up window begins: when it was ruled to be sent again, or when a change let it go that quiet hours had held; NULL: due_at.';

-------------------------------------------------------------------- quiet hours

CREATE FUNCTION scheduler.local_instant(wall timestamp, zone text) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
  SELECT coalesce(least(CASE WHEN o.before AT TIME ZONE zone = wall THEN o.before END, CASE WHEN o.after AT TIME ZONE zone = wall THEN o.after END), o.before)
    FROM (SELECT wall AT TIME ZONE 'UTC' AS utc) w
   CROSS JOIN LATERAL (
    SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE zone) - (wall - interval '26 hours')) AS before,
           w.utc - (((w.utc + interval '26 hours') AT TIME ZONE zone) - (wall + interval '26 hours')) AS after
   ) o
);
COMMENT ON FUNCTION scheduler.local_instant(timestamp, text) IS
  'The instant of a local time: of one that occurs twice the first; one that a clock change skips is later by the gap.';

CREATE FUNCTION scheduler.quiet_periods(quiet_from time, quiet_until time, zone text, around timestamptz) RETURNS TABLE (starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT p.starts, p.ends
    FROM (SELECT (around AT TIME ZONE zone)::date AS today) t
   CROSS JOIN LATERAL generate_series(-2, 3) AS d (n)
   CROSS JOIN LATERAL (
    SELECT scheduler.local_instant(t.today + d.n + quiet_from, zone) AS starts,
           scheduler.local_instant(t.today + d.n + (quiet_until < quiet_from)::integer + quiet_until, zone) AS ends
   ) p
   WHERE p.starts < p.ends;
END;
COMMENT ON FUNCTION scheduler.quiet_periods(time, time, text, timestamptz) IS
  'The quiet hours of the days around an instant, from their start to before their end. A clock change may leave none of a day''s.';

CREATE FUNCTION scheduler.quiet_end(quiet_from time, quiet_until time, zone text, at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wall timestamp := at AT TIME ZONE zone; clock time := wall; overnight boolean := quiet_until < quiet_from; reached timestamptz; further timestamptz;
BEGIN
  -- Where no clock changes nearby, the local time says all of it, in a tenth of the
  -- time. The length is less than a day, so that no session's zone matters.
  IF (at - interval '96 hours') AT TIME ZONE zone = wall - interval '96 hours' AND (at + interval '96 hours') AT TIME ZONE zone = wall + interval '96 hours' THEN
    IF overnight AND (clock >= quiet_from OR clock < quiet_until) OR clock >= quiet_from AND clock < quiet_until THEN
      RETURN at + (wall::date + (overnight AND clock >= quiet_from)::integer + quiet_until - wall);
    END IF;
    RETURN NULL;
  END IF;
  LOOP -- a clock change may let one day's begin before those of the day before have ended
    SELECT max(p.ends) INTO further FROM scheduler.quiet_periods(quiet_from, quiet_until, zone, at) p
     WHERE p.starts <= coalesce(reached, at) AND p.ends > coalesce(reached, at);
    IF further IS NULL THEN
      RETURN reached;
    END IF;
    reached := further;
  END LOOP;
END $$;
COMMENT ON FUNCTION scheduler.quiet_end(time, time, text, timestamptz) IS 'When the quiet hours end that an instant lies in; NULL: it lies in none.';

CREATE FUNCTION scheduler.quiet_window_from(quiet_from time, quiet_until time, zone text, due_at timestamptz, catch_up_window interval) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(scheduler.quiet_end(quiet_from, quiet_until, zone, due_at),
  scheduler.quiet_end(quiet_from, quiet_until, zone, (
    SELECT min(p.starts) FROM scheduler.quiet_periods(quiet_from, quiet_until, zone, due_at) p
     WHERE p.starts > due_at AND p.starts < scheduler.window_end(due_at, catch_up_window))),
  due_at);
COMMENT ON FUNCTION scheduler.quiet_window_from(time, time, text, timestamptz, interval) IS
  'Where the catch-up window of an occurrence counts from: from the end of the first quiet hours that it meets, else from due_at.';

-------------------------------------------------------------------- exemptions

CREATE TABLE scheduler.quiet_exemptions (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  app_no       integer NOT NULL,
  channel      text,
  name         text CHECK (octet_length(name) BETWEEN 1 AND 512),
  note         text CHECK (octet_length(note) BETWEEN 1 AND 1000),
  created_by   text NOT NULL,
  created_via  text,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  revoked_by   text,
  revoked_via  text,
  revoked_at   timestamptz,
  revoked_note text CHECK (octet_length(revoked_note) BETWEEN 1 AND 1000),
  CHECK (channel IS NOT NULL OR name IS NOT NULL)
);
CREATE INDEX quiet_exemptions_app ON scheduler.quiet_exemptions (app_no) WHERE revoked_at IS NULL;
COMMENT ON TABLE scheduler.quiet_exemptions IS
  'Which campaigns may have quiet_policy ignore: those of the app with the channel and the name, as far as they are given. Written by grant_quiet_exemption and revoke_quiet_exemption; no row is ever deleted.';
COMMENT ON COLUMN scheduler.quiet_exemptions.id IS 'Key.';
COMMENT ON COLUMN scheduler.quiet_exemptions.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.quiet_exemptions.channel IS 'Campaigns of this channel; NULL: of any.';
COMMENT ON COLUMN scheduler.quiet_exemptions.name IS 'Campaigns of exactly this name; NULL: of any.';
COMMENT ON COLUMN scheduler.quiet_exemptions.note IS 'Why, in the words of whoever did it.';
COMMENT ON COLUMN scheduler.quiet_exemptions.created_by IS 'Who did it: the login, or the role for which a front acted.';
COMMENT ON COLUMN scheduler.quiet_exemptions.created_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.quiet_exemptions.created_at IS 'When.';
COMMENT ON COLUMN scheduler.quiet_exemptions.revoked_by IS 'Who took it back.';
COMMENT ON COLUMN scheduler.quiet_exemptions.revoked_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.quiet_exemptions.revoked_at IS 'When it was taken back; NULL: it stands.';
COMMENT ON COLUMN scheduler.quiet_exemptions.revoked_note IS 'Why it was taken back.';
ALTER TABLE scheduler.quiet_exemptions ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.quiet_exemptions
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

CREATE FUNCTION scheduler.quiet_exempt(app_no integer, channel text, name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM scheduler.quiet_exemptions e
    WHERE e.app_no = quiet_exempt.app_no AND e.revoked_at IS NULL AND coalesce(e.channel, quiet_exempt.channel) = quiet_exempt.channel AND coalesce(e.name, quiet_exempt.name) = quiet_exempt.name)
$$;
COMMENT ON FUNCTION scheduler.quiet_exempt(integer, text, text) IS 'Whether campaigns of an app with this channel and name may ignore its quiet hours.';

CREATE FUNCTION scheduler.ignores_quiet_hours(campaign_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN c.quiet_policy = 'ignore' THEN scheduler.quiet_exempt(c.app_no, c.channel, c.name) ELSE false END FROM scheduler.campaigns c WHERE c.id = ignores_quiet_hours.campaign_id
$$;
COMMENT ON FUNCTION scheduler.ignores_quiet_hours(bigint) IS 'Whether a campaign ignores quiet hours, and may. An exemption that was taken back makes its policy hold.';

CREATE FUNCTION scheduler.held_window_end(app_no integer, campaign_id bigint, due_at timestamptz, catch_up_window interval) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.window_end(coalesce((
    SELECT scheduler.quiet_window_from(a.quiet_from, a.quiet_until, a.time_zone, held_window_end.due_at, held_window_end.catch_up_window) FROM scheduler.apps a
     WHERE a.app_no = held_window_end.app_no AND a.quiet_from IS NOT NULL AND scheduler.ignores_quiet_hours(held_window_end.campaign_id) IS NOT TRUE), due_at), catch_up_window)
$$;
COMMENT ON FUNCTION scheduler.held_window_end(integer, bigint, timestamptz, interval) IS
  'Until when an occurrence may be pushed whose app has quiet hours; without them, window_end of due_at.';

CREATE FUNCTION scheduler.quiet_skips(campaign_id bigint, due_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM scheduler.campaigns c JOIN scheduler.apps a ON a.app_no = c.app_no
    WHERE c.id = quiet_skips.campaign_id AND c.quiet_policy = 'skip' AND scheduler.quiet_end(a.quiet_from, a.quiet_until, a.time_zone, quiet_skips.due_at) IS NOT NULL)
$$;
COMMENT ON FUNCTION scheduler.quiet_skips(bigint, timestamptz) IS 'Whether a campaign leaves an occurrence out for the quiet hours of its app.';

------------------------------------------------------------------------ changes

CREATE TABLE scheduler.quiet_changes (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  app_no      integer NOT NULL,
  since       timestamptz NOT NULL,
  quiet_from  time(0),
  quiet_until time(0),
  time_zone   text NOT NULL,
  changed_by  text NOT NULL
);
CREATE INDEX quiet_changes_app ON scheduler.quiet_changes (app_no, since);
COMMENT ON TABLE scheduler.quiet_changes IS 'The audit of quiet hours: which an app had since when. scheduler verify judges pushes by it. An app without a row has never had any.';
COMMENT ON COLUMN scheduler.quiet_changes.id IS 'Key, in the order of the changes.';
COMMENT ON COLUMN scheduler.quiet_changes.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.quiet_changes.since IS 'From when on: the end of the transaction that made the change.';
COMMENT ON COLUMN scheduler.quiet_changes.quiet_from IS 'When they begin; NULL: there are none.';
COMMENT ON COLUMN scheduler.quiet_changes.quiet_until IS 'When they end.';
COMMENT ON COLUMN scheduler.quiet_changes.time_zone IS 'The app''s zone, in which they are meant.';
COMMENT ON COLUMN scheduler.quiet_changes.changed_by IS 'The database role that made the change.';

CREATE FUNCTION scheduler.apps_quiet() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  rule text; mend text;
BEGIN
  IF NEW.quiet_from IS NULL AND NEW.quiet_until IS NULL THEN
    RETURN NEW;
  END IF;
  CASE
    WHEN NEW.quiet_from IS NULL OR NEW.quiet_until IS NULL THEN
      rule := 'quiet_from and quiet_until: both are required, or neither';
      mend := 'write for example quiet_from = ''22:00'', quiet_until = ''08:00''; NULL for both means no quiet hours';
    WHEN NEW.quiet_from = NEW.quiet_until THEN
      rule := 'quiet_until: must differ from quiet_from';
      mend := 'pause the campaigns to push nothing at all; write NULL for both to have no quiet hours';
    WHEN NEW.quiet_from = '24:00' OR NEW.quiet_until = '24:00' THEN
      rule := 'quiet_from and quiet_until: must be times of day from 00:00:00 to 23:59:59';
      mend := 'write midnight as ''00:00''';
    WHEN NOT EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = NEW.time_zone) THEN
      rule := 'time_zone: must be an IANA time zone, spelt as the IANA database spells it, for an app with quiet hours';
      mend := 'use an Area/Location name such as Asia/Shanghai, or UTC';
    ELSE
      RETURN NEW;
  END CASE;
  RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = rule, HINT = mend, SCHEMA = 'scheduler', TABLE = 'apps',
    DETAIL = format('quiet_from = %s, quiet_until = %s, time_zone = %s', coalesce(NEW.quiet_from::text, 'NULL'), coalesce(NEW.quiet_until::text, 'NULL'), NEW.time_zone);
END $$;
COMMENT ON FUNCTION scheduler.apps_quiet() IS 'Refuses quiet hours that are none.';
CREATE TRIGGER apps_quiet BEFORE INSERT OR UPDATE ON scheduler.apps FOR EACH ROW EXECUTE FUNCTION scheduler.apps_quiet();

-- What quiet hours hold is let go by every change of them: whether others hold it
-- is asked at its claim. Its window counts from the change, or it would have
-- closed while it was held.
CREATE FUNCTION scheduler.end_quiet_holds(app integer, quiet_from time, quiet_until time, zone text, only_campaign bigint DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  at timestamptz := clock_timestamp();
BEGIN
  IF scheduler.quiet_end(quiet_from, quiet_until, zone, at) IS NULL THEN
    RETURN; -- they hold nothing now
  END IF;
  UPDATE scheduler.pending_tasks p SET ready_at = p.due_at, window_from = at, waits_for = NULL
   WHERE p.app_no = app AND p.waits_for = 'the end of quiet hours' AND (only_campaign IS NULL OR p.campaign_id = only_campaign);
  UPDATE scheduler.running_tasks r SET window_from = at
    FROM scheduler.campaigns c
   WHERE r.app_no = app AND c.id = r.campaign_id AND CASE WHEN only_campaign IS NULL THEN scheduler.ignores_quiet_hours(c.id) IS NOT TRUE ELSE c.id = only_campaign END
     AND scheduler.window_end(scheduler.quiet_window_from(quiet_from, quiet_until, zone, coalesce(r.window_from, r.due_at), c.catch_up_window), c.catch_up_window) > at;
  PERFORM pg_notify('scheduler_ready', app::text);
END $$;
COMMENT ON FUNCTION scheduler.end_quiet_holds(integer, time, time, text, bigint) IS
  'Lets go what quiet hours hold of an app, or of one campaign: those that stood before a change. For triggers and functions that make it.';

CREATE FUNCTION scheduler.apps_quiet_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  PERFORM scheduler.end_quiet_holds(OLD.app_no, OLD.quiet_from, OLD.quiet_until, OLD.time_zone);
  PERFORM pg_notify('scheduler_changes', NEW.app_no::text);
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_quiet_changed() IS 'Makes changed quiet hours hold.';
CREATE TRIGGER apps_quiet_changed AFTER UPDATE ON scheduler.apps FOR EACH ROW
  WHEN ((OLD.quiet_from, OLD.quiet_until, OLD.time_zone) IS DISTINCT FROM (NEW.quiet_from, NEW.quiet_until, NEW.time_zone) AND (OLD.quiet_from IS NOT NULL OR NEW.quiet_from IS NOT NULL))
  EXECUTE FUNCTION scheduler.apps_quiet_changed();

CREATE FUNCTION scheduler.apps_quiet_recorded() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.quiet_changes (app_no, since, quiet_from, quiet_until, time_zone, changed_by)
    VALUES (NEW.app_no, clock_timestamp(), NEW.quiet_from, NEW.quiet_until, NEW.time_zone, scheduler.actor());
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_quiet_recorded() IS 'Keeps which quiet hours an app had, as their transaction ends.';
CREATE CONSTRAINT TRIGGER apps_quiet_recorded AFTER UPDATE ON scheduler.apps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN ((OLD.quiet_from, OLD.quiet_until, OLD.time_zone) IS DISTINCT FROM (NEW.quiet_from, NEW.quiet_until, NEW.time_zone) AND (OLD.quiet_from IS NOT NULL OR NEW.quiet_from IS NOT NULL))
  EXECUTE FUNCTION scheduler.apps_quiet_recorded();
CREATE CONSTRAINT TRIGGER apps_quiet_recorded_first AFTER INSERT ON scheduler.apps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (NEW.quiet_from IS NOT NULL) EXECUTE FUNCTION scheduler.apps_quiet_recorded();

CREATE FUNCTION scheduler.grant_quiet_exemption(app_id text, workspace_id text, channel text DEFAULT NULL, name text DEFAULT NULL, note text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  app scheduler.apps; exemption bigint;
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  SELECT a.* INTO app FROM scheduler.apps a WHERE a.app_id = grant_quiet_exemption.app_id AND a.workspace_id = coalesce(grant_quiet_exemption.workspace_id, '');
  IF NOT FOUND THEN
    RAISE EXCEPTION 'app_id: there is no app % with workspace_id %', quote_nullable(app_id), quote_nullable(workspace_id) USING ERRCODE = 'no_data_found',
      HINT = 'SELECT app_id, workspace_id FROM scheduler.apps; lists them';
  ELSIF channel IS NULL AND nullif(name, '') IS NULL THEN
    RAISE EXCEPTION 'channel and name: one of them is required' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'name the channel, or the exact name of the campaigns that may push within quiet hours';
  ELSIF NOT EXISTS (SELECT FROM scheduler.channels k WHERE k.channel = coalesce(grant_quiet_exemption.channel, k.channel) AND k.provider = app.provider) THEN
    RAISE EXCEPTION 'channel: % is none of the app''s provider, %', quote_nullable(channel), app.provider USING ERRCODE = 'invalid_parameter_value',
      HINT = coalesce('use one of ' || (SELECT string_agg(k.channel, ', ' ORDER BY k.channel) FROM scheduler.channels k WHERE k.provider = app.provider), '');
  ELSIF octet_length(name) > 512 OR octet_length(note) > 1000 THEN
    RAISE EXCEPTION 'name and note: must not be longer than 512 and 1000 bytes' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM scheduler.end_quiet_holds(app.app_no, app.quiet_from, app.quiet_until, app.time_zone);
  INSERT INTO scheduler.quiet_exemptions AS e (app_no, channel, name, note, created_by, created_via)
    VALUES (app.app_no, channel, nullif(name, ''), nullif(note, ''), scheduler.actor(), scheduler.actor_via()) RETURNING e.id INTO exemption;
  RETURN exemption;
END $$;
COMMENT ON FUNCTION scheduler.grant_quiet_exemption(text, text, text, text, text) IS
  'Lets campaigns of an app with this channel, this name, or both, have quiet_policy ignore. Returns the exemption''s id. For admins.';

CREATE FUNCTION scheduler.revoke_quiet_exemption(exemption bigint, note text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  IF octet_length(note) > 1000 THEN
    RAISE EXCEPTION 'note: must not be longer than 1000 bytes' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  UPDATE scheduler.quiet_exemptions e
     SET revoked_at = clock_timestamp(), revoked_by = scheduler.actor(), revoked_via = scheduler.actor_via(), revoked_note = nullif(revoke_quiet_exemption.note, '')
   WHERE e.id = revoke_quiet_exemption.exemption AND e.revoked_at IS NULL;
  IF NOT FOUND AND NOT EXISTS (SELECT FROM scheduler.quiet_exemptions e WHERE e.id = revoke_quiet_exemption.exemption) THEN
    RAISE EXCEPTION 'there is no exemption %', exemption USING ERRCODE = 'no_data_found', HINT = 'SELECT * FROM scheduler.quiet_exemptions; lists them';
  END IF;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.revoke_quiet_exemption(bigint, text) IS
  'Takes an exemption from quiet hours back: campaigns that relied on it are held from now on. Returns whether it stood. For admins.';

---------------------------------------------------------------------- campaigns

-- The texts of these functions are other migrations'; only what quiet hours add is
-- changed here.
DO $$
DECLARE
  change record; text_before text; text_after text;
BEGIN
  FOR change IN SELECT * FROM (VALUES
    ('scheduler.campaigns_accept()', 'AND NEW.times IS NULL', 'AND NEW.times IS NULL AND NEW.quiet_policy IS NULL'),
    ('scheduler.content_changed(scheduler.campaigns,scheduler.campaigns)', 'scheduler.strategy_changed(a, b)', 'scheduler.strategy_changed(a, b) OR a.quiet_policy IS DISTINCT FROM b.quiet_policy'),
    ('scheduler.campaign_problems(scheduler.campaigns,scheduler.apps)', '  RETURN problems;', $new$  IF c.quiet_policy NOT IN ('hold', 'skip', 'ignore') THEN
    problems := problems || scheduler.as_problem('quiet_policy', 'must be hold, skip or ignore', quote_literal(c.quiet_policy),
      'hold pushes at the end of the app''s quiet hours, skip leaves the occurrence out');
  END IF;
  RETURN problems;$new$),
    ('scheduler.campaigns_judge()', '  problems := scheduler.campaign_problems(NEW, app);', $new$  problems := scheduler.campaign_problems(NEW, app);
  IF coalesce(NEW.quiet_policy, '') = 'ignore' AND app.app_no IS NOT NULL AND NOT scheduler.quiet_exempt(app.app_no, NEW.channel, NEW.name)
     AND (TG_OP = 'INSERT' OR (NEW.quiet_policy, NEW.channel, NEW.name) IS DISTINCT FROM (OLD.quiet_policy, OLD.channel, OLD.name)) THEN
    problems := problems || scheduler.as_problem('quiet_policy', 'ignore has to be allowed by an admin for the campaign''s channel or name', quote_literal(NEW.quiet_policy),
      format('use hold or skip, or have an admin run SELECT scheduler.grant_quiet_exemption(%L, %L, channel => %L, name => %L);', NEW.app_id, NEW.workspace_id, NEW.channel, NEW.name));
  END IF;$new$),
    ('scheduler.campaigns_changed()', '  INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)', $new$  IF (OLD.quiet_policy, OLD.channel, OLD.name) IS DISTINCT FROM (NEW.quiet_policy, NEW.channel, NEW.name)
     AND NOT (CASE WHEN OLD.quiet_policy = 'ignore' THEN scheduler.quiet_exempt(OLD.app_no, OLD.channel, OLD.name) ELSE false END) THEN
    PERFORM scheduler.end_quiet_holds(a.app_no, a.quiet_from, a.quiet_until, a.time_zone, NEW.id) FROM scheduler.apps a WHERE a.app_no = NEW.app_no AND a.quiet_from IS NOT NULL;
  END IF;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)$new$),
    ('scheduler.grant_privileges()', 'skipped_occurrences,revocations,', 'skipped_occurrences,quiet_exemptions,revocations,')
  ) AS v (name, was, becomes) LOOP
    text_before := pg_get_functiondef(change.name::regprocedure);
    text_after := replace(text_before, change.was, change.becomes);
    IF text_after = text_before THEN
      RAISE EXCEPTION 'function % has not the text "%"', change.name, change.was;
    END IF;
    EXECUTE text_after;
  END LOOP;
END $$;

SELECT scheduler.set_schema_version(28);

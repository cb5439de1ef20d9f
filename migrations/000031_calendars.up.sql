-- Calendars: which days are open. A campaign that names one leaves out what falls on
-- a closed day, or moves it to the nearest open one. What the calendar says of a
-- campaign's own days stands in the campaign's row, so that the planner and all who
-- read occurrences need no other table, and the revision fences it. A campaign
-- without a calendar is judged by the same way as before, and at the same cost.

CREATE TABLE scheduler.calendars (
  name          text PRIMARY KEY,
  time_zone     text NOT NULL DEFAULT 'Asia/Shanghai',
  open_weekdays smallint[] NOT NULL DEFAULT '{1,2,3,4,5}',
  created_by    text NOT NULL,
  created_via   text,
  created_at    timestamptz NOT NULL,
  updated_by    text NOT NULL,
  updated_via   text,
  updated_at    timestamptz NOT NULL
);
COMMENT ON TABLE scheduler.calendars IS 'Calendars that campaigns name: which days are open. Admins write them.';
COMMENT ON COLUMN scheduler.calendars.name IS 'Its name, as campaigns.calendar has it: 1 to 64 bytes. It cannot change while a campaign names it.';
COMMENT ON COLUMN scheduler.calendars.time_zone IS 'The IANA zone in which its days begin and end.';
COMMENT ON COLUMN scheduler.calendars.open_weekdays IS 'The days of the week that are open, 1 Monday to 7 Sunday, where calendar_days does not say otherwise; kept in order.';
COMMENT ON COLUMN scheduler.calendars.created_by IS 'Who inserted it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.calendars.created_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.calendars.created_at IS 'When.';
COMMENT ON COLUMN scheduler.calendars.updated_by IS 'Who last changed it or its days: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.calendars.updated_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.calendars.updated_at IS 'When.';

CREATE TABLE scheduler.calendar_days (
  calendar    text NOT NULL REFERENCES scheduler.calendars (name) ON UPDATE CASCADE ON DELETE CASCADE,
  day         date NOT NULL,
  open        boolean NOT NULL DEFAULT false,
  why         text,
  updated_by  text NOT NULL,
  updated_via text,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (calendar, day)
);
COMMENT ON TABLE scheduler.calendar_days IS 'The days of a calendar that are not as their weekday says: public holidays, make-up workdays.';
COMMENT ON COLUMN scheduler.calendar_days.calendar IS 'The calendar''s name.';
COMMENT ON COLUMN scheduler.calendar_days.day IS 'The day, of the years 1970 to 2200, in the calendar''s zone.';
COMMENT ON COLUMN scheduler.calendar_days.open IS 'Whether it is open.';
COMMENT ON COLUMN scheduler.calendar_days.why IS 'A word why, for example the name of the holiday: at most 200 bytes. NULL: none.';
COMMENT ON COLUMN scheduler.calendar_days.updated_by IS 'Who last wrote it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.calendar_days.updated_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.calendar_days.updated_at IS 'When.';

ALTER TABLE scheduler.campaigns ADD COLUMN calendar text, ADD COLUMN calendar_policy text, ADD COLUMN calendar_closed timestamptz[], ADD COLUMN calendar_since timestamptz;
COMMENT ON COLUMN scheduler.campaigns.calendar IS 'The calendar, a name in scheduler.calendars, by which a fixed time or a loop leaves out or moves what falls on a closed day. NULL: none.';
COMMENT ON COLUMN scheduler.campaigns.calendar_policy IS
  'What becomes of an occurrence on a closed day: skip (none), next_open or previous_open (pushed at the same local time on the nearest open day after or before). NULL: skip.';
COMMENT ON COLUMN scheduler.campaigns.calendar_closed IS
  'What the calendar says of the strategy''s days: closed from the first of these instants until the second, from the third until the fourth, and so on. Written by the database alone. NULL: there is no calendar, or it is ignored.';
COMMENT ON COLUMN scheduler.campaigns.calendar_since IS
  'When a change of the calendar last changed calendar_closed: earlier occurrences are none of this version. NULL: never since the strategy was written.';
CREATE INDEX campaigns_calendar ON scheduler.campaigns (calendar) WHERE calendar IS NOT NULL;

----------------------------------------------------------------------- its days

-- A day begins at its first 00:00, or at the clock change that skips it. The offsets
-- 26 hours before and after a local time are those on either side of any clock change
-- it could meet.
CREATE FUNCTION scheduler.closed_between(calendar text, first_day date, last_day date) RETURNS timestamptz[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN (SELECT ARRAY(
    SELECT coalesce(least(CASE WHEN o.before AT TIME ZONE k.time_zone = w.wall THEN o.before END,
                          CASE WHEN o.after AT TIME ZONE k.time_zone = w.wall THEN o.after END), o.before)
      FROM (SELECT x.day, x.closed, lag(x.closed, 1, false) OVER (ORDER BY x.day) AS was
              FROM (SELECT g.day, g.day::date <= closed_between.last_day
                             AND NOT coalesce(d.open, extract(isodow FROM g.day)::smallint = ANY (k.open_weekdays)) AS closed
                      FROM generate_series(greatest(closed_between.first_day, '1969-01-01')::timestamp,
                             least(closed_between.last_day + 1, greatest(closed_between.first_day, '1969-01-01') + 1000, '10001-01-01')::timestamp, '1 day') AS g (day)
                      LEFT JOIN scheduler.calendar_days d ON d.calendar = k.name AND d.day = g.day::date) x) e
     CROSS JOIN LATERAL (SELECT e.day AS wall, e.day AT TIME ZONE 'UTC' AS utc) w
     CROSS JOIN LATERAL (
      SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE k.time_zone) - (w.wall - interval '26 hours')) AS before,
             w.utc - (((w.utc + interval '26 hours') AT TIME ZONE k.time_zone) - (w.wall + interval '26 hours')) AS after
     ) o
     WHERE e.closed <> e.was ORDER BY e.day)
    FROM scheduler.calendars k WHERE k.name = closed_between.calendar);
END $$;
COMMENT ON FUNCTION scheduler.closed_between(text, date, date) IS
  'When a calendar is closed from one of its days to another, both included, as campaigns.calendar_closed has it, at most 1000 days; NULL: there is no such calendar.';

-- Every occurrence of a fixed time or a loop with a calendar. It is asked by those who
-- judge a strategy, and by those who list occurrences; the engine has its own way. In
-- PL/pgSQL, since to plan it takes longer than to run it.
-- Instants are found as in scheduler.occurrences.
CREATE FUNCTION scheduler.open_occurrences(strategy_type smallint, content jsonb, zone text, short_month_policy text, dst_gap_policy text, times text[],
  written_at timestamptz, calendar_policy text, calendar_closed timestamptz[], calendar_since timestamptz) RETURNS SETOF timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH span AS (
    SELECT f.fixed, (f.fixed AT TIME ZONE zone)::date AS fixed_day, (f.fixed AT TIME ZONE zone)::date - 31 AS first, (f.fixed AT TIME ZONE zone)::date + 31 AS last,
           NULL::numeric AS kind, NULL::numeric[] AS chosen, ARRAY[(f.fixed AT TIME ZONE zone)::time] AS clocks
      FROM (SELECT to_timestamp(trunc((content ->> 'fixedTime')::numeric / 1000)::double precision) AS fixed) f
     WHERE strategy_type = 1
    UNION ALL
    SELECT NULL, NULL, (to_timestamp((content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE zone)::date,
           least((to_timestamp((content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE zone)::date,
                 (to_timestamp((content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE zone)::date + 400),
           (content ->> 'circleType')::numeric,
           CASE WHEN (content ->> 'circleType')::numeric > 1 THEN ARRAY(SELECT x::numeric FROM jsonb_array_elements_text(content -> 'circleValue') x) END,
           ARRAY(SELECT x::time FROM unnest(coalesce(nullif(times, '{}'), ARRAY[content ->> 'time'])) x)
     WHERE strategy_type = 2
  ), day AS MATERIALIZED (
    SELECT c.clock, g.day, i.at, i.exact IS NULL AND dst_gap_policy = 'skip' AS skipped, width_bucket(i.at, coalesce(calendar_closed, '{}')) % 2 = 1 AS closed,
           CASE WHEN s.fixed IS NOT NULL THEN g.day::date = s.fixed_day
                WHEN s.kind = 1 THEN true
                WHEN s.kind = 2 THEN extract(isodow FROM g.day) = ANY (s.chosen)
                ELSE extract(day FROM g.day) = ANY (s.chosen)
                  OR short_month_policy = 'last_day' AND extract(day FROM g.day + interval '1 day') = 1
                     AND extract(day FROM g.day) < (SELECT max(x) FROM unnest(s.chosen) x)
                END AS wanted
      FROM span s
     CROSS JOIN LATERAL unnest(s.clocks) AS c (clock)
     CROSS JOIN LATERAL generate_series(s.first::timestamp, s.last::timestamp, '1 day') AS g (day)
     CROSS JOIN LATERAL (SELECT g.day + c.clock AS wall, (g.day + c.clock) AT TIME ZONE 'UTC' AS utc) w
     CROSS JOIN LATERAL (
      SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE zone) - (w.wall - interval '26 hours')) AS before,
             w.utc - (((w.utc + interval '26 hours') AT TIME ZONE zone) - (w.wall + interval '26 hours')) AS after
     ) o
     CROSS JOIN LATERAL (
      SELECT CASE WHEN g.day::date = s.fixed_day THEN s.fixed
                  ELSE least(CASE WHEN o.before AT TIME ZONE zone = w.wall THEN o.before END, CASE WHEN o.after AT TIME ZONE zone = w.wall THEN o.after END) END AS exact
     ) e
     CROSS JOIN LATERAL (SELECT e.exact, coalesce(e.exact, o.before) AS at) i
  ), placed AS (
    SELECT d.*, CASE WHEN NOT d.closed THEN d.day
                     WHEN calendar_policy = 'next_open' THEN min(d.day) FILTER (WHERE NOT d.closed) OVER (PARTITION BY d.clock ORDER BY d.day DESC)
                     WHEN calendar_policy = 'previous_open' THEN max(d.day) FILTER (WHERE NOT d.closed) OVER (PARTITION BY d.clock ORDER BY d.day)
                END AS onto
      FROM day d
  )
  SELECT DISTINCT t.at
    FROM placed p JOIN day t ON t.clock = p.clock AND t.day = p.onto
   WHERE p.wanted AND NOT p.skipped AND NOT t.skipped
     AND t.at >= CASE WHEN strategy_type = 1 AND NOT p.closed THEN coalesce(calendar_since, '-infinity') ELSE greatest(written_at, calendar_since) END;
END $$;
COMMENT ON FUNCTION scheduler.open_occurrences(smallint, jsonb, text, text, text, text[], timestamptz, text, timestamptz[], timestamptz) IS
  'The occurrences of a strategy with a calendar, in no order: those on open days, and those moved to one. The strategy must be good.';

CREATE FUNCTION scheduler.closed_from(was timestamptz[], becomes timestamptz[], at timestamptz) RETURNS timestamptz[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(
    SELECT x FROM unnest(was) x WHERE x < at
    UNION ALL
    SELECT at WHERE (SELECT count(*) FROM unnest(was) x WHERE x < at) % 2 <> width_bucket(at, becomes) % 2
    UNION ALL
    SELECT x FROM unnest(becomes) x WHERE x > at
    ORDER BY 1)
$$;
COMMENT ON FUNCTION scheduler.closed_from(timestamptz[], timestamptz[], timestamptz) IS
  'When a calendar is closed that was changed at an instant: before it as it was, from it on as it becomes. Both as campaigns.calendar_closed has them.';

-- A margin of two days is more than two zones and a clock change can differ by.
CREATE FUNCTION scheduler.campaign_closed(c scheduler.campaigns, changed_at timestamptz) RETURNS timestamptz[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  content jsonb; first date; last date; fixed timestamptz; closed timestamptz[];
BEGIN
  IF c.calendar IS NULL OR c.strategy_type IN (1, 2) IS NOT TRUE THEN
    RETURN NULL;
  END IF;
  BEGIN
    content := CASE WHEN jsonb_typeof(c.strategy_content) = 'string' THEN scheduler.strategy_object(c.strategy_content) ELSE c.strategy_content END;
    IF c.strategy_type = 1 THEN
      fixed := to_timestamp(trunc((content ->> 'fixedTime')::numeric / 1000)::double precision);
      first := (fixed AT TIME ZONE c.time_zone)::date - 33;
      last := first + 66;
    ELSE
      first := (to_timestamp((content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE c.time_zone)::date - 2;
      last := (to_timestamp((content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE c.time_zone)::date + 2;
    END IF;
    closed := scheduler.closed_between(c.calendar, first, least(last, first + 200));
  EXCEPTION WHEN data_exception OR undefined_file THEN
    RETURN NULL; -- strategy_verdict says what is wrong
  END;
  IF changed_at IS NOT NULL THEN
    closed := scheduler.closed_from(coalesce(c.calendar_closed, '{}'), closed, changed_at);
  END IF;
  -- A fixed time on an open day asks for no other.
  IF width_bucket(fixed, closed) % 2 = 0 THEN
    RETURN '{}';
  END IF;
  RETURN closed;
END $$;
COMMENT ON FUNCTION scheduler.campaign_closed(scheduler.campaigns, timestamptz) IS
  'What a campaign''s calendar says of its days, for campaigns.calendar_closed. changed_at: what the row has of the time before stays as it is; NULL: the row is new.';

-- With its owner's rights: to lock a row takes the right to change it. Comes before the
-- campaign is judged, by the order of the triggers' names.
CREATE FUNCTION scheduler.campaigns_calendar_locked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'INSERT' OR scheduler.strategy_changed(OLD, NEW) THEN
    PERFORM FROM scheduler.calendars k WHERE k.name = NEW.calendar FOR SHARE;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_calendar_locked() IS
  'Keeps the calendar of a campaign with a new strategy as it is until the transaction ends: whoever changes it comes before or after.';
CREATE TRIGGER campaigns_calendar_locked BEFORE INSERT OR UPDATE ON scheduler.campaigns
  FOR EACH ROW WHEN (NEW.calendar IS NOT NULL) EXECUTE FUNCTION scheduler.campaigns_calendar_locked();

------------------------------------------------------------------------ writing

CREATE FUNCTION scheduler.refuse_calendar(problems scheduler.strategy_problem[], in_table text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  message text; detail text; hint text;
BEGIN
  SELECT string_agg(p.field || ': ' || p.message, '; ' ORDER BY p.n), string_agg(p.field || ' = ' || coalesce(p.value, 'NULL'), E'\n' ORDER BY p.n),
         string_agg(p.field || ': ' || p.hint, E'\n' ORDER BY p.n)
    INTO message, detail, hint FROM unnest(problems) WITH ORDINALITY AS p (field, message, value, hint, n);
  RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = 'scheduler', TABLE = in_table;
END $$;
COMMENT ON FUNCTION scheduler.refuse_calendar(scheduler.strategy_problem[], text) IS 'Raises 23514 that lists what is wrong with a calendar or one of its days.';

CREATE FUNCTION scheduler.refuse_named_calendar(calendar text, deed text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  n bigint;
BEGIN
  SELECT count(*) INTO n FROM scheduler.campaigns c WHERE c.calendar = refuse_named_calendar.calendar AND c.status <> 'cancelled';
  IF n > 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', SCHEMA = 'scheduler', TABLE = 'calendars', COLUMN = 'name',
      MESSAGE = format('calendar %s cannot be %s: %s %s it', calendar, deed, n, CASE n WHEN 1 THEN 'campaign names' ELSE 'campaigns name' END),
      HINT = format('cancel them, or have them name another: SELECT id, name FROM scheduler.campaigns WHERE calendar = %L AND status <> ''cancelled''', calendar);
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.refuse_named_calendar(text, text) IS 'Raises 23503 when campaigns that are not cancelled name a calendar that is to be deleted or renamed.';

CREATE FUNCTION scheduler.calendars_judge() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}';
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  IF TG_OP = 'DELETE' THEN
    PERFORM scheduler.refuse_named_calendar(OLD.name, 'deleted');
    RETURN OLD;
  END IF;
  IF octet_length(NEW.name) BETWEEN 1 AND 64 AND NEW.name !~ '[[:cntrl:]]' AND NEW.name = btrim(NEW.name) THEN
    NULL;
  ELSE
    problems := problems || scheduler.as_problem('name', 'must have from 1 to 64 bytes, no control character, and no space at its ends', quote_nullable(NEW.name), 'give it a short name such as china');
  END IF;
  IF scheduler.day_in_zone(clock_timestamp(), NEW.time_zone) IS NULL THEN
    problems := problems || scheduler.as_problem('time_zone', 'must be an IANA time zone, spelt as the IANA database spells it', quote_nullable(NEW.time_zone),
      'use an Area/Location name such as Asia/Shanghai, or UTC; abbreviations and offsets are not zones');
  END IF;
  NEW.open_weekdays := ARRAY(SELECT DISTINCT d FROM unnest(NEW.open_weekdays) d ORDER BY d);
  IF cardinality(NEW.open_weekdays) > 7 OR NOT NEW.open_weekdays <@ '{1,2,3,4,5,6,7}'::smallint[] THEN
    problems := problems || scheduler.as_problem('open_weekdays', 'must hold days from 1 (Monday) to 7 (Sunday)', NEW.open_weekdays::text, 'write the days of the week that are open, for example {1,2,3,4,5}');
  END IF;
  IF cardinality(problems) > 0 THEN
    PERFORM scheduler.refuse_calendar(problems, 'calendars');
  END IF;
  NEW.updated_by := scheduler.actor();
  NEW.updated_via := scheduler.actor_via();
  NEW.updated_at := clock_timestamp();
  IF TG_OP = 'INSERT' THEN
    NEW.created_by := NEW.updated_by;
    NEW.created_via := NEW.updated_via;
    NEW.created_at := NEW.updated_at;
    IF 1000 <= (SELECT count(*) FROM scheduler.calendars) AND NOT EXISTS (SELECT FROM scheduler.calendars k WHERE k.name = NEW.name) THEN
      PERFORM scheduler.refuse_calendar(ARRAY[scheduler.as_problem('name', 'there must not be more than 1000 calendars', NEW.name,
        'delete those that nothing needs: SELECT scheduler.delete_calendar(name)')], 'calendars');
    END IF;
  ELSE
    NEW.created_by := OLD.created_by;
    NEW.created_via := OLD.created_via;
    NEW.created_at := OLD.created_at;
    IF NEW.name <> OLD.name THEN
      PERFORM scheduler.refuse_named_calendar(OLD.name, 'renamed');
    END IF;
  END IF;
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.calendars_judge() IS 'Refuses bad calendars, and to delete or rename one that campaigns name; writes who did it.';

CREATE FUNCTION scheduler.calendar_days_judge() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  problems scheduler.strategy_problem[] := '{}';
BEGIN
  IF NEW.day NOT BETWEEN '1970-01-01' AND '2200-12-31' THEN
    problems := problems || scheduler.as_problem('day', 'must be of the years 1970 to 2200', NEW.day::text, 'write the date as YYYY-MM-DD');
  END IF;
  IF octet_length(NEW.why) > 200 OR NEW.why ~ '[[:cntrl:]]' THEN
    problems := problems || scheduler.as_problem('why', 'must have at most 200 bytes and no control character', quote_literal(NEW.why), 'write a word, such as the name of the holiday');
  END IF;
  IF cardinality(problems) > 0 THEN
    PERFORM scheduler.refuse_calendar(problems, 'calendar_days');
  END IF;
  NEW.why := nullif(NEW.why, '');
  NEW.updated_by := scheduler.actor();
  NEW.updated_via := scheduler.actor_via();
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END $$;
COMMENT ON FUNCTION scheduler.calendar_days_judge() IS 'Refuses bad days of a calendar, and writes who did it.';

CREATE TRIGGER calendars_judge BEFORE INSERT OR UPDATE OR DELETE ON scheduler.calendars FOR EACH ROW EXECUTE FUNCTION scheduler.calendars_judge();
CREATE TRIGGER calendar_days_judge BEFORE INSERT OR UPDATE ON scheduler.calendar_days FOR EACH ROW EXECUTE FUNCTION scheduler.calendar_days_judge();

---------------------------------------------------------------------- following

-- Whoever changes the days of a calendar writes its row, and whoever writes a campaign
-- that names it locks that row, so that one of them sees what the other did.
CREATE FUNCTION scheduler.calendar_days_followed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  names text[]; full_one text;
BEGIN
  IF TG_OP = 'INSERT' THEN
    names := ARRAY(SELECT DISTINCT n.calendar FROM changed n);
  ELSIF TG_OP = 'DELETE' THEN
    names := ARRAY(SELECT DISTINCT o.calendar FROM was o);
  ELSE
    names := ARRAY(SELECT o.calendar FROM was o UNION SELECT n.calendar FROM changed n);
  END IF;
  PERFORM FROM scheduler.calendars k WHERE k.name = ANY (names) ORDER BY k.name FOR NO KEY UPDATE;
  SELECT d.calendar INTO full_one FROM scheduler.calendar_days d WHERE d.calendar = ANY (names) GROUP BY d.calendar HAVING count(*) > 5000 LIMIT 1;
  IF full_one IS NOT NULL THEN
    PERFORM scheduler.refuse_calendar(ARRAY[scheduler.as_problem('day', 'a calendar must not have more than 5000 days', full_one,
      'delete those of past years: SELECT scheduler.delete_calendar_days(calendar, days)')], 'calendar_days');
  END IF;
  UPDATE scheduler.calendars k SET updated_at = clock_timestamp() WHERE k.name = ANY (names); -- calendars_followed goes on
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.calendar_days_followed() IS 'Has a change of a calendar''s days count as one of the calendar, and bounds how many there are.';

CREATE FUNCTION scheduler.calendars_followed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  names text[] := ARRAY(SELECT n.name FROM changed n); touched bigint; c scheduler.campaigns; closed timestamptz[];
  at timestamptz := date_trunc('second', clock_timestamp()) + interval '1 second';
BEGIN
  FOR touched IN SELECT k.id FROM scheduler.campaigns k
     WHERE k.calendar = ANY (names) AND k.status <> 'cancelled' AND k.strategy_type IN (1, 2) AND scheduler.campaign_closed(k, at) IS DISTINCT FROM k.calendar_closed
     ORDER BY k.id LOOP
    SELECT k.* INTO c FROM scheduler.campaigns k WHERE k.id = touched AND k.calendar = ANY (names) AND k.status <> 'cancelled' FOR NO KEY UPDATE;
    CONTINUE WHEN NOT FOUND;
    closed := scheduler.campaign_closed(c, at); -- an author may have changed it meanwhile
    CONTINUE WHEN closed IS NOT DISTINCT FROM c.calendar_closed
      OR c.status = 'finished' AND c.strategy_type = 1 AND to_timestamp((c.strategy_content ->> 'fixedTime')::numeric::double precision / 1000) < at;
    UPDATE scheduler.campaigns k SET calendar_closed = closed, calendar_since = clock_timestamp() WHERE k.id = c.id;
  END LOOP;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.calendars_followed() IS 'Writes what a changed calendar says into the campaigns that name it, as far as it differs from now on, and so has them planned anew.';

CREATE TRIGGER calendars_followed AFTER UPDATE ON scheduler.calendars
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION scheduler.calendars_followed();
CREATE TRIGGER calendar_days_followed_insert AFTER INSERT ON scheduler.calendar_days
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION scheduler.calendar_days_followed();
CREATE TRIGGER calendar_days_followed_update AFTER UPDATE ON scheduler.calendar_days
  REFERENCING OLD TABLE AS was NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION scheduler.calendar_days_followed();
CREATE TRIGGER calendar_days_followed_delete AFTER DELETE ON scheduler.calendar_days
  REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION scheduler.calendar_days_followed();

CREATE FUNCTION scheduler.delete_calendar(name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM scheduler.calendars k WHERE k.name = delete_calendar.name;
  RETURN FOUND;
END $$;
COMMENT ON FUNCTION scheduler.delete_calendar(text) IS 'Deletes a calendar that no campaign names, with its days. Returns whether there was one.';

CREATE FUNCTION scheduler.delete_calendar_days(calendar text, days date[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  n bigint;
BEGIN
  DELETE FROM scheduler.calendar_days d WHERE d.calendar = delete_calendar_days.calendar AND d.day = ANY (days);
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$;
COMMENT ON FUNCTION scheduler.delete_calendar_days(text, date[]) IS 'Deletes days of a calendar, which are then as their weekday says. Returns how many there were.';

------------------------------------------------------------------------- verdict

DROP FUNCTION scheduler.strategy_problems(smallint, jsonb, text, text, text, interval, timestamptz, text[]);
DROP FUNCTION scheduler.strategy_warnings(smallint, jsonb, text, text, text, interval, timestamptz, text[]);
DROP FUNCTION scheduler.strategy_verdict(smallint, jsonb, text, text, text, interval, timestamptz, text[]);

CREATE FUNCTION scheduler.strategy_verdict(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz, times text[] DEFAULT NULL,
  calendar text DEFAULT NULL, calendar_policy text DEFAULT NULL, calendar_closed timestamptz[] DEFAULT NULL,
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
  has_calendar boolean := calendar <> ''; policy_good boolean := coalesce(calendar_policy, 'skip') IN ('skip', 'next_open', 'previous_open');
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
  IF has_calendar AND strategy_type = 0 THEN
    warnings := warnings || ROW('calendar', 'is ignored: it belongs to strategy types 1 (fixed time) and 2 (loop)')::scheduler.strategy_warning;
  END IF;
  IF NOT policy_good THEN
    problems := problems || scheduler.as_problem('calendar_policy', 'must be skip, next_open or previous_open', calendar_policy,
      'skip leaves out what falls on a closed day; next_open and previous_open move it to the nearest open day after or before');
  ELSIF calendar_policy IS NOT NULL AND has_calendar IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('calendar_policy', 'must come with a calendar', calendar_policy,
      'name a calendar in the column calendar, or leave calendar_policy out');
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
      ELSIF has_calendar AND policy_good AND today IS NOT NULL AND NOT EXISTS (
          SELECT FROM scheduler.open_occurrences(1::smallint, jsonb_build_object('fixedTime', w.n), time_zone, short_month_policy, dst_gap_policy, NULL,
            written_at, calendar_policy, calendar_closed, NULL)) THEN
        problems := problems || scheduler.as_problem(key,
          CASE WHEN coalesce(calendar_policy, 'skip') = 'skip' THEN 'must not lie on a day that the calendar closes'
            ELSE 'must have an open day of the calendar within 31 days to move to' END, v,
          format('it means %s in %s, where calendar %s is closed: write another moment', to_char(at AT TIME ZONE time_zone, 'YYYY-MM-DD HH24:MI:SS'), time_zone, calendar)
            || CASE WHEN coalesce(calendar_policy, 'skip') = 'skip' THEN ', or calendar_policy next_open or previous_open' ELSE '' END);
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
    IF has_calendar THEN
      IF EXISTS (SELECT FROM scheduler.open_occurrences(strategy_type, doc::jsonb, time_zone, short_month_policy, dst_gap_policy, clocks,
           written_at, calendar_policy, calendar_closed, NULL)) THEN
        RETURN;
      END IF;
      problems := problems || scheduler.as_problem('strategy_content', 'must yield at least one occurrence from now on', body,
        format('widen startTime to endTime, or change circleValue, %s, short_month_policy, dst_gap_policy or calendar_policy; calendar %s closes days among these',
          CASE WHEN cardinality(times) > 0 THEN 'times' ELSE 'time' END, calendar));
      RETURN;
    END IF;
    FOREACH clock IN ARRAY clocks LOOP
      IF scheduler.strategy_occurs(time_zone, start_day, end_day, circle_type, days, clock::time, short_month_policy, dst_gap_policy, written_at) THEN
        RETURN;
      END IF;
    END LOOP;
    problems := problems || scheduler.as_problem('strategy_content', 'must yield at least one occurrence from now on', body,
      format('widen startTime to endTime, or change circleValue, %s, short_month_policy or dst_gap_policy', CASE WHEN cardinality(times) > 0 THEN 'times' ELSE 'time' END));
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.strategy_verdict(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]) IS
  'Judges a strategy once: every problem and every warning, in a fixed order. written_at decides which day is today.';

CREATE FUNCTION scheduler.strategy_problems(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz,
  times text[] DEFAULT NULL,
  calendar text DEFAULT NULL, calendar_policy text DEFAULT NULL, calendar_closed timestamptz[] DEFAULT NULL)
RETURNS TABLE (field text, message text, value text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT p.field, p.message, p.value, p.hint
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS v, unnest(v.problems) AS p
$$;
COMMENT ON FUNCTION scheduler.strategy_problems(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]) IS
  'Every reason to refuse a strategy, one row each; none: it is good. Try a strategy out with it before inserting a campaign.';

CREATE FUNCTION scheduler.strategy_warnings(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz,
  times text[] DEFAULT NULL,
  calendar text DEFAULT NULL, calendar_policy text DEFAULT NULL, calendar_closed timestamptz[] DEFAULT NULL)
RETURNS TABLE (field text, message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT w.field, w.message
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS v, unnest(v.warnings) AS w
$$;
COMMENT ON FUNCTION scheduler.strategy_warnings(smallint, jsonb, text, text, text, interval, timestamptz, text[], text, text, timestamptz[]) IS
  'What the author of a strategy should know of, one row each.';

CREATE OR REPLACE FUNCTION scheduler.strategy_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (a.strategy_type, a.strategy_content, a.time_zone, a.short_month_policy, a.dst_gap_policy, a.times, a.calendar, a.calendar_policy, a.calendar_closed)
    IS DISTINCT FROM (b.strategy_type, b.strategy_content, b.time_zone, b.short_month_policy, b.dst_gap_policy, b.times, b.calendar, b.calendar_policy, b.calendar_closed)
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
  IF NOT EXISTS (SELECT FROM scheduler.calendars k WHERE k.name = c.calendar) AND c.calendar IS NOT NULL THEN
    problems := problems || scheduler.as_problem('calendar', 'must be a calendar in scheduler.calendars', quote_literal(c.calendar),
      coalesce('use one of ' || (SELECT string_agg(k.name, ', ' ORDER BY k.name) FROM (SELECT x.name FROM scheduler.calendars x ORDER BY x.name LIMIT 10) k),
        'there is none yet: an admin inserts one'));
  END IF;
  IF c.quiet_policy NOT IN ('hold', 'skip', 'ignore') THEN
    problems := problems || scheduler.as_problem('quiet_policy', 'must be hold, skip or ignore', quote_literal(c.quiet_policy),
      'hold pushes at the end of the app''s quiet hours, skip leaves the occurrence out');
  END IF;
  problems := problems || scheduler.spread_problems(c);
  RETURN problems;
END $$;

------------------------------------------------------------------------ triggers

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
     AND NEW.calendar IS NULL AND NEW.calendar_policy IS NULL AND NEW.calendar_closed IS NULL AND NEW.calendar_since IS NULL
     AND (NEW.client_token IS NULL OR octet_length(NEW.client_token) BETWEEN 1 AND 128)
     AND jsonb_typeof(NEW.request) = 'object' AND octet_length(NEW.request::text) <= 4000 AND NOT NEW.request @? '$.**{33}'
     AND scheduler.strategy_is_plain(NEW.strategy_type, content, zone, at)
  THEN
    NEW.app_no := app;
    NEW.time_zone := zone;
  END IF;
  RETURN NEW;
END $$;

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
  IF TG_OP = 'UPDATE' AND NEW.calendar_since > coalesce(OLD.calendar_since, '-infinity') AND pg_trigger_depth() > 1 AND scheduler.is_owner() THEN
    NEW.revision := OLD.revision + 1; -- calendars_followed
    NEW.updated_at := at;
    IF NEW.status = 'finished' THEN
      NEW.status := 'active';
    END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'UPDATE' THEN
    PERFORM scheduler.refuse_old_snapshot();
    NEW.calendar_closed := OLD.calendar_closed; -- the scheduler's own
    NEW.calendar_since := OLD.calendar_since;
  ELSE
    NEW.calendar_closed := NULL;
    NEW.calendar_since := NULL;
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
    NEW.calendar_closed := scheduler.campaign_closed(NEW, NULL);
    NEW.calendar_since := NULL;
    -- Without an app there is no zone but the author's own, and no today.
    SELECT * INTO verdict FROM scheduler.strategy_verdict(NEW.strategy_type, NEW.strategy_content,
      CASE WHEN app.app_no IS NULL THEN zone ELSE NEW.time_zone END, NEW.short_month_policy, NEW.dst_gap_policy, NEW.catch_up_window, NEW.written_at, given,
      NEW.calendar, NEW.calendar_policy, NEW.calendar_closed);
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

--------------------------------------------------------------------- occurrences

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
    SELECT to_timestamp(trunc((v.content ->> 'fixedTime')::numeric / 1000)::double precision) FROM version v WHERE v.strategy_type = 1 AND v.calendar_closed IS NULL
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
     WHERE v.strategy_type = 2 AND v.calendar_closed IS NULL AND i.due_at >= v.written_at
       AND CASE l.kind WHEN 1 THEN true
           WHEN 2 THEN extract(isodow FROM g.day) = ANY (l.chosen)
           ELSE extract(day FROM g.day) = ANY (l.chosen)
             OR v.short_month_policy = 'last_day' AND extract(day FROM g.day + interval '1 day') = 1
                AND extract(day FROM g.day) < (SELECT max(x) FROM unnest(l.chosen) x)
           END
    UNION ALL
    SELECT p.due_at
      FROM version v
     CROSS JOIN LATERAL scheduler.open_occurrences(v.strategy_type, v.content, v.zone, v.short_month_policy, v.dst_gap_policy, v.times,
       v.written_at, v.calendar_policy, v.calendar_closed, v.calendar_since) AS p (due_at)
     WHERE v.calendar_closed IS NOT NULL
  )
  SELECT DISTINCT o.due_at FROM occurrence o WHERE o.due_at BETWEEN occurrences.since AND occurrences.until ORDER BY o.due_at
$$;

---------------------------------------------------------------------- privileges

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
    GRANT INSERT, UPDATE (name, time_zone, open_weekdays) ON scheduler.calendars TO scheduler_admin;
    GRANT INSERT, UPDATE (calendar, day, open, why) ON scheduler.calendar_days TO scheduler_admin;
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
       WHERE c.relnamespace = 'scheduler'::regnamespace AND c.relname = ANY ('{audit,state,quota_calls,skipped_occurrences,quiet_exemptions,revocations,revocation_calls,calendars,calendar_days}') LOOP
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

SELECT scheduler.set_schema_version(31);

-- The rules of the campaigns table: a bad row is refused with every problem at
-- once, a change takes its pending tasks with it in the author's own
-- transaction, and the planner is told.
--
-- An author's transaction may stay open for minutes, so it locks nothing but
-- the author's own campaigns and their pending tasks.

CREATE FUNCTION scheduler.is_daemon() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(current_setting('scheduler.daemon', true), '') = 'on' $$;
COMMENT ON FUNCTION scheduler.is_daemon() IS 'Whether the session says it is the engine, which alone may finish and reject campaigns.';

CREATE FUNCTION scheduler.refuse(problems scheduler.strategy_problem[]) RETURNS void
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

-- A change takes away the tasks it finds. A snapshot from before it would hide
-- those that were planned since, and they would be pushed all the same.
CREATE FUNCTION scheduler.refuse_old_snapshot() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_transaction_state', SCHEMA = 'scheduler', TABLE = 'campaigns',
      MESSAGE = format('campaigns and limits cannot be changed at isolation level %s', current_setting('transaction_isolation')),
      DETAIL = 'tasks planned after the transaction''s snapshot would be pushed although the change forbids it',
      HINT = 'begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED';
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.refuse_old_snapshot() IS 'Raises 25000 in a transaction that does not see what has been committed since its first statement.';

CREATE FUNCTION scheduler.strategy_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (a.strategy_type, a.strategy_content, a.time_zone, a.short_month_policy, a.dst_gap_policy)
    IS DISTINCT FROM (b.strategy_type, b.strategy_content, b.time_zone, b.short_month_policy, b.dst_gap_policy)
$$;
COMMENT ON FUNCTION scheduler.strategy_changed(scheduler.campaigns, scheduler.campaigns) IS 'Whether two versions of a campaign may have different occurrences.';

CREATE FUNCTION scheduler.content_changed(a scheduler.campaigns, b scheduler.campaigns) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT scheduler.strategy_changed(a, b)
    OR (a.name, a.channel, a.request, a.audience_view, a.misfire_policy, a.catch_up_window, a.resend_unknown)
    IS DISTINCT FROM (b.name, b.channel, b.request, b.audience_view, b.misfire_policy, b.catch_up_window, b.resend_unknown)
$$;
COMMENT ON FUNCTION scheduler.content_changed(scheduler.campaigns, scheduler.campaigns) IS 'Whether an author changed anything but the status.';

-- What is wrong with a row, beside its strategy: its app, its channel, and the
-- columns whose values come from a list.
CREATE FUNCTION scheduler.campaign_problems(c scheduler.campaigns, app scheduler.apps) RETURNS scheduler.strategy_problem[]
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
COMMENT ON FUNCTION scheduler.campaign_problems(scheduler.campaigns, scheduler.apps) IS 'What is wrong with a campaign''s columns, beside its strategy.';

-- What is wrong with a change of status, or with changing what may not change.
CREATE FUNCTION scheduler.change_problems(a scheduler.campaigns, b scheduler.campaigns) RETURNS scheduler.strategy_problem[]
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
COMMENT ON FUNCTION scheduler.change_problems(scheduler.campaigns, scheduler.campaigns) IS 'What is wrong with turning one version of a campaign into another.';

CREATE FUNCTION scheduler.campaigns_judge() RETURNS trigger
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
COMMENT ON FUNCTION scheduler.campaigns_judge() IS 'Refuses bad rows, materialises defaults and keeps the columns that are the scheduler''s.';

CREATE TRIGGER campaigns_judge BEFORE INSERT OR UPDATE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_judge();

-- What a change does to the campaign's tasks that have not begun. The row locks
-- taken here are what makes a pause or a cancel hold from its commit: a claim
-- skips locked rows, and a row that is gone cannot be claimed.
CREATE FUNCTION scheduler.withdraw_tasks(c scheduler.campaigns, reason text, keep_future boolean, gone boolean) RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  earliest timestamptz; at timestamptz := clock_timestamp();
BEGIN
  -- keep_future: coming occurrences are withdrawn without a decision, since they
  -- return with the new revision or after the pause.
  WITH withdrawn AS (
    DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id RETURNING p.*
  ), decided AS (
    INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at,
        attempts, slices, accepted, target_count, reason)
    SELECT w.id, w.app_no, w.campaign_id, w.revision, (SELECT k.channel_no FROM scheduler.channels k WHERE k.channel = c.channel),
        w.origin, 'cancelled', w.due_at, at, 0, 0, 0, 0, withdraw_tasks.reason
      FROM withdrawn w
     WHERE NOT keep_future OR (gone AND w.due_at <= at) OR w.origin = 'triggered'
  )
  SELECT min(w.due_at) INTO earliest FROM withdrawn w
   WHERE keep_future AND NOT (gone AND w.due_at <= at) AND w.origin <> 'triggered';
  RETURN earliest;
END $$;
COMMENT ON FUNCTION scheduler.withdraw_tasks(scheduler.campaigns, text, boolean, boolean) IS 'Takes a campaign''s pending tasks away; returns the earliest occurrence that was left without a decision.';

CREATE FUNCTION scheduler.campaigns_changed() RETURNS trigger
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
COMMENT ON FUNCTION scheduler.campaigns_changed() IS 'Carries a change over to the campaign''s tasks, keeps the audit, and tells the planner.';

CREATE TRIGGER campaigns_changed AFTER UPDATE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_changed();

-- Runs with the author's own rights, so that the audit names the author.
CREATE FUNCTION scheduler.campaigns_note_actor() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  PERFORM set_config('scheduler.actor', current_user, true);
  RETURN OLD;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_note_actor() IS 'Remembers who deletes a campaign, for the audit.';

CREATE TRIGGER campaigns_note_actor BEFORE DELETE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_note_actor();

CREATE FUNCTION scheduler.campaigns_deleted() RETURNS trigger
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
COMMENT ON FUNCTION scheduler.campaigns_deleted() IS 'Cancels what a deleted campaign had not begun; its record stays.';

CREATE TRIGGER campaigns_deleted AFTER DELETE ON scheduler.campaigns
  FOR EACH ROW EXECUTE FUNCTION scheduler.campaigns_deleted();

CREATE FUNCTION scheduler.campaigns_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT n.app_no, n.id FROM inserted n;
  PERFORM pg_notify('scheduler_changes', CASE WHEN count(*) = 1 THEN min(a.app_no)::text ELSE '' END)
    FROM (SELECT DISTINCT n.app_no FROM inserted n LIMIT 2) a HAVING count(*) > 0;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaigns_inserted() IS 'Tells the planner of new campaigns, once a statement.';

CREATE TRIGGER campaigns_inserted AFTER INSERT ON scheduler.campaigns
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaigns_inserted();

-- The cap. Slots are unique per app, so bounding them bounds the tasks. The app's
-- row is locked when slots are given: whoever lowers its limit at the same time
-- sees these tasks, or is seen here. Authors' changes give none and lock nothing.
CREATE FUNCTION scheduler.pending_tasks_capped() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  bad record;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NOT EXISTS (SELECT FROM stored n LEFT JOIN was o USING (id) WHERE (n.app_no, n.slot) IS DISTINCT FROM (o.app_no, o.slot)) THEN
      RETURN NULL;
    END IF;
  END IF;
  PERFORM FROM scheduler.apps a WHERE a.app_no IN (SELECT n.app_no FROM stored n WHERE n.slot IS NOT NULL) FOR SHARE;
  SELECT n.app_no, n.slot, a.pending_limit INTO bad
    FROM stored n LEFT JOIN scheduler.apps a USING (app_no) WHERE n.slot > a.pending_limit OR a.app_no IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', SCHEMA = 'scheduler', TABLE = 'pending_tasks',
      MESSAGE = format('app %s: slot %s is over the pending limit of %s', bad.app_no, bad.slot, bad.pending_limit),
      HINT = 'the planner stores the task when an earlier one has begun';
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.pending_tasks_capped() IS 'Refuses a task beyond its app''s pending limit.';

CREATE TRIGGER pending_tasks_capped_insert AFTER INSERT ON scheduler.pending_tasks
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.pending_tasks_capped();
CREATE TRIGGER pending_tasks_capped_update AFTER UPDATE ON scheduler.pending_tasks
  REFERENCING OLD TABLE AS was NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.pending_tasks_capped();

-- A lowered limit holds at once: the latest tasks beyond it return to the plan.
CREATE FUNCTION scheduler.apps_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF NEW.app_no <> OLD.app_no OR (NEW.app_id, NEW.workspace_id) IS DISTINCT FROM (OLD.app_id, OLD.workspace_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'app_id, workspace_id and app_no of an app cannot change', HINT = 'insert another app';
  END IF;
  IF NEW.pending_limit <> OLD.pending_limit THEN
    PERFORM scheduler.refuse_old_snapshot();
    WITH withdrawn AS (
      DELETE FROM scheduler.pending_tasks p WHERE p.app_no = NEW.app_no AND p.slot > NEW.pending_limit RETURNING p.campaign_id, p.due_at
    )
    INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to)
      SELECT NEW.app_no, w.campaign_id, min(w.due_at) FROM withdrawn w GROUP BY w.campaign_id
      UNION ALL SELECT NEW.app_no, 0, NULL; -- campaign 0 is none: plan the app
    PERFORM pg_notify('scheduler_changes', NEW.app_no::text);
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.apps_changed() IS 'Makes a changed pending limit hold.';

CREATE TRIGGER apps_changed AFTER UPDATE ON scheduler.apps
  FOR EACH ROW EXECUTE FUNCTION scheduler.apps_changed();

-- A booking belongs to an attempt. A delivery that ends while it waits for one,
-- since it is cancelled or too late, gives its booking back.
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

SELECT scheduler.set_schema_version(4);

-- What rests on quiet hours would be pushed within them: it has to go first.
DO $$
BEGIN
  IF EXISTS (SELECT FROM scheduler.apps WHERE quiet_from IS NOT NULL) OR EXISTS (SELECT FROM scheduler.campaigns WHERE quiet_policy IS NOT NULL) THEN
    RAISE EXCEPTION 'there are apps with quiet hours, or campaigns with a quiet_policy, which the schema of before does not know' USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = 'UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL; UPDATE scheduler.campaigns SET quiet_policy = NULL WHERE quiet_policy IS NOT NULL';
  END IF;
END $$;

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
  ) AS v (name, becomes, was) LOOP
    text_before := pg_get_functiondef(change.name::regprocedure);
    text_after := replace(text_before, change.was, change.becomes);
    IF text_after = text_before THEN
      RAISE EXCEPTION 'function % has not the text "%"', change.name, change.was;
    END IF;
    EXECUTE text_after;
  END LOOP;
END $$;

DROP FUNCTION scheduler.revoke_quiet_exemption(bigint, text);
DROP FUNCTION scheduler.grant_quiet_exemption(text, text, text, text, text);
DROP TRIGGER apps_quiet_recorded_first ON scheduler.apps;
DROP TRIGGER apps_quiet_recorded ON scheduler.apps;
DROP TRIGGER apps_quiet_changed ON scheduler.apps;
DROP TRIGGER apps_quiet ON scheduler.apps;
DROP FUNCTION scheduler.apps_quiet_recorded();
DROP FUNCTION scheduler.apps_quiet_changed();
DROP FUNCTION scheduler.apps_quiet();
DROP FUNCTION scheduler.end_quiet_holds(integer, time, time, text, bigint);
DROP TABLE scheduler.quiet_changes;
DROP FUNCTION scheduler.quiet_skips(bigint, timestamptz);
DROP FUNCTION scheduler.held_window_end(integer, bigint, timestamptz, interval);
DROP FUNCTION scheduler.ignores_quiet_hours(bigint);
DROP FUNCTION scheduler.quiet_exempt(integer, text, text);
DROP TABLE scheduler.quiet_exemptions;
DROP FUNCTION scheduler.quiet_window_from(time, time, text, timestamptz, interval);
DROP FUNCTION scheduler.quiet_end(time, time, text, timestamptz);
DROP FUNCTION scheduler.quiet_periods(time, time, text, timestamptz);
DROP FUNCTION scheduler.local_instant(timestamp, text);
UPDATE scheduler.pending_tasks SET ready_at = due_at, waits_for = NULL WHERE waits_for = 'the end of quiet hours';
ALTER TABLE scheduler.pending_tasks DROP COLUMN window_from;
ALTER TABLE scheduler.campaigns DROP COLUMN quiet_policy;
ALTER TABLE scheduler.apps DROP COLUMN quiet_from, DROP COLUMN quiet_until;
COMMENT ON COLUMN scheduler.pending_tasks.ready_at IS 'When the dispatcher should look at it: due_at, or later while it waits for a quota.';
COMMENT ON COLUMN scheduler.pending_tasks.waits_for IS 'quota, when it waits for one.';
COMMENT ON COLUMN scheduler.running_tasks.window_from IS 'Where its catch-up window begins: when it was ruled to be sent again; NULL: due_at.';

SELECT scheduler.set_schema_version(27);

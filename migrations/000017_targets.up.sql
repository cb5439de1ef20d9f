-- Targets are judged where they are: rows as they are written, by the rules that
-- the adapters judge a request's own targets and the rows of audience views by.
-- A campaign that turns bad or good without a change of its row is looked at.

-- The adapters' rules for one target, as far as SQL can tell. The shared cases of
-- dispatch/dispatchtest are run through both.
CREATE FUNCTION scheduler.target_problem(channel text, target text, template_key_value jsonb, extended_params jsonb, OUT field text, OUT message text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  values_given CONSTANT boolean := coalesce(template_key_value, '{}') <> '{}'; params_given CONSTANT boolean := coalesce(extended_params, '{}') <> '{}';
  key text; bad jsonb;
BEGIN
  IF btrim(target, E' \t\n\v\f\r') = '' THEN
    field := 'target'; message := 'must not be empty';
  ELSIF channel IN ('mpaas.push_simple', 'mpaas.push_template') THEN
    IF values_given OR params_given THEN
      field := CASE WHEN values_given THEN 'template_key_value' ELSE 'extended_params' END;
      message := format('must be empty: %s has no values for a single target, which only mpaas.push_multiple can send', channel);
    END IF;
  ELSIF channel = 'mpaas.push_multiple' THEN
    SELECT k, v INTO key, bad FROM jsonb_each(template_key_value) AS e (k, v) WHERE jsonb_typeof(v) IN ('null', 'object', 'array') LIMIT 1;
    IF FOUND THEN
      field := 'template_key_value'; message := format('must hold texts for placeholders, and %s is %s', to_json(left(key, 64)),
        CASE jsonb_typeof(bad) WHEN 'null' THEN 'null' WHEN 'object' THEN 'an object' ELSE 'a list' END);
      RETURN;
    END IF;
    SELECT k INTO key FROM jsonb_object_keys(extended_params) k WHERE k IN ('notifyType', 'action', 'silent', 'pushType', 'templateCode', 'channel', 'taskId') LIMIT 1;
    IF FOUND THEN
      field := 'extended_params'; message := format('must not hold "%s", which is reserved', key);
    ELSIF (SELECT count(*) FROM jsonb_object_keys(extended_params)) > 9 THEN
      field := 'extended_params'; message := 'must not have more than 9 keys';
    END IF;
  ELSIF channel = 'alipay.single_send' THEN
    IF params_given THEN
      field := 'extended_params'; message := 'must be empty: a single send has none';
      RETURN;
    END IF;
    SELECT k INTO key FROM jsonb_each(template_key_value) AS e (k, v)
     WHERE k NOT IN ('first', 'keyword1', 'keyword2', 'remark', 'url', 'action_name', 'head_color')
        OR jsonb_typeof(v) <> 'string' AND (k IN ('url', 'action_name', 'head_color') OR jsonb_typeof(v) <> 'object'
           OR jsonb_typeof(v -> 'value') IS DISTINCT FROM 'string' OR coalesce(jsonb_typeof(v -> 'color'), 'string') <> 'string' OR v - 'value' - 'color' <> '{}')
     LIMIT 1;
    IF FOUND THEN
      field := 'template_key_value'; message := format('has no good %s: its members are first, keyword1, keyword2 and remark, each a text or {"value": "...", "color": "..."}, and the texts url, action_name and head_color',
        to_json(left(key, 64)));
    END IF;
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.target_problem(text, text, jsonb, jsonb) IS 'What is wrong with a target of a channel: the column and the rule; NULL: nothing.';

-- A campaign that names its audience itself, in its request or by its channel: it
-- is bad while it has targets of its own as well.
CREATE FUNCTION scheduler.names_its_audience(c scheduler.campaigns) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c.request ?| '{targetMsgkey,TargetMsgkey,targetMsgs,TargetMsgs,targetMsg,TargetMsg,to_user_id,to_open_id}'
      OR EXISTS (SELECT FROM scheduler.channels k WHERE k.channel = c.channel AND k.max_targets = 0)
$$;
COMMENT ON FUNCTION scheduler.names_its_audience(scheduler.campaigns) IS 'Whether a campaign must have no targets besides those that its request or its channel names.';

-- Once a statement. The good row costs a look at its columns; the function is for
-- those that have parameters.
CREATE FUNCTION scheduler.campaign_targets_judged() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  bad record;
BEGIN
  SELECT count(*) AS n, min(x.campaign_id) AS campaign_id, (array_agg(x.target))[1] AS target, (array_agg(x.field))[1] AS field, (array_agg(x.message))[1] AS message
    INTO bad
    FROM (SELECT s.campaign_id, s.target, p.field, p.message
            FROM stored s JOIN scheduler.campaigns c ON c.id = s.campaign_id
           CROSS JOIN LATERAL scheduler.target_problem(c.channel, s.target, s.template_key_value, s.extended_params) p
           WHERE (s.template_key_value IS NOT NULL OR s.extended_params IS NOT NULL OR btrim(s.target, E' \t\n\v\f\r') = '')
             AND p.field IS NOT NULL) x;
  IF bad.n > 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', SCHEMA = 'scheduler', TABLE = 'campaign_targets', COLUMN = bad.field,
      MESSAGE = format('%s: %s', bad.field, bad.message),
      DETAIL = format('%s of the rows; one is campaign %s, target %s', bad.n, bad.campaign_id, to_json(left(bad.target, 64))),
      HINT = 'leave the row out or correct it; nothing of the statement was stored';
  END IF;
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
    SELECT c.app_no, c.id FROM (SELECT DISTINCT campaign_id FROM stored) s JOIN scheduler.campaigns c ON c.id = s.campaign_id
     WHERE c.status = 'active' AND scheduler.names_its_audience(c);
  IF FOUND THEN
    PERFORM pg_notify('scheduler_changes', '');
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaign_targets_judged() IS 'Refuses rows whose target cannot be sent, and has a campaign judged again that must have none.';

CREATE TRIGGER campaign_targets_judged_insert AFTER INSERT ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_judged();
CREATE TRIGGER campaign_targets_judged_update AFTER UPDATE ON scheduler.campaign_targets
  REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_judged();

CREATE FUNCTION scheduler.campaign_targets_removed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id)
    SELECT c.app_no, c.id FROM (SELECT DISTINCT campaign_id FROM removed) r JOIN scheduler.campaigns c ON c.id = r.campaign_id
     WHERE c.status = 'rejected' AND scheduler.names_its_audience(c)
       AND NOT EXISTS (SELECT FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id);
  IF FOUND THEN
    PERFORM pg_notify('scheduler_changes', '');
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.campaign_targets_removed() IS 'Has a rejected campaign judged again whose last target is gone.';

CREATE TRIGGER campaign_targets_removed AFTER DELETE ON scheduler.campaign_targets
  REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION scheduler.campaign_targets_removed();

-- For the look at all of them, when a daemon starts or reads its configuration.
CREATE INDEX campaigns_rejected ON scheduler.campaigns (id) WHERE status = 'rejected';

-- How many targets a task's deliveries were without, from their reasons, which the
-- engine writes as "3 of 100 targets left out: why".
CREATE FUNCTION scheduler.left_out(task_id bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sum(substring(s.reason FROM '(\d+) of \d+ targets left out: ')::bigint) || ' targets left out: '
      || (array_agg(substring(s.reason FROM ' targets left out: (.*)$') ORDER BY s.slice_no))[1]
    FROM scheduler.slices s WHERE s.task_id = $1 AND s.reason LIKE '% targets left out: %'
$$;
COMMENT ON FUNCTION scheduler.left_out(bigint) IS 'How many targets of a running task were left out of its calls, and why the first was; NULL: none.';

-- Whose rules of time zones stored occurrences follow. A daemon compares them with
-- its own when it starts and when it reads its configuration.
CREATE TABLE scheduler.zone_rules (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  time_zone   text NOT NULL,
  rules       text NOT NULL,
  followed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  daemon      text NOT NULL,
  campaigns   integer NOT NULL
);
CREATE INDEX zone_rules_zone ON scheduler.zone_rules (time_zone, id);
COMMENT ON TABLE scheduler.zone_rules IS 'The audit of changed time zone rules: which rules stored occurrences follow, and since when.';
COMMENT ON COLUMN scheduler.zone_rules.id IS 'Key; the last row of a zone is what counts.';
COMMENT ON COLUMN scheduler.zone_rules.time_zone IS 'IANA name.';
COMMENT ON COLUMN scheduler.zone_rules.rules IS 'A mark of the zone''s offsets from 2020 to 2060, as the daemon''s tzdata has them.';
COMMENT ON COLUMN scheduler.zone_rules.followed_at IS 'When coming occurrences were made to follow them.';
COMMENT ON COLUMN scheduler.zone_rules.daemon IS 'Which daemon did it. Not named as a deed of somebody, whose tables functions write: the daemons write this one.';
COMMENT ON COLUMN scheduler.zone_rules.campaigns IS 'How many campaigns had occurrences that were moved.';

SELECT scheduler.set_schema_version(17);

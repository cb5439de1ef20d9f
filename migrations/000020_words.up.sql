-- What people say of what they do is bounded, and is told of their own deeds only;
-- and an app's revocations keep no other's waiting.

-------------------------------------------------------------------- how long

-- Such words stand in an audit, and often in a decision's reason, which daemons
-- load, log and serve. The bounds are asked of each row on its way in, so that no
-- function of today or later forgets one. What stands there already stays.
CREATE FUNCTION scheduler.refuse_long() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION '%: must have at most % bytes', TG_ARGV[0], TG_ARGV[1] USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
    COLUMN = TG_ARGV[0], HINT = format('%s: shorten it', TG_ARGV[0]);
END $$;
COMMENT ON FUNCTION scheduler.refuse_long() IS 'Refuses a row whose column, the first argument, is longer than the second in bytes.';

CREATE TRIGGER note_fits BEFORE INSERT OR UPDATE OF note ON scheduler.skipped_occurrences FOR EACH ROW
  WHEN (octet_length(NEW.note) > 4000) EXECUTE FUNCTION scheduler.refuse_long('note', '4000');
CREATE TRIGGER restored_note_fits BEFORE INSERT OR UPDATE OF restored_note ON scheduler.skipped_occurrences FOR EACH ROW
  WHEN (octet_length(NEW.restored_note) > 4000) EXECUTE FUNCTION scheduler.refuse_long('restored_note', '4000');
CREATE TRIGGER note_fits BEFORE INSERT OR UPDATE OF note ON scheduler.revocations FOR EACH ROW
  WHEN (octet_length(NEW.note) > 4000) EXECUTE FUNCTION scheduler.refuse_long('note', '4000');
CREATE TRIGGER target_fits BEFORE INSERT OR UPDATE OF target ON scheduler.revocations FOR EACH ROW
  WHEN (octet_length(NEW.target) > 1024) EXECUTE FUNCTION scheduler.refuse_long('target', '1024');
CREATE TRIGGER note_fits BEFORE INSERT OR UPDATE OF note ON scheduler.rulings FOR EACH ROW
  WHEN (octet_length(NEW.note) > 4000) EXECUTE FUNCTION scheduler.refuse_long('note', '4000');
CREATE TRIGGER operator_fits BEFORE INSERT OR UPDATE OF operator ON scheduler.rulings FOR EACH ROW
  WHEN (octet_length(NEW.operator) > 1024) EXECUTE FUNCTION scheduler.refuse_long('operator', '1024');
CREATE TRIGGER operator_fits BEFORE INSERT OR UPDATE OF operator ON scheduler.triggered_tasks FOR EACH ROW
  WHEN (octet_length(NEW.operator) > 1024) EXECUTE FUNCTION scheduler.refuse_long('operator', '1024');
CREATE TRIGGER reason_fits BEFORE INSERT OR UPDATE OF reason ON scheduler.hold FOR EACH ROW
  WHEN (octet_length(NEW.reason) > 8192 AND NOT scheduler.is_engine()) EXECUTE FUNCTION scheduler.refuse_long('reason', '8192');

------------------------------------------------------------------ whose words

-- An author could have a change of another author of the same app explained in
-- words of his own, and the view made one text of any number of notes.
CREATE OR REPLACE FUNCTION scheduler.note_campaign(campaign_id bigint, revision integer, note text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  app integer;
BEGIN
  SELECT c.app_no INTO app FROM scheduler.campaigns c
   WHERE c.id = note_campaign.campaign_id
     AND scheduler.may_write(c.app_no);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no campaign %', note_campaign.campaign_id USING ERRCODE = 'no_data_found';
  ELSIF char_length(note_campaign.note) > 1000 THEN
    RAISE EXCEPTION 'note: must have at most 1000 characters' USING ERRCODE = 'check_violation', HINT = 'note: shorten it';
  ELSIF 5 <= (SELECT count(*) FROM (SELECT FROM scheduler.campaign_notes n WHERE n.campaign_id = note_campaign.campaign_id
      AND n.revision = note_campaign.revision AND n.noted_by = scheduler.actor() LIMIT 5) x) THEN
    RAISE EXCEPTION 'note: there are 5 notes of yours on this change' USING ERRCODE = 'check_violation', HINT = 'note: put what is to be said into one';
  END IF;
  INSERT INTO scheduler.campaign_notes (campaign_id, app_no, revision, note, noted_by)
  VALUES (note_campaign.campaign_id, app, note_campaign.revision, note_campaign.note, scheduler.actor());
END $$;

CREATE OR REPLACE VIEW scheduler.audit WITH (security_barrier) AS
SELECT e.at, e.who, e.deed, e.campaign_id, e.task_id, a.app_id, a.workspace_id, e.revision, e.note
  FROM (
    SELECT h.changed_at AS at, h.changed_by AS who, h.action AS deed, h.campaign_id, NULL::bigint AS task_id, h.app_no, h.revision,
           (SELECT string_agg(n.note, '; ' ORDER BY n.id)
              FROM (SELECT x.id, x.note FROM scheduler.campaign_notes x
                     WHERE x.campaign_id = h.campaign_id AND x.revision = h.revision AND x.noted_by = h.changed_by ORDER BY x.id LIMIT 5) n) AS note
      FROM scheduler.campaign_history h
    UNION ALL
    SELECT r.ruled_at, r.ruled_by, 'rule ' || replace(r.ruling, '_', ' ') || CASE WHEN r.resend THEN ', send again' ELSE '' END,
           r.campaign_id, r.task_id, r.app_no, NULL, r.note
      FROM scheduler.rulings r
    UNION ALL
    SELECT t.triggered_at, t.triggered_by, 'trigger', t.campaign_id, t.task_id,
           coalesce(c.app_no, (SELECT h.app_no FROM scheduler.campaign_history h WHERE h.campaign_id = t.campaign_id ORDER BY h.id DESC LIMIT 1)), NULL, NULL
      FROM scheduler.triggered_tasks t LEFT JOIN scheduler.campaigns c ON c.id = t.campaign_id
    UNION ALL
    SELECT k.skipped_at, k.skipped_by, 'skip', k.campaign_id, k.task_id, k.app_no, NULL, k.note FROM scheduler.skipped_occurrences k
    UNION ALL
    SELECT k.restored_at, k.restored_by, 'unskip', k.campaign_id, k.task_id, k.app_no, NULL, k.restored_note
      FROM scheduler.skipped_occurrences k WHERE k.restored_at IS NOT NULL
    UNION ALL
    SELECT v.requested_at, v.requested_by, 'revoke', v.campaign_id, v.task_id, v.app_no, NULL, v.note FROM scheduler.revocations v
    UNION ALL
    SELECT h.held_since, coalesce(h.held_by, 'unknown'), 'hold', NULL, NULL, NULL, NULL, h.reason FROM scheduler.hold_history h
    UNION ALL
    SELECT h.released_at, coalesce(h.released_by, 'unknown'), 'release', NULL, NULL, NULL, NULL, h.reason
      FROM scheduler.hold_history h WHERE h.released_at IS NOT NULL
  ) e
  LEFT JOIN scheduler.apps a ON a.app_no = e.app_no
 WHERE e.app_no IS NULL AND e.campaign_id IS NULL
    OR (SELECT scheduler.visible_apps()) IS NULL OR e.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);

----------------------------------------------------------------------- pruning

-- The notes go with the change that they explain.
CREATE OR REPLACE FUNCTION scheduler.prune_history(changed_before timestamptz, most integer DEFAULT 5000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  removed bigint;
BEGIN
  PERFORM scheduler.refuse_all_but_admins();
  IF (changed_before <= clock_timestamp() - interval '1 day') IS NOT TRUE THEN
    RAISE EXCEPTION 'changed_before must be at least a day ago' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  -- What the planner has still to look at may need its versions.
  WITH gone AS (
    DELETE FROM scheduler.campaign_history h WHERE h.id = ANY (ARRAY(
      SELECT o.id FROM scheduler.campaign_history o
       WHERE o.changed_at < changed_before AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = o.app_no AND x.campaign_id = o.campaign_id)
       ORDER BY o.id LIMIT most))
    RETURNING h.campaign_id, h.revision
  ), notes AS (
    DELETE FROM scheduler.campaign_notes n USING gone g WHERE n.campaign_id = g.campaign_id AND n.revision = g.revision
  )
  SELECT count(*) INTO removed FROM gone;
  RETURN removed;
END $$;

DELETE FROM scheduler.campaign_notes n
 WHERE NOT EXISTS (SELECT FROM scheduler.campaign_history h WHERE h.campaign_id = n.campaign_id AND h.revision = n.revision);

--------------------------------------------------------------------- revoking

-- Each app's revocations have a line of their own.
CREATE INDEX revocation_calls_app ON scheduler.revocation_calls (app_no, ready_at, id) WHERE finished_at IS NULL;

SELECT scheduler.set_schema_version(20);

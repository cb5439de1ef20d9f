DROP INDEX scheduler.revocation_calls_app;

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
  DELETE FROM scheduler.campaign_history h WHERE h.id = ANY (ARRAY(
    SELECT o.id FROM scheduler.campaign_history o
     WHERE o.changed_at < changed_before AND NOT EXISTS (SELECT FROM scheduler.campaign_changes x WHERE x.app_no = o.app_no AND x.campaign_id = o.campaign_id)
     ORDER BY o.id LIMIT most));
  GET DIAGNOSTICS removed = ROW_COUNT;
  RETURN removed;
END $$;

CREATE OR REPLACE VIEW scheduler.audit WITH (security_barrier) AS
SELECT e.at, e.who, e.deed, e.campaign_id, e.task_id, a.app_id, a.workspace_id, e.revision, e.note
  FROM (
    SELECT h.changed_at AS at, h.changed_by AS who, h.action AS deed, h.campaign_id, NULL::bigint AS task_id, h.app_no, h.revision,
           (SELECT string_agg(n.note, '; ' ORDER BY n.id) FROM scheduler.campaign_notes n WHERE n.campaign_id = h.campaign_id AND n.revision = h.revision) AS note
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
  END IF;
  INSERT INTO scheduler.campaign_notes (campaign_id, app_no, revision, note, noted_by)
  VALUES (note_campaign.campaign_id, app, note_campaign.revision, note_campaign.note, scheduler.actor());
END $$;

DROP TRIGGER reason_fits ON scheduler.hold;
DROP TRIGGER operator_fits ON scheduler.triggered_tasks;
DROP TRIGGER operator_fits ON scheduler.rulings;
DROP TRIGGER note_fits ON scheduler.rulings;
DROP TRIGGER target_fits ON scheduler.revocations;
DROP TRIGGER note_fits ON scheduler.revocations;
DROP TRIGGER restored_note_fits ON scheduler.skipped_occurrences;
DROP TRIGGER note_fits ON scheduler.skipped_occurrences;
DROP FUNCTION scheduler.refuse_long();

SELECT scheduler.set_schema_version(19);

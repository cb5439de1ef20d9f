-- What people at a console ask: who did what and why, and whether anything may
-- begin at all. Authors may ask too, of the apps granted to them.

----------------------------------------------------------------- why it was done

CREATE TABLE scheduler.campaign_notes (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_id bigint NOT NULL,
  app_no      integer NOT NULL,
  revision    integer NOT NULL,
  note        text NOT NULL CHECK (note <> '' AND char_length(note) <= 1000),
  noted_by    text NOT NULL,
  noted_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX campaign_notes_campaign ON scheduler.campaign_notes (campaign_id, revision);
COMMENT ON TABLE scheduler.campaign_notes IS 'Why a campaign was paused, resumed, cancelled or edited, in the words of who did it.';
COMMENT ON COLUMN scheduler.campaign_notes.id IS 'Key, in the order of the notes.';
COMMENT ON COLUMN scheduler.campaign_notes.campaign_id IS 'The campaign; it may be gone.';
COMMENT ON COLUMN scheduler.campaign_notes.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.campaign_notes.revision IS 'The revision that ended with the change that the note explains.';
COMMENT ON COLUMN scheduler.campaign_notes.note IS 'Why.';
COMMENT ON COLUMN scheduler.campaign_notes.noted_by IS 'Who wrote it: the login, or the person for whom a front acted.';
COMMENT ON COLUMN scheduler.campaign_notes.noted_at IS 'When.';

-- With its owner's rights, so that nobody writes a note in another's name. It
-- refuses a campaign that the role may not see as one that does not exist.
CREATE FUNCTION scheduler.note_campaign(campaign_id bigint, revision integer, note text) RETURNS void
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
COMMENT ON FUNCTION scheduler.note_campaign(bigint, integer, text) IS
  'Keeps why a campaign was changed: give the revision that the change ended, in the same transaction.';

-------------------------------------------------------------------- past holds

CREATE TABLE scheduler.hold_history (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  held_since  timestamptz NOT NULL,
  reason      text NOT NULL,
  held_by     text,
  released_at timestamptz,
  released_by text
);
COMMENT ON TABLE scheduler.hold_history IS 'The audit of scheduler hold and release, the guard''s own holds included.';
COMMENT ON COLUMN scheduler.hold_history.id IS 'Key, in the order of the holds.';
COMMENT ON COLUMN scheduler.hold_history.held_since IS 'Since when nothing began.';
COMMENT ON COLUMN scheduler.hold_history.reason IS 'Why.';
COMMENT ON COLUMN scheduler.hold_history.held_by IS 'Who held it; scheduler: the engine, in doubt of the database.';
COMMENT ON COLUMN scheduler.hold_history.released_at IS 'When it ended; NULL: it stands.';
COMMENT ON COLUMN scheduler.hold_history.released_by IS 'Who released it.';

CREATE FUNCTION scheduler.hold_kept() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NEW.held_since IS NOT NULL AND OLD.held_since IS NULL THEN
    INSERT INTO scheduler.hold_history (held_since, reason, held_by) VALUES (NEW.held_since, NEW.reason, NEW.held_by);
  ELSIF NEW.held_since IS NULL AND OLD.held_since IS NOT NULL THEN
    UPDATE scheduler.hold_history SET released_at = coalesce(NEW.released_at, clock_timestamp()), released_by = NEW.released_by
     WHERE released_at IS NULL;
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION scheduler.hold_kept() IS 'Keeps each hold and its release.';
CREATE TRIGGER hold_kept AFTER UPDATE ON scheduler.hold FOR EACH ROW
  WHEN (OLD.held_since IS DISTINCT FROM NEW.held_since) EXECUTE FUNCTION scheduler.hold_kept();
INSERT INTO scheduler.hold_history (held_since, reason, held_by)
  SELECT h.held_since, h.reason, h.held_by FROM scheduler.hold h WHERE h.held_since IS NOT NULL;

--------------------------------------------------------------------------- views

-- The union stands in a sub-select with app_no in its output: a condition of the
-- caller's is never shown a row that the visibility question has not let pass.
CREATE VIEW scheduler.audit WITH (security_barrier) AS
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
COMMENT ON VIEW scheduler.audit IS 'Who did what, when and why: changes of campaigns, skipped occurrences, rulings, revocations, triggers, holds and releases. Holds concern all apps, so everybody sees them.';
COMMENT ON COLUMN scheduler.audit.at IS 'When.';
COMMENT ON COLUMN scheduler.audit.who IS 'Who: the login, or the person for whom a front acted; scheduler: the engine.';
COMMENT ON COLUMN scheduler.audit.deed IS 'update, pause, resume, cancel, finish, reject, delete, trigger, skip, unskip, rule ..., revoke, hold or release.';
COMMENT ON COLUMN scheduler.audit.campaign_id IS 'The campaign; it may be gone.';
COMMENT ON COLUMN scheduler.audit.task_id IS 'The task of a ruling, a revocation, a trigger or a skip.';
COMMENT ON COLUMN scheduler.audit.app_id IS 'The app; NULL for holds.';
COMMENT ON COLUMN scheduler.audit.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN scheduler.audit.revision IS 'The revision that ended with a change of the campaign.';
COMMENT ON COLUMN scheduler.audit.note IS 'Why.';

CREATE VIEW scheduler.state AS
SELECT clock_timestamp() AS now, h.held_since, h.reason AS held_reason,
       (SELECT count(*) FROM scheduler.daemons d WHERE d.ended_at IS NULL AND d.leased_until > clock_timestamp()) AS daemons
  FROM scheduler.hold h;
COMMENT ON VIEW scheduler.state IS 'Whether anything may begin: one row, for everybody. It tells of no app, campaign or person.';
COMMENT ON COLUMN scheduler.state.now IS 'The database''s clock.';
COMMENT ON COLUMN scheduler.state.held_since IS 'Since when nothing begins; NULL: not held.';
COMMENT ON COLUMN scheduler.state.held_reason IS 'Why, or why it was held the last time.';
COMMENT ON COLUMN scheduler.state.daemons IS 'Daemons with a lease.';

CREATE VIEW scheduler.quota_calls WITH (security_barrier) AS
SELECT x.app_id, x.workspace_id, x.channel, x.used_at
  FROM (SELECT u.app_no, a.app_id, a.workspace_id, u.channel, u.used_at
          FROM scheduler.quota_uses u JOIN scheduler.apps a USING (app_no) WHERE u.used_at > now() - interval '7 days') x
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR x.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);
COMMENT ON VIEW scheduler.quota_calls IS 'The calls of the last 7 x 24 h that count against quotas, for forecasts.';
COMMENT ON COLUMN scheduler.quota_calls.app_id IS 'The app.';
COMMENT ON COLUMN scheduler.quota_calls.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN scheduler.quota_calls.channel IS 'The push API.';
COMMENT ON COLUMN scheduler.quota_calls.used_at IS 'When the call counts from.';

SELECT scheduler.set_schema_version(19);

-- The restore guard. A database that was restored from a snapshot, or cloned,
-- holds tasks that the original has pushed. It is told from the original by what
-- daemons remember of it (installation, beats), by where it runs, and by a gap
-- in the daemons' heartbeats; then nothing begins until an operator releases it.

ALTER TABLE scheduler.daemons ADD COLUMN beats bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN scheduler.daemons.beats IS
  'Heartbeats it has written. It only grows: a daemon that remembers more than stands here sees a database that was set back.';

CREATE TABLE scheduler.installation (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id       uuid NOT NULL DEFAULT gen_random_uuid(),
  place    text,
  timeline integer
);
COMMENT ON TABLE scheduler.installation IS 'Which database this is; one row, written when the first daemon comes.';
COMMENT ON COLUMN scheduler.installation.only_row IS 'Always true: as the primary key it keeps the table to one row.';
COMMENT ON COLUMN scheduler.installation.id IS 'Made at random by the first daemon; a copy of the database has the same.';
COMMENT ON COLUMN scheduler.installation.place IS 'The cluster and database it ran in last; a copy is in another place.';
COMMENT ON COLUMN scheduler.installation.timeline IS 'The cluster''s timeline then; recovery to a point in time, and a failover, begin a new one.';

CREATE TABLE scheduler.hold (
  only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  held_since  timestamptz,
  reason      text,
  skip_before timestamptz,
  released_at timestamptz,
  released_by text,
  CHECK ((held_since IS NULL) OR reason IS NOT NULL)
);
INSERT INTO scheduler.hold DEFAULT VALUES;
COMMENT ON TABLE scheduler.hold IS 'Whether anything may begin; one row. All daemons obey it; scheduler release ends it.';
COMMENT ON COLUMN scheduler.hold.only_row IS 'Always true: as the primary key it keeps the table to one row.';
COMMENT ON COLUMN scheduler.hold.held_since IS 'Since when nothing begins; NULL: not held.';
COMMENT ON COLUMN scheduler.hold.reason IS 'Why it is held, or was the last time.';
COMMENT ON COLUMN scheduler.hold.skip_before IS 'Occurrences due until then are missed, never pushed: scheduler release --skip-overdue.';
COMMENT ON COLUMN scheduler.hold.released_at IS 'When it was last released.';
COMMENT ON COLUMN scheduler.hold.released_by IS 'The database login that released it.';

-- Reading where the database runs may be refused, or unknown to a server that
-- only speaks PostgreSQL's protocol; the guard then does with less.
CREATE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  base oid;
BEGIN
  SELECT d.oid INTO base FROM pg_database d WHERE d.datname = current_database();
  SELECT format('cluster %s, database %s', s.system_identifier, base), c.timeline_id INTO place, timeline
    FROM pg_control_system() s, pg_control_checkpoint() c;
EXCEPTION WHEN OTHERS THEN
  place := NULL;
  timeline := NULL;
END $$;
COMMENT ON FUNCTION scheduler.database_place() IS 'The cluster and database this is, and the cluster''s timeline; NULL where the server does not tell.';

CREATE VIEW scheduler.held AS
WITH waiting AS (
  SELECT p.id AS task_id, NULL::integer AS slice_no, p.campaign_id, p.due_at FROM scheduler.pending_tasks p
  UNION ALL
  SELECT s.task_id, s.slice_no, s.campaign_id, r.due_at
    FROM scheduler.slices s JOIN scheduler.running_tasks r ON r.id = s.task_id WHERE s.status = 'waiting'
)
SELECT w.due_at, w.due_at AT TIME ZONE c.time_zone AS local_time, c.time_zone,
       CASE WHEN w.due_at > now() THEN 'push when due'
            WHEN w.due_at + c.catch_up_window > now() THEN 'push at once'
            ELSE 'miss: the catch-up window closed' END AS on_release,
       c.id AS campaign_id, c.name AS campaign, c.channel, c.app_id, c.workspace_id, w.task_id, w.slice_no
  FROM waiting w JOIN scheduler.campaigns c ON c.id = w.campaign_id
 WHERE EXISTS (SELECT FROM scheduler.hold h WHERE h.held_since IS NOT NULL)
 ORDER BY w.due_at, w.task_id, w.slice_no;
COMMENT ON VIEW scheduler.held IS 'What would be pushed if the hold were released now; empty when nothing is held.';
COMMENT ON COLUMN scheduler.held.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.held.local_time IS 'due_at as a clock in the campaign''s zone shows it.';
COMMENT ON COLUMN scheduler.held.time_zone IS 'The campaign''s zone.';
COMMENT ON COLUMN scheduler.held.on_release IS 'What a release without --skip-overdue would do.';
COMMENT ON COLUMN scheduler.held.campaign_id IS 'The campaign.';
COMMENT ON COLUMN scheduler.held.campaign IS 'Its name.';
COMMENT ON COLUMN scheduler.held.channel IS 'The push API.';
COMMENT ON COLUMN scheduler.held.app_id IS 'The app.';
COMMENT ON COLUMN scheduler.held.workspace_id IS 'Its workspace.';
COMMENT ON COLUMN scheduler.held.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.held.slice_no IS 'The delivery of a task that had begun; NULL for a task that had not.';

SELECT scheduler.set_schema_version(7);

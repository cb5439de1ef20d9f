DROP TRIGGER recognised ON scheduler.decided_tasks;
DROP TRIGGER recognised ON scheduler.slices;
DROP TRIGGER recognised ON scheduler.running_tasks;
DROP TRIGGER recognised ON scheduler.claims;
DROP TRIGGER recognised ON scheduler.pending_tasks;
DROP FUNCTION scheduler.complete_recognition(text);
DROP FUNCTION scheduler.meet(interval, bigint[]);
DROP FUNCTION scheduler.skip_lost_ids();
DROP FUNCTION scheduler.only_recognised();
DROP FUNCTION scheduler.recognised();
DROP FUNCTION scheduler.seal();
ALTER TABLE scheduler.daemons DROP COLUMN recognised;
DROP TABLE scheduler.recognitions;
DROP TABLE scheduler.recognition;

CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer)
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

SELECT scheduler.set_schema_version(15);

DROP FUNCTION scheduler.window_end(timestamptz, interval);
DROP FUNCTION scheduler.ended(scheduler.slice_status, boolean);

SELECT scheduler.set_schema_version(12);

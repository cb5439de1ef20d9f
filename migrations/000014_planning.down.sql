-- Taken for planning.

SELECT scheduler.set_schema_version(13);

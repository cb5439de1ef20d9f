-- Taken for targets.

SELECT scheduler.set_schema_version(16);

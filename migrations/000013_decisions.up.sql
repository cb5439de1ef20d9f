-- Taken for decisions.

SELECT scheduler.set_schema_version(13);

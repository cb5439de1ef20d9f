-- Taken for roles.

SELECT scheduler.set_schema_version(11);

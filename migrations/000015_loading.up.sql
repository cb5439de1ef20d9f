-- Taken for loading.

SELECT scheduler.set_schema_version(15);

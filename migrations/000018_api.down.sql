-- Taken for api.

SELECT scheduler.set_schema_version(17);

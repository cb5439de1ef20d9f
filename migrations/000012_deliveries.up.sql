-- Taken for deliveries.

SELECT scheduler.set_schema_version(12);

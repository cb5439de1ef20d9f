DROP FUNCTION scheduler.unix_ms(timestamptz);

SELECT scheduler.set_schema_version(8);

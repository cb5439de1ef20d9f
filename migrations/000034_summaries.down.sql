CREATE OR REPLACE FUNCTION scheduler.only_recognised() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF coalesce(current_setting('scheduler.seal', true), '') <> '' THEN
    PERFORM scheduler.recognised();
  END IF;
  RETURN NULL;
END $$;

DROP FUNCTION scheduler.summarise_decided(bigint, integer);

SELECT scheduler.set_schema_version(33);

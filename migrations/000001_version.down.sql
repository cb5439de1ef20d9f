-- Takes back 000001. set_schema_version(0) cannot be called once it is dropped,
-- so golang-migrate's mark is cleared by hand.

DROP FUNCTION scheduler.set_schema_version(integer);
DROP TABLE scheduler.schema_version;

DO $$
BEGIN
    IF to_regclass('scheduler.schema_migrations') IS NOT NULL THEN
        -- golang-migrate still needs its table, and with it the schema.
        DELETE FROM scheduler.schema_migrations;
        COMMENT ON SCHEMA scheduler IS NULL;
        RETURN;
    END IF;
    DROP SCHEMA scheduler;
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'schema "scheduler" holds objects that no migration made; it stays'
            USING HINT = 'Look with \d scheduler.* and drop the schema yourself.';
END
$$;

-- The schema knows its own version.
--
-- golang-migrate marks a version dirty before it runs a file and clean after. A
-- process killed in between leaves the mark, and the mark alone does not say
-- whether the file was applied. scheduler.schema_version does: each migration
-- sets it inside its own transaction. `scheduler migrate` compares the two and
-- repairs the mark by itself.

CREATE SCHEMA IF NOT EXISTS scheduler;
COMMENT ON SCHEMA scheduler IS
    'Push campaigns, what they planned, what was sent and how each push ended.';

CREATE TABLE scheduler.schema_version (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    version    integer     NOT NULL CHECK (version >= 0),
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE scheduler.schema_version IS
    'Which migrations this schema has: always exactly one row, kept by the migrations themselves.';
COMMENT ON COLUMN scheduler.schema_version.only_row IS
    'Always true: as the primary key it keeps the table to one row.';
COMMENT ON COLUMN scheduler.schema_version.version IS
    'Number of the newest migration applied. 0 means none, as told by `scheduler migrate force 0`.';
COMMENT ON COLUMN scheduler.schema_version.changed_at IS
    'When the version last changed.';

CREATE FUNCTION scheduler.set_schema_version(new_version integer) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO scheduler.schema_version AS v (version) VALUES (new_version)
    ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, changed_at = now();

    -- The table of golang-migrate is there only when the files run through it.
    -- Clearing its dirty mark here makes the mark mean "not applied".
    IF to_regclass('scheduler.schema_migrations') IS NOT NULL THEN
        DELETE FROM scheduler.schema_migrations;
        IF new_version > 0 THEN
            INSERT INTO scheduler.schema_migrations (version, dirty) VALUES (new_version, false);
        END IF;
    END IF;

    -- From 000006 on, so that what a migration made has its privileges too.
    IF to_regprocedure('scheduler.grant_privileges()') IS NOT NULL THEN
        PERFORM scheduler.grant_privileges();
    END IF;
END
$$;
COMMENT ON FUNCTION scheduler.set_schema_version(integer) IS
    'Records that the schema is now at this version. The last statement of every migration.';

SELECT scheduler.set_schema_version(1);

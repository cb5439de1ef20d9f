DROP FUNCTION scheduler.grant_privileges();
ALTER FUNCTION scheduler.grant_privileges_before_api() RENAME TO grant_privileges;
COMMENT ON FUNCTION scheduler.grant_privileges() IS 'Gives the four roles their privileges, as far as the roles exist. May be run any number of times, by the schema''s owner.';
DROP FUNCTION scheduler.skip_occurrence(bigint, timestamptz, text);
DROP FUNCTION scheduler.unskip_occurrence(bigint, timestamptz, text);
DROP TABLE scheduler.skipped_occurrences;
DROP FUNCTION scheduler.occurrence_skipped();
DROP FUNCTION scheduler.occurrence_restored();
DROP FUNCTION scheduler.occurrences(bigint, timestamptz, timestamptz);
DROP FUNCTION scheduler.use_nonce(bytea, timestamptz);
DROP FUNCTION scheduler.prune_nonces(integer);
DROP TABLE scheduler.api_nonces;
ALTER TABLE scheduler.campaigns DROP COLUMN client_digest;
DROP INDEX IF EXISTS scheduler.campaigns_client_token;
ALTER TABLE scheduler.campaigns DROP COLUMN IF EXISTS client_token;
DO $$
BEGIN
  IF to_regrole('scheduler_front') IS NOT NULL THEN
    REVOKE USAGE ON SCHEMA scheduler FROM scheduler_front;
  END IF;
END $$;

SELECT scheduler.set_schema_version(17);

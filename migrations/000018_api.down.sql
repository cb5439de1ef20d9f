DROP FUNCTION scheduler.grant_privileges();
ALTER FUNCTION scheduler.grant_privileges_before_api() RENAME TO grant_privileges;
COMMENT ON FUNCTION scheduler.grant_privileges() IS 'Gives the four roles their privileges, as far as the roles exist. May be run any number of times, by the schema''s owner.';
DROP FUNCTION scheduler.revoke_task(bigint, text, text);
DROP TABLE scheduler.revocation_calls, scheduler.revocations;
DROP FUNCTION scheduler.skip_occurrence(bigint, timestamptz, text);
DROP FUNCTION scheduler.unskip_occurrence(bigint, timestamptz, text);
DROP TABLE scheduler.skipped_occurrences;
DROP FUNCTION scheduler.occurrences(bigint, timestamptz, timestamptz);
DROP FUNCTION scheduler.use_nonce(bytea, timestamptz);
DROP FUNCTION scheduler.prune_nonces(integer);
DROP TABLE scheduler.api_nonces;
ALTER TABLE scheduler.campaigns DROP COLUMN client_digest;
DO $$
BEGIN
  IF col_description('scheduler.campaigns'::regclass, (SELECT attnum FROM pg_attribute WHERE attrelid = 'scheduler.campaigns'::regclass AND attname = 'client_token'))
      = 'A token of the author''s own, unique per app; NULL: none.' THEN
    ALTER TABLE scheduler.campaigns DROP COLUMN client_token; -- with its index; else it is 000015's
  END IF;
END $$;
DO $$
BEGIN
  IF to_regrole('scheduler_front') IS NOT NULL THEN
    REVOKE USAGE ON SCHEMA scheduler FROM scheduler_front;
  END IF;
END $$;

SELECT scheduler.set_schema_version(17);

DROP INDEX scheduler.decided_tasks_due;
CREATE INDEX decided_tasks_due ON scheduler.decided_tasks USING brin (due_at timestamptz_minmax_multi_ops) WITH (autosummarize = on);

CREATE FUNCTION scheduler.summarise_decided(first bigint, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10ms'
AS $$
DECLARE
  width CONSTANT bigint := 128; -- blocks of a range: the index has pages_per_range of PostgreSQL's default
  full_ranges CONSTANT bigint := pg_relation_size('scheduler.decided_tasks') / current_setting('block_size')::bigint / width;
  through bigint;
BEGIN
  first := greatest(first, full_ranges - 64); -- those before are left to autovacuum
  through := least(first + most, full_ranges);
  FOR range IN first .. through - 1 LOOP
    PERFORM brin_summarize_range('scheduler.decided_tasks_due', range * width);
  END LOOP;
  RETURN through;
END $$;
COMMENT ON FUNCTION scheduler.summarise_decided(bigint, integer) IS
  'Has decided_tasks_due summarise up to so many full ranges of 128 blocks, from the first on and among the last 64, and returns the range to go on with. Fails with lock_not_available while the table is vacuumed.';

SELECT scheduler.set_schema_version(34);

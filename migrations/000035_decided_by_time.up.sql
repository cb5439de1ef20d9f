-- Decided tasks in the order of their occurrences. The index of blocks that stood here
-- cost as much at each decision, and a look for the latest tasks read all of a block,
-- and each block that was not summarised yet.
DROP INDEX scheduler.decided_tasks_due;
CREATE INDEX decided_tasks_due ON scheduler.decided_tasks (due_at, id);
DROP FUNCTION scheduler.summarise_decided(bigint, integer);

SELECT scheduler.set_schema_version(35);

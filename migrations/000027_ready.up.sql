-- What is ready soon is read in the order of its time, over all apps: one look an app
-- a second is too dear where ten thousand apps have tasks.

CREATE INDEX pending_tasks_ready ON scheduler.pending_tasks (ready_at, id);

SELECT scheduler.set_schema_version(27);

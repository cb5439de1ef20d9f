DROP FUNCTION scheduler.release_hold();
DROP FUNCTION scheduler.skip_overdue(integer);
DROP FUNCTION scheduler.hold_skips_overdue();
DROP FUNCTION scheduler.hold_pushes(text, text);
DROP FUNCTION scheduler.resolve_task(bigint, boolean, boolean, text, text);
DROP FUNCTION scheduler.resend_task(scheduler.decided_tasks);
DROP FUNCTION scheduler.trigger_campaign(bigint, text);
DROP TABLE scheduler.triggered_tasks;

SELECT scheduler.set_schema_version(9);

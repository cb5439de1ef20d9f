DROP VIEW scheduler.held;
DROP FUNCTION scheduler.database_place();
DROP TABLE scheduler.hold;
DROP TABLE scheduler.installation;
ALTER TABLE scheduler.daemons DROP COLUMN beats;

SELECT scheduler.set_schema_version(6);

DROP TABLE scheduler.rulings;

SELECT scheduler.set_schema_version(7);

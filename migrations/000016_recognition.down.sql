-- Taken for recognition.

SELECT scheduler.set_schema_version(15);

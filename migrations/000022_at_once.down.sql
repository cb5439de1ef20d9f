DROP TRIGGER campaigns_recommitted ON scheduler.campaigns;
CREATE CONSTRAINT TRIGGER campaigns_recommitted AFTER UPDATE ON scheduler.campaigns DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.strategy_type = 0 AND NEW.status = 'active' AND NEW.written_at <> OLD.written_at) EXECUTE FUNCTION scheduler.campaigns_committed();

SELECT scheduler.set_schema_version(21);

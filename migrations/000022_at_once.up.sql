-- A load of campaigns that push at once could go on for ever: the occurrence of
-- each was moved to the end of its transaction, and again when moving all of them
-- had taken a second. It is moved once.

DROP TRIGGER campaigns_recommitted ON scheduler.campaigns;
CREATE CONSTRAINT TRIGGER campaigns_recommitted AFTER UPDATE ON scheduler.campaigns DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.strategy_type = 0 AND NEW.status = 'active' AND NEW.written_at <> OLD.written_at
    AND (NEW.revision <> OLD.revision OR NEW.status <> OLD.status)) -- what campaigns_committed writes changes neither
  EXECUTE FUNCTION scheduler.campaigns_committed();

SELECT scheduler.set_schema_version(22);

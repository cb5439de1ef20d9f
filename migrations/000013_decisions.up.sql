-- One way to decide: how a delivery ends, how long a window is, and how a
-- decision is written.

-------------------------------------------------------------- how a delivery ends

CREATE FUNCTION scheduler.ended(wanted scheduler.slice_status, maybe_sent boolean) RETURNS scheduler.slice_status
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN maybe_sent AND wanted IN ('failed', 'cancelled', 'missed') THEN 'unknown'::scheduler.slice_status ELSE wanted END;
COMMENT ON FUNCTION scheduler.ended(scheduler.slice_status, boolean) IS
  'How a delivery ends of which an earlier attempt may have arrived: whatever says that it was not sent becomes unknown. The one place of this rule.';

CREATE FUNCTION scheduler.window_end(due_at timestamptz, catch_up_window interval) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN due_at + (extract(epoch FROM catch_up_window) * 1000000)::bigint * interval '1 microsecond';
COMMENT ON FUNCTION scheduler.window_end(timestamptz, interval) IS
  'Until when an occurrence may be pushed. A day is 24 hours, a month 30 days and a year 365.25 days, as the daemon counts; the session''s time zone does not matter.';

SELECT scheduler.set_schema_version(13);

-- StrategyContent counts milliseconds, and nobody writes those by hand.

CREATE FUNCTION scheduler.unix_ms(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN floor(pg_catalog.date_part('epoch', at) * 1000)::bigint;
COMMENT ON FUNCTION scheduler.unix_ms(timestamptz) IS 'An instant as StrategyContent writes it, for example scheduler.unix_ms(''2030-01-01 09:00 Asia/Shanghai'').';

SELECT scheduler.set_schema_version(9);

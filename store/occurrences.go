package store

// What follows works occurrences out anew for Verify. It shares no code with
// package strategy nor with the functions that judge a strategy in SQL: it
// walks local days with generate_series and asks PostgreSQL's own time zones.

// versionsSQL lists every strategy a campaign ever had, with the interval in
// which it stood: from written_at to ended_at, which is NULL while it stands.
// A cancelled campaign's strategy ended with the change that cancelled it, so
// the row itself is left out.
const versionsSQL = `
	SELECT c.id AS campaign_id, c.app_no, c.strategy_type, c.strategy_content AS content, c.time_zone AS zone, c.short_month_policy,
	       c.dst_gap_policy, c.written_at, NULL::timestamptz AS ended_at, c.updated_at, c.status, c.catch_up_window
	  FROM scheduler.campaigns c WHERE c.status <> 'cancelled'
	UNION ALL
	SELECT h.campaign_id, h.app_no, (h.before ->> 'strategy_type')::smallint, h.before -> 'strategy_content', h.before ->> 'time_zone',
	       h.before ->> 'short_month_policy', h.before ->> 'dst_gap_policy', (h.before ->> 'written_at')::timestamptz, h.changed_at, h.changed_at, 'over',
	       (h.before ->> 'catch_up_window')::interval
	  FROM scheduler.campaign_history h WHERE h.strategy_ended AND h.before ->> 'status' <> 'cancelled'`

// occurrencesSQL expands the rows of a CTE named version, which has the columns
// of versionsSQL and first_day and last_day, which bound the walk. Its columns
// are those of version and due_at.
//
// The offsets 26 hours before and after a local time are those on either side
// of any clock change it could meet, no offset being further from UTC than 15
// hours. Both lead to the local time where it is repeated: the earlier instant
// counts. Neither does where it is skipped: then the offset of before moves it
// forward by the gap.
const occurrencesSQL = `
	SELECT v.*, v.written_at AS due_at FROM version v WHERE v.strategy_type = 0
	UNION ALL
	SELECT v.*, to_timestamp(trunc((v.content ->> 'fixedTime')::numeric / 1000)::double precision) FROM version v WHERE v.strategy_type = 1
	UNION ALL
	SELECT v.*, i.due_at
	  FROM version v
	 CROSS JOIN LATERAL (
		SELECT (to_timestamp((v.content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS first,
		       (to_timestamp((v.content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS last,
		       (v.content ->> 'circleType')::numeric AS kind, (v.content ->> 'time')::time AS clock,
		       CASE WHEN (v.content ->> 'circleType')::numeric > 1
		            THEN ARRAY(SELECT x::numeric FROM jsonb_array_elements_text(v.content -> 'circleValue') x) END AS chosen
	 ) l
	 CROSS JOIN LATERAL generate_series(greatest(l.first, v.first_day)::timestamp, least(l.last, v.last_day)::timestamp, '1 day') AS g (day)
	 CROSS JOIN LATERAL (
		SELECT g.day + l.clock AS wall, (g.day + l.clock) AT TIME ZONE 'UTC' AS utc
	 ) w
	 CROSS JOIN LATERAL (
		SELECT w.utc - (((w.utc - interval '26 hours') AT TIME ZONE v.zone) - (w.wall - interval '26 hours')) AS before,
		       w.utc - (((w.utc + interval '26 hours') AT TIME ZONE v.zone) - (w.wall + interval '26 hours')) AS after
	 ) o
	 CROSS JOIN LATERAL (
		SELECT coalesce(least(CASE WHEN o.before AT TIME ZONE v.zone = w.wall THEN o.before END,
		                      CASE WHEN o.after AT TIME ZONE v.zone = w.wall THEN o.after END),
		                CASE WHEN v.dst_gap_policy = 'shift' THEN o.before END) AS due_at
	 ) i
	 WHERE v.strategy_type = 2 AND i.due_at >= v.written_at
	   AND CASE l.kind WHEN 1 THEN true
	       WHEN 2 THEN extract(isodow FROM g.day) = ANY (l.chosen)
	       ELSE extract(day FROM g.day) = ANY (l.chosen)
	         OR v.short_month_policy = 'last_day' AND extract(day FROM g.day + interval '1 day') = 1
	            AND extract(day FROM g.day) < (SELECT max(x) FROM unnest(l.chosen) x)
	       END`

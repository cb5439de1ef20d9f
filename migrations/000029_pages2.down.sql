DROP INDEX scheduler.pending_tasks_waiting;

-- CREATE OR REPLACE takes no column away.
DROP VIEW scheduler.upcoming;
CREATE VIEW scheduler.upcoming WITH (security_barrier) AS
SELECT p.due_at, p.due_at AT TIME ZONE c.time_zone AS local_time, c.time_zone, p.due_at - now() AS "in",
       c.id AS campaign_id, c.name AS campaign, c.channel, c.app_id, c.workspace_id, p.id AS task_id, p.waits_for
  FROM scheduler.pending_tasks p JOIN scheduler.campaigns c ON c.id = p.campaign_id
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR p.app_no = ANY ((SELECT scheduler.visible_apps())::integer[])
 ORDER BY p.due_at;
COMMENT ON VIEW scheduler.upcoming IS 'The pending tasks, next first, in the campaign''s own zone.';
DO $$
DECLARE c text;
BEGIN
  FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = 'scheduler.upcoming'::regclass AND attnum > 0 LOOP
    EXECUTE format('COMMENT ON COLUMN scheduler.upcoming.%I IS %L', c, CASE c
      WHEN 'local_time' THEN 'due_at as a clock in the campaign''s zone shows it.' WHEN 'in' THEN 'How long until it is due.'
      WHEN 'task_id' THEN 'The task.' WHEN 'campaign' THEN 'The campaign''s name.' ELSE 'As in the tables.' END);
  END LOOP;
END $$;

CREATE OR REPLACE VIEW scheduler.app_usage WITH (security_barrier) AS
SELECT a.app_id, a.workspace_id, a.provider, a.pending_limit, coalesce(p.pending, 0) AS pending,
       round(100.0 * coalesce(p.pending, 0) / a.pending_limit) AS percent_full, p.next_due_at,
       EXISTS (SELECT FROM scheduler.campaign_cursors k WHERE k.app_no = a.app_no AND k.active AND k.next_due_at IS NOT NULL) AS more_to_come
  FROM scheduler.apps a
  LEFT JOIN (SELECT app_no, count(slot) AS pending, min(due_at) AS next_due_at FROM scheduler.pending_tasks GROUP BY app_no) p USING (app_no)
 WHERE (SELECT scheduler.visible_apps()) IS NULL OR a.app_no = ANY ((SELECT scheduler.visible_apps())::integer[]);

SELECT scheduler.set_schema_version(28);

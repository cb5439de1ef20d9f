-- Public holidays and make-up workdays of 2026 in mainland China, for the calendar
-- china: working days are open. Run it as an admin; it can be run again.
--
-- Source: General Office of the State Council, notice on the arrangement of some
-- holidays in 2026 (国务院办公厅关于2026年部分节假日安排的通知), 4 November 2025, as
-- Xinhua published it: https://politics.gmw.cn/2025-11/04/content_38391083.htm
INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('china', 'Asia/Shanghai', '{1,2,3,4,5}') ON CONFLICT (name) DO NOTHING;
INSERT INTO scheduler.calendar_days (calendar, day, open, why)
SELECT 'china', d::date, h.open, h.why
  FROM (VALUES
    ('2026-01-01', '2026-01-03', false, '元旦'),
    ('2026-01-04', '2026-01-04', true,  '元旦调休上班'),
    ('2026-02-14', '2026-02-14', true,  '春节调休上班'),
    ('2026-02-15', '2026-02-23', false, '春节'),
    ('2026-02-28', '2026-02-28', true,  '春节调休上班'),
    ('2026-04-04', '2026-04-06', false, '清明节'),
    ('2026-05-01', '2026-05-05', false, '劳动节'),
    ('2026-05-09', '2026-05-09', true,  '劳动节调休上班'),
    ('2026-06-19', '2026-06-21', false, '端午节'),
    ('2026-09-20', '2026-09-20', true,  '国庆节调休上班'),
    ('2026-09-25', '2026-09-27', false, '中秋节'),
    ('2026-10-01', '2026-10-07', false, '国庆节'),
    ('2026-10-10', '2026-10-10', true,  '国庆节调休上班')
  ) AS h (first, last, open, why)
 CROSS JOIN LATERAL generate_series(h.first::date, h.last::date, interval '1 day') AS d
ON CONFLICT (calendar, day) DO UPDATE SET open = excluded.open, why = excluded.why;

-- A year's days of a calendar, from a notice such as the State Council's. Put in the
-- calendar's name and the year's lines, name the notice here, and run it as an admin. It
-- can be run again; a day that was a mistake goes with
-- SELECT scheduler.delete_calendar_days('china', '{2027-01-01}').
--
-- Source: (title, date and address of the notice)
INSERT INTO scheduler.calendars (name, time_zone, open_weekdays) VALUES ('china', 'Asia/Shanghai', '{1,2,3,4,5}') ON CONFLICT (name) DO NOTHING;
INSERT INTO scheduler.calendar_days (calendar, day, open, why)
SELECT 'china', d::date, h.open, h.why
  FROM (VALUES
    -- first day, last day, open, why: false for holidays, true for make-up workdays.
    -- The first line only gives the columns their types: leave it where it is.
    (NULL, NULL, NULL::boolean, NULL)
    -- , ('YYYY-MM-DD', 'YYYY-MM-DD', false, '元旦')
    -- , ('YYYY-MM-DD', 'YYYY-MM-DD', true,  '元旦调休上班')
  ) AS h (first, last, open, why)
 CROSS JOIN LATERAL generate_series(h.first::date, h.last::date, interval '1 day') AS d
ON CONFLICT (calendar, day) DO UPDATE SET open = excluded.open, why = excluded.why;

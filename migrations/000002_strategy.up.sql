-- The rules of a campaign's strategy, so that a bad one is refused by the INSERT
-- itself. They are those of package strategy, in the same order and in the same
-- words; a test in store/ holds the two equal.
--
-- Bulk loads go through here, so the good row's way is short: no query but for
-- lists, no exception block but where a value can make a cast fail.

CREATE TYPE scheduler.strategy_problem AS (field text, message text, value text, hint text);
COMMENT ON TYPE scheduler.strategy_problem IS
  'A reason to refuse a campaign: the key of StrategyContent or the column, the rule, what stands there now (cut to 80 characters), and the mend.';

CREATE TYPE scheduler.strategy_warning AS (field text, message text);
COMMENT ON TYPE scheduler.strategy_warning IS 'Something an author should know of that refuses nothing.';

-------------------------------------------------------------------------- zones

CREATE TABLE scheduler.time_zones (name text COLLATE "C" PRIMARY KEY);
COMMENT ON TABLE scheduler.time_zones IS
  'Zones a campaign may name and the server knew at migration. Only a shortcut: pg_timezone_names reads the whole IANA database from disk, some 30 ms. A name missing here is looked up there.';
COMMENT ON COLUMN scheduler.time_zones.name IS 'IANA name, spelt exactly.';

-- The names of the IANA database of 2025, each tried. To ask the server for its
-- names (pg_timezone_names) fails where one of its files is a link to nothing, as
-- /usr/share/zoneinfo/localtime is in many a container.
DO $$
DECLARE
  zone text;
BEGIN
  FOR zone IN SELECT v.region || city FROM (VALUES
    ('', 'CST6CDT Cuba EST5EDT Egypt Eire Factory GB GB-Eire GMT GMT+0 GMT-0 GMT0 Greenwich Hongkong Iceland Iran Israel Jamaica Japan
      Kwajalein Libya MST7MDT NZ NZ-CHAT Navajo PRC PST8PDT Poland Portugal ROC ROK Singapore Turkey UCT UTC Universal W-SU Zulu'),
    ('Africa/', 'Abidjan Accra Addis_Ababa Algiers Asmara Asmera Bamako Bangui Banjul Bissau Blantyre Brazzaville Bujumbura Cairo Casablanca Ceuta
      Conakry Dakar Dar_es_Salaam Djibouti Douala El_Aaiun Freetown Gaborone Harare Johannesburg Juba Kampala Khartoum Kigali Kinshasa
      Lagos Libreville Lome Luanda Lubumbashi Lusaka Malabo Maputo Maseru Mbabane Mogadishu Monrovia Nairobi Ndjamena Niamey Nouakchott
      Ouagadougou Porto-Novo Sao_Tome Timbuktu Tripoli Tunis Windhoek'),
    ('America/', 'Adak Anchorage Anguilla Antigua Araguaina Aruba Asuncion Atikokan Atka Bahia Bahia_Banderas Barbados Belem Belize Blanc-Sablon
      Boa_Vista Bogota Boise Buenos_Aires Cambridge_Bay Campo_Grande Cancun Caracas Catamarca Cayenne Cayman Chicago Chihuahua
      Ciudad_Juarez Coral_Harbour Cordoba Costa_Rica Coyhaique Creston Cuiaba Curacao Danmarkshavn Dawson Dawson_Creek Denver Detroit
      Dominica Edmonton Eirunepe El_Salvador Ensenada Fort_Nelson Fort_Wayne Fortaleza Glace_Bay Godthab Goose_Bay Grand_Turk Grenada
      Guadeloupe Guatemala Guayaquil Guyana Halifax Havana Hermosillo Indianapolis Inuvik Iqaluit Jamaica Jujuy Juneau Knox_IN
      Kralendijk La_Paz Lima Los_Angeles Louisville Lower_Princes Maceio Managua Manaus Marigot Martinique Matamoros Mazatlan Mendoza
      Menominee Merida Metlakatla Mexico_City Miquelon Moncton Monterrey Montevideo Montreal Montserrat Nassau New_York Nipigon Nome
      Noronha Nuuk Ojinaga Panama Pangnirtung Paramaribo Phoenix Port-au-Prince Port_of_Spain Porto_Acre Porto_Velho Puerto_Rico
      Punta_Arenas Rainy_River Rankin_Inlet Recife Regina Resolute Rio_Branco Rosario Santa_Isabel Santarem Santiago Santo_Domingo
      Sao_Paulo Scoresbysund Shiprock Sitka St_Barthelemy St_Johns St_Kitts St_Lucia St_Thomas St_Vincent Swift_Current Tegucigalpa
      Thule Thunder_Bay Tijuana Toronto Tortola Vancouver Virgin Whitehorse Winnipeg Yakutat Yellowknife'),
    ('America/Argentina/', 'Buenos_Aires Catamarca ComodRivadavia Cordoba Jujuy La_Rioja Mendoza Rio_Gallegos Salta San_Juan San_Luis Tucuman Ushuaia'),
    ('America/Indiana/', 'Indianapolis Knox Marengo Petersburg Tell_City Vevay Vincennes Winamac'),
    ('America/Kentucky/', 'Louisville Monticello'),
    ('America/North_Dakota/', 'Beulah Center New_Salem'),
    ('Antarctica/', 'Casey Davis DumontDUrville Macquarie Mawson McMurdo Palmer Rothera South_Pole Syowa Troll Vostok'),
    ('Arctic/', 'Longyearbyen'),
    ('Asia/', 'Aden Almaty Amman Anadyr Aqtau Aqtobe Ashgabat Ashkhabad Atyrau Baghdad Bahrain Baku Bangkok Barnaul Beirut Bishkek Brunei
      Calcutta Chita Choibalsan Chongqing Chungking Colombo Dacca Damascus Dhaka Dili Dubai Dushanbe Famagusta Gaza Harbin Hebron
      Ho_Chi_Minh Hong_Kong Hovd Irkutsk Istanbul Jakarta Jayapura Jerusalem Kabul Kamchatka Karachi Kashgar Kathmandu Katmandu Khandyga
      Kolkata Krasnoyarsk Kuala_Lumpur Kuching Kuwait Macao Macau Magadan Makassar Manila Muscat Nicosia Novokuznetsk Novosibirsk Omsk
      Oral Phnom_Penh Pontianak Pyongyang Qatar Qostanay Qyzylorda Rangoon Riyadh Saigon Sakhalin Samarkand Seoul Shanghai Singapore
      Srednekolymsk Taipei Tashkent Tbilisi Tehran Tel_Aviv Thimbu Thimphu Tokyo Tomsk Ujung_Pandang Ulaanbaatar Ulan_Bator Urumqi
      Ust-Nera Vientiane Vladivostok Yakutsk Yangon Yekaterinburg Yerevan'),
    ('Atlantic/', 'Azores Bermuda Canary Cape_Verde Faeroe Faroe Jan_Mayen Madeira Reykjavik South_Georgia St_Helena Stanley'),
    ('Australia/', 'ACT Adelaide Brisbane Broken_Hill Canberra Currie Darwin Eucla Hobart LHI Lindeman Lord_Howe Melbourne NSW North Perth Queensland
      South Sydney Tasmania Victoria West Yancowinna'),
    ('Brazil/', 'Acre DeNoronha East West'),
    ('Canada/', 'Atlantic Central Eastern Mountain Newfoundland Pacific Saskatchewan Yukon'),
    ('Chile/', 'Continental EasterIsland'),
    ('Etc/', 'GMT GMT+0 GMT+1 GMT+10 GMT+11 GMT+12 GMT+2 GMT+3 GMT+4 GMT+5 GMT+6 GMT+7 GMT+8 GMT+9 GMT-0 GMT-1 GMT-10 GMT-11 GMT-12 GMT-13
      GMT-14 GMT-2 GMT-3 GMT-4 GMT-5 GMT-6 GMT-7 GMT-8 GMT-9 GMT0 Greenwich UCT UTC Universal Zulu'),
    ('Europe/', 'Amsterdam Andorra Astrakhan Athens Belfast Belgrade Berlin Bratislava Brussels Bucharest Budapest Busingen Chisinau Copenhagen
      Dublin Gibraltar Guernsey Helsinki Isle_of_Man Istanbul Jersey Kaliningrad Kiev Kirov Kyiv Lisbon Ljubljana London Luxembourg
      Madrid Malta Mariehamn Minsk Monaco Moscow Nicosia Oslo Paris Podgorica Prague Riga Rome Samara San_Marino Sarajevo Saratov
      Simferopol Skopje Sofia Stockholm Tallinn Tirane Tiraspol Ulyanovsk Uzhgorod Vaduz Vatican Vienna Vilnius Volgograd Warsaw Zagreb
      Zaporozhye Zurich'),
    ('Indian/', 'Antananarivo Chagos Christmas Cocos Comoro Kerguelen Mahe Maldives Mauritius Mayotte Reunion'),
    ('Mexico/', 'BajaNorte BajaSur General'),
    ('Pacific/', 'Apia Auckland Bougainville Chatham Chuuk Easter Efate Enderbury Fakaofo Fiji Funafuti Galapagos Gambier Guadalcanal Guam Honolulu
      Johnston Kanton Kiritimati Kosrae Kwajalein Majuro Marquesas Midway Nauru Niue Norfolk Noumea Pago_Pago Palau Pitcairn Pohnpei
      Ponape Port_Moresby Rarotonga Saipan Samoa Tahiti Tarawa Tongatapu Truk Wake Wallis Yap'),
    ('US/', 'Alaska Aleutian Arizona Central East-Indiana Eastern Hawaii Indiana-Starke Michigan Mountain Pacific Samoa')
  ) v (region, cities), regexp_split_to_table(v.cities, '\s+') city LOOP
    BEGIN
      PERFORM now() AT TIME ZONE zone;
      INSERT INTO scheduler.time_zones (name) VALUES (zone);
    EXCEPTION WHEN invalid_parameter_value THEN NULL; -- not on this server
    END;
  END LOOP;
END $$;

-- AT TIME ZONE by itself would take any case, POSIX rules, and abbreviations.
-- Names that are both an abbreviation of a fixed offset and a zone with clock
-- changes are refused: it reads them as the former, Go as the latter.
CREATE FUNCTION scheduler.day_in_zone(at timestamptz, zone text) RETURNS date
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
BEGIN
  IF zone COLLATE "C" !~ '^[A-Z]' OR zone IN ('CET', 'EET', 'EST', 'HST', 'MET', 'MST', 'WET', 'Local') THEN
    RETURN NULL;
  END IF;
  IF NOT EXISTS (SELECT FROM scheduler.time_zones z WHERE z.name = zone)
     AND NOT EXISTS (SELECT FROM pg_timezone_names z WHERE z.name = zone) THEN
    RETURN NULL;
  END IF;
  RETURN (at AT TIME ZONE zone)::date;
EXCEPTION WHEN invalid_parameter_value OR undefined_file THEN
  RETURN NULL; -- the server has lost the zone since the migration, or cannot list its zones
END $$;
COMMENT ON FUNCTION scheduler.day_in_zone(timestamptz, text) IS
  'The local day of an instant; null when the zone is none that a campaign may name.';

------------------------------------------------------------------------- helpers

CREATE FUNCTION scheduler.strategy_clip(value text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN pg_catalog.char_length(value) > 80 THEN pg_catalog.left(value, 80) || '...' ELSE value END $$;
COMMENT ON FUNCTION scheduler.strategy_clip(text) IS 'At most 80 characters of what an author wrote.';

CREATE FUNCTION scheduler.as_problem(field text, message text, value text, hint text) RETURNS scheduler.strategy_problem
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ROW(field, message, scheduler.strategy_clip(value), hint)::scheduler.strategy_problem $$;
COMMENT ON FUNCTION scheduler.as_problem(text, text, text, text) IS 'A problem, its value cut to 80 characters.';

-- Called several times a row: no search_path of its own, which would double its
-- price. Those who call it have set one.
CREATE FUNCTION scheduler.strategy_whole(value text, OUT n bigint, OUT why text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
  exact numeric;
BEGIN
  IF value ~ '^-?[0-9]{1,18}$' THEN
    n := value::bigint;
    RETURN;
  END IF;
  IF value !~ '^[-0-9]' THEN
    why := 'must be a whole number';
    RETURN;
  END IF;
  BEGIN
    exact := value::numeric;
  EXCEPTION WHEN numeric_value_out_of_range THEN
    why := 'must fit into 64 bits';
    RETURN;
  END;
  IF exact <> trunc(exact) THEN
    why := 'must be a whole number, not a fraction';
  ELSIF exact NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
    why := 'must fit into 64 bits';
  ELSE
    n := exact::bigint;
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.strategy_whole(text) IS
  'Reads a JSON value as a whole number by its value (1e3 is 1000), or says why it is none.';

CREATE FUNCTION scheduler.strategy_nearest(unknown text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  keys CONSTANT text[] := '{fixedTime,startTime,endTime,circleType,circleValue,time}';
  a CONSTANT text := lower(translate(unknown, '_- ', '') COLLATE "C");
  key text; b text; previous integer[]; current integer[];
  nearest text; best integer := 100;
BEGIN
  IF char_length(unknown) > 20 THEN
    RETURN NULL;
  END IF;
  FOREACH key IN ARRAY keys LOOP
    -- Levenshtein's distance, row by row.
    b := lower(key COLLATE "C");
    previous := ARRAY(SELECT generate_series(0, char_length(b)));
    FOR i IN 1..char_length(a) LOOP
      current := ARRAY[i];
      FOR k IN 1..char_length(b) LOOP
        current := current || least(previous[k + 1] + 1, current[k] + 1,
          previous[k] + CASE WHEN substr(a, i, 1) = substr(b, k, 1) THEN 0 ELSE 1 END);
      END LOOP;
      previous := current;
    END LOOP;
    IF previous[char_length(b) + 1] <= char_length(key) / 4 AND previous[char_length(b) + 1] < best THEN
      nearest := key;
      best := previous[char_length(b) + 1];
    END IF;
  END LOOP;
  RETURN nearest;
END $$;
COMMENT ON FUNCTION scheduler.strategy_nearest(text) IS 'The key of StrategyContent an author most likely meant; null when none is near.';

CREATE FUNCTION scheduler.strategy_keys(doc json) RETURNS scheduler.strategy_problem[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  keys CONSTANT text[] := '{fixedTime,startTime,endTime,circleType,circleValue,time}';
  problems scheduler.strategy_problem[] := '{}';
  seen text[] := '{}'; repeated text[] := '{}';
  field text; near text; m record;
BEGIN
  FOR m IN SELECT e.key, e.value::text AS value FROM json_each(doc) WITH ORDINALITY AS e (key, value, n) ORDER BY e.n LOOP
    field := CASE WHEN m.key = '' THEN '""' ELSE scheduler.strategy_clip(m.key) END;
    IF m.key = ANY (seen) THEN
      IF m.key <> ALL (repeated) THEN
        repeated := repeated || m.key;
        problems := problems || scheduler.as_problem(field, 'appears more than once', m.value, 'keep one');
      END IF;
    ELSIF m.key <> ALL (keys) THEN
      near := scheduler.strategy_nearest(m.key);
      problems := problems || scheduler.as_problem(field, 'is not a key of StrategyContent', m.value,
        CASE WHEN near IS NULL THEN 'remove it: the keys are ' || array_to_string(keys, ', ')
             ELSE 'did you mean ' || near || '?' END);
    END IF;
    seen := seen || m.key;
  END LOOP;
  RETURN problems;
END $$;
COMMENT ON FUNCTION scheduler.strategy_keys(json) IS 'Unknown and repeated keys of a StrategyContent, in the order in which they stand.';

CREATE FUNCTION scheduler.strategy_occurs(zone text, first_day date, last_day date, circle_type bigint, days bigint,
  at_time time, short_month_policy text, dst_gap_policy text, written_at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  day date; dom integer; wall timestamp; at timestamptz; earlier timestamptz;
BEGIN
  FOR n IN 0..(last_day - first_day) LOOP
    day := first_day + n;
    IF circle_type = 2 THEN
      CONTINUE WHEN (days >> extract(isodow FROM day)::integer) & 1 = 0;
    ELSIF circle_type = 3 THEN
      dom := extract(day FROM day);
      CONTINUE WHEN (days >> dom) & 1 = 0
        AND NOT (short_month_policy = 'last_day' AND days >> (dom + 1) <> 0 AND extract(day FROM day + 1) = 1);
    END IF;
    -- A time that a clock change skips is converted with the offset before it,
    -- which moves it forward by the gap.
    wall := day + at_time;
    at := wall AT TIME ZONE zone;
    CONTINUE WHEN at < written_at;
    IF at AT TIME ZONE zone <> wall THEN
      CONTINUE WHEN dst_gap_policy = 'skip';
    ELSIF at < written_at + interval '25 hours' THEN
      -- Of a repeated time the later instant was taken; the earlier one counts.
      earlier := at + ((wall - ((at - interval '24 hours') AT TIME ZONE zone)) - interval '24 hours');
      CONTINUE WHEN earlier < written_at AND earlier AT TIME ZONE zone = wall;
    END IF;
    RETURN true;
  END LOOP;
  RETURN false;
END $$;
COMMENT ON FUNCTION scheduler.strategy_occurs(text, date, date, bigint, bigint, time, text, text, timestamptz) IS
  'Whether a loop has any occurrence at or after the moment it was written. days: bit n is day n of the week (1 Monday) or of the month.';

------------------------------------------------------------------------- verdict

CREATE FUNCTION scheduler.strategy_verdict(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz,
  OUT problems scheduler.strategy_problem[], OUT warnings scheduler.strategy_warning[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  keys CONSTANT text[] := '{fixedTime,startTime,endTime,circleType,circleValue,time}';
  max_millis CONSTANT bigint := 253402300799999; -- the end of the year 9999
  object_hint CONSTANT text := 'write a JSON object, or a JSON string that holds one';
  today date := scheduler.day_in_zone(written_at, time_zone); -- null: no such zone
  window_good boolean := catch_up_window > interval '0' AND extract(epoch FROM catch_up_window) <= 36525 * 86400.0;
  wrapped boolean := jsonb_typeof(content) = 'string';
  type_name text; body text; doc json; v text; key text; mend text;
  w record; at timestamptz;
  start_day date; end_day date; circle_type bigint; highest integer; days bigint := 0; at_time time;
  elements text[]; strange text; outside text; twice text;
BEGIN
  problems := '{}';
  warnings := '{}';

  -- The columns.
  IF strategy_type IN (0, 1, 2) IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('strategy_type', 'must be 0 (now), 1 (fixed time) or 2 (loop)', coalesce(strategy_type::text, ''),
      'leave it out to push at once');
  END IF;
  IF today IS NULL THEN
    problems := problems || scheduler.as_problem('time_zone', 'must be an IANA time zone, spelt as the IANA database spells it', coalesce(time_zone, ''),
      'use an Area/Location name such as Asia/Shanghai, or UTC; abbreviations and offsets are not zones');
  END IF;
  IF short_month_policy IN ('skip', 'last_day') IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('short_month_policy', 'must be skip or last_day', coalesce(short_month_policy, ''),
      'skip leaves out a month without the day; last_day takes the month''s last day instead');
  END IF;
  IF dst_gap_policy IN ('shift', 'skip') IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('dst_gap_policy', 'must be shift or skip', coalesce(dst_gap_policy, ''),
      'shift moves a local time that a clock change skips forward by the gap; skip leaves that day out');
  END IF;
  IF window_good IS NOT TRUE THEN
    problems := problems || scheduler.as_problem('catch_up_window', 'must be longer than zero and at most 36525 days',
      coalesce(trim_scale(extract(epoch FROM catch_up_window)), 0) || ' s', 'write an interval such as ''1 hour''');
  END IF;

  -- The content as a whole.
  IF strategy_type = 0 THEN
    IF content NOT IN ('null', '{}', '""') THEN
      warnings := warnings || ROW('strategy_content', 'is ignored: strategy type 0 (now) has none')::scheduler.strategy_warning;
    END IF;
    RETURN;
  ELSIF strategy_type IN (1, 2) IS NOT TRUE THEN
    RETURN;
  END IF;
  type_name := CASE strategy_type WHEN 1 THEN '1 (fixed time)' ELSE '2 (loop)' END;
  IF content IS NULL OR content = 'null' THEN
    problems := problems || scheduler.as_problem('strategy_content', 'is required for strategy type ' || type_name, 'null',
      CASE strategy_type WHEN 1 THEN 'write {"fixedTime": <Unix milliseconds>}'
        ELSE 'write {"startTime": <Unix milliseconds>, "endTime": <Unix milliseconds>, "circleType": 1, "time": "HH:mm:ss"}' END);
    RETURN;
  END IF;
  body := CASE WHEN wrapped THEN content #>> '{}' ELSE content::text END;
  IF char_length(body) > 8192 THEN
    problems := problems || scheduler.as_problem('strategy_content', 'must not be longer than 8192 characters', body,
      CASE strategy_type WHEN 1 THEN 'write {"fixedTime": <Unix milliseconds>}'
        ELSE 'write {"startTime": <Unix milliseconds>, "endTime": <Unix milliseconds>, "circleType": 1, "time": "HH:mm:ss"}' END);
    RETURN;
  END IF;
  -- json, not jsonb: it keeps repeated keys and how values were written.
  IF wrapped THEN
    BEGIN
      doc := body;
      PERFORM json_strip_nulls(doc); -- reads every string, where json only looks for its end
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
      problems := problems || scheduler.as_problem('strategy_content', 'must be valid JSON with nothing after it', body, object_hint);
      RETURN;
    END;
  ELSE
    doc := body;
  END IF;
  IF json_typeof(doc) <> 'object' THEN
    problems := problems || scheduler.as_problem('strategy_content', 'must be a JSON object', body, object_hint);
    RETURN;
  END IF;
  IF wrapped OR content - keys <> '{}' THEN
    problems := problems || scheduler.strategy_keys(doc);
  END IF;

  -- The moments.
  FOREACH key IN ARRAY CASE strategy_type WHEN 1 THEN '{fixedTime}'::text[] ELSE '{startTime,endTime}'::text[] END LOOP
    v := (doc -> key)::text;
    mend := CASE key WHEN 'fixedTime' THEN 'write the moment of the push in Unix milliseconds'
      WHEN 'startTime' THEN 'write the first day as the Unix milliseconds of any moment in it'
      ELSE 'write the last day as the Unix milliseconds of any moment in it' END;
    IF v IS NULL THEN
      problems := problems || scheduler.as_problem(key, 'is required for strategy type ' || type_name, '', mend);
      CONTINUE;
    END IF;
    w := scheduler.strategy_whole(v);
    IF w.why IS NOT NULL OR w.n NOT BETWEEN 0 AND max_millis THEN
      problems := problems || scheduler.as_problem(key, coalesce(w.why, 'must be Unix milliseconds of the years 1970 to 9999'), v, mend);
      CONTINUE;
    END IF;
    at := to_timestamp(w.n / 1000);
    IF key = 'fixedTime' THEN
      IF window_good AND at < written_at - make_interval(secs => extract(epoch FROM catch_up_window)::double precision) THEN
        problems := problems || scheduler.as_problem(key, 'must not be further in the past than catch_up_window', v,
          CASE WHEN w.n >= 100000000 AND w.n < 100000000000 THEN 'it looks like seconds: write Unix milliseconds'
            ELSE 'it means ' || to_char(at AT TIME ZONE CASE WHEN today IS NULL THEN 'UTC' ELSE time_zone END, 'YYYY-MM-DD HH24:MI:SS')
              || ' in ' || CASE WHEN today IS NULL THEN 'UTC' ELSE time_zone END
              || ': write a moment to come, or a longer catch_up_window' END);
      END IF;
      CONTINUE;
    END IF;
    CONTINUE WHEN today IS NULL;
    IF key = 'startTime' THEN
      start_day := (at AT TIME ZONE time_zone)::date;
    ELSE
      end_day := (at AT TIME ZONE time_zone)::date;
    END IF;
    IF coalesce(end_day, start_day) < today THEN
      problems := problems || scheduler.as_problem(key, 'must not lie before today 00:00', v,
        CASE WHEN w.n >= 100000000 AND w.n < 100000000000 THEN 'it looks like seconds: write Unix milliseconds'
          ELSE format('it means %s and today is %s in %s', to_char(coalesce(end_day, start_day), 'YYYY-MM-DD'), to_char(today, 'YYYY-MM-DD'), time_zone) END);
    ELSIF end_day < start_day THEN
      problems := problems || scheduler.as_problem(key, 'must not lie before startTime', v,
        format('it means %s and startTime means %s in %s', to_char(end_day, 'YYYY-MM-DD'), to_char(start_day, 'YYYY-MM-DD'), time_zone));
    END IF;
    IF end_day > today + 180 THEN
      problems := problems || scheduler.as_problem(key, 'must lie at most 180 days after today', v,
        format('it means %s: write %s in %s or earlier', to_char(end_day, 'YYYY-MM-DD'), to_char(today + 180, 'YYYY-MM-DD'), time_zone));
    END IF;
  END LOOP;

  IF strategy_type = 1 THEN
    FOREACH key IN ARRAY keys[2:] LOOP
      IF doc -> key IS NOT NULL THEN
        warnings := warnings || ROW(key, 'is ignored: it belongs to strategy type 2 (loop)')::scheduler.strategy_warning;
      END IF;
    END LOOP;
  ELSE
    -- The circle.
    v := (doc -> 'circleType')::text;
    mend := 'write 1 for daily, 2 for weekly or 3 for monthly';
    IF v IS NULL THEN
      problems := problems || scheduler.as_problem('circleType', 'is required for strategy type 2 (loop)', '', mend);
    ELSE
      w := scheduler.strategy_whole(v);
      circle_type := w.n;
      IF w.why IS NOT NULL OR circle_type NOT IN (1, 2, 3) THEN
        problems := problems || scheduler.as_problem('circleType', coalesce(w.why, 'must be 1 (daily), 2 (weekly) or 3 (monthly)'), v, mend);
      END IF;
    END IF;

    v := (doc -> 'circleValue')::text;
    IF circle_type IN (2, 3) THEN
      highest := CASE circle_type WHEN 2 THEN 7 ELSE 31 END;
      mend := CASE circle_type WHEN 2 THEN 'write the days of the week, for example [1,7] for Monday and Sunday'
        ELSE 'write the days of the month, for example [1,15]' END;
      IF v IS NULL THEN
        problems := problems || scheduler.as_problem('circleValue', 'is required for a weekly or monthly loop', '', mend);
      ELSIF v NOT LIKE '[%' THEN
        problems := problems || scheduler.as_problem('circleValue', 'must be an array of whole numbers', v, mend);
      ELSIF json_array_length(v::json) = 0 THEN
        problems := problems || scheduler.as_problem('circleValue', 'must not be empty', v, mend);
      ELSE
        IF v ~ '^\[[0-9, ]+\]$' THEN -- spares the good row a query
          elements := string_to_array(translate(v, '[] ', ''), ',');
        ELSE
          elements := ARRAY(SELECT e.value::text FROM json_array_elements(v::json) WITH ORDINALITY AS e (value, n) ORDER BY e.n);
        END IF;
        FOREACH v IN ARRAY elements LOOP
          w := scheduler.strategy_whole(v);
          IF w.why IS NOT NULL THEN
            strange := coalesce(strange, v);
          ELSIF w.n NOT BETWEEN 1 AND highest THEN
            outside := coalesce(outside, v);
          ELSIF (days >> w.n::integer) & 1 = 1 THEN
            twice := coalesce(twice, v);
          ELSE
            days := days | (1::bigint << w.n::integer);
          END IF;
        END LOOP;
        IF strange IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', 'must hold whole numbers only', strange, mend);
        END IF;
        IF outside IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', CASE circle_type WHEN 2 THEN 'must hold days from 1 (Monday) to 7 (Sunday)'
            ELSE 'must hold days from 1 to 31' END, outside, mend);
        END IF;
        IF twice IS NOT NULL THEN
          problems := problems || scheduler.as_problem('circleValue', 'must not hold a day twice', twice, mend);
        END IF;
      END IF;
    END IF;

    v := (doc -> 'time')::text;
    mend := 'write the time of day as "HH:mm:ss"';
    IF v IS NULL THEN
      problems := problems || scheduler.as_problem('time', 'is required for strategy type 2 (loop)', '', mend);
    ELSIF v LIKE '"%' AND doc ->> 'time' ~ '^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$' THEN
      at_time := (doc ->> 'time')::time;
    ELSE
      problems := problems || scheduler.as_problem('time', 'must be a time of day from 00:00:00 to 23:59:59', v, mend);
    END IF;

    IF doc -> 'fixedTime' IS NOT NULL THEN
      warnings := warnings || ROW('fixedTime', 'is ignored: it belongs to strategy type 1 (fixed time)')::scheduler.strategy_warning;
    END IF;
    IF circle_type = 1 AND doc -> 'circleValue' IS NOT NULL THEN
      warnings := warnings || ROW('circleValue', 'is ignored: a daily loop pushes on every day')::scheduler.strategy_warning;
    END IF;
  END IF;

  -- What only a strategy without other faults can be asked.
  IF cardinality(problems) = 0 AND wrapped THEN
    BEGIN
      PERFORM body::jsonb;
    EXCEPTION WHEN numeric_value_out_of_range THEN
      problems := problems || scheduler.as_problem('strategy_content', 'must not hold a number beyond what PostgreSQL stores', body, 'remove it');
    END;
  END IF;
  IF cardinality(problems) = 0 AND strategy_type = 2 AND NOT scheduler.strategy_occurs(time_zone, start_day, end_day, circle_type,
      days, at_time, short_month_policy, dst_gap_policy, written_at) THEN
    problems := problems || scheduler.as_problem('strategy_content', 'must yield at least one occurrence from now on', body,
      'widen startTime to endTime, or change circleValue, time, short_month_policy or dst_gap_policy');
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.strategy_verdict(smallint, jsonb, text, text, text, interval, timestamptz) IS
  'Judges a strategy once: every problem and every warning, in a fixed order. written_at decides which day is today.';

CREATE FUNCTION scheduler.strategy_problems(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz)
RETURNS TABLE (field text, message text, value text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT p.field, p.message, p.value, p.hint
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7) AS v, unnest(v.problems) AS p
$$;
COMMENT ON FUNCTION scheduler.strategy_problems(smallint, jsonb, text, text, text, interval, timestamptz) IS
  'Every reason to refuse a strategy, one row each; none: it is good. Try a strategy out with it before inserting a campaign.';

CREATE FUNCTION scheduler.strategy_warnings(strategy_type smallint, content jsonb, time_zone text, short_month_policy text,
  dst_gap_policy text, catch_up_window interval, written_at timestamptz)
RETURNS TABLE (field text, message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
  SELECT w.field, w.message
  FROM scheduler.strategy_verdict($1, $2, $3, $4, $5, $6, $7) AS v, unnest(v.warnings) AS w
$$;
COMMENT ON FUNCTION scheduler.strategy_warnings(smallint, jsonb, text, text, text, interval, timestamptz) IS
  'What the author of a strategy should know of, one row each.';

CREATE FUNCTION scheduler.strategy_object(content jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, scheduler, pg_temp
AS $$
DECLARE
  object jsonb;
BEGIN
  IF jsonb_typeof(content) <> 'string' THEN
    RETURN content;
  END IF;
  object := (content #>> '{}')::jsonb;
  RETURN CASE WHEN jsonb_typeof(object) = 'object' THEN object ELSE content END;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
  RETURN content;
END $$;
COMMENT ON FUNCTION scheduler.strategy_object(jsonb) IS
  'StrategyContent as an object when it is one in a string; anything else as it is.';

SELECT scheduler.set_schema_version(2);

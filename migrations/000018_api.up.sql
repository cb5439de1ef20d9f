-- What the API in front of mPaaS's clients needs: nonces that are used once, what
-- a repeated call said, one occurrence taken out of a campaign, and pushes that
-- the provider is to take back.

------------------------------------------------------------------ repeated calls

-- The token alone does not tell a repeated call from another one.
ALTER TABLE scheduler.campaigns ADD COLUMN client_digest bytea CHECK (length(client_digest) = 32);
COMMENT ON COLUMN scheduler.campaigns.client_digest IS
  'SHA-256 of the call to the API that stored the campaign with a client token; NULL: it came by SQL, or without a token.';

-------------------------------------------------------------------------- nonces

CREATE TABLE scheduler.api_nonces (
  nonce      bytea PRIMARY KEY CHECK (length(nonce) = 16),
  expires_at timestamptz NOT NULL
);
CREATE INDEX api_nonces_expires ON scheduler.api_nonces (expires_at);
COMMENT ON TABLE scheduler.api_nonces IS 'Nonces that calls to the API have used, so that none is used twice, on whatever daemon.';
COMMENT ON COLUMN scheduler.api_nonces.nonce IS 'The beginning of the SHA-256 of access key id and nonce.';
COMMENT ON COLUMN scheduler.api_nonces.expires_at IS 'From when on the call''s own time would refuse it.';

-- For logins that act for others, before they take on a role: the role itself
-- has nothing to do with nonces. It raises, so that statements sent together with
-- it do not run.
CREATE FUNCTION scheduler.use_nonce(nonce bytea, expires_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO scheduler.api_nonces AS n (nonce, expires_at) VALUES (use_nonce.nonce, use_nonce.expires_at) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the nonce was used already' USING ERRCODE = 'unique_violation', SCHEMA = 'scheduler', TABLE = 'api_nonces', CONSTRAINT = 'api_nonces_pkey';
  END IF;
END $$;
COMMENT ON FUNCTION scheduler.use_nonce(bytea, timestamptz) IS 'Uses a nonce of a call to the API, or raises 23505 when it was used already.';

CREATE FUNCTION scheduler.prune_nonces(most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH gone AS (
    DELETE FROM scheduler.api_nonces n
     WHERE n.nonce = ANY (ARRAY(SELECT x.nonce FROM scheduler.api_nonces x WHERE x.expires_at < clock_timestamp()
                                 ORDER BY x.expires_at LIMIT most FOR UPDATE SKIP LOCKED))
    RETURNING 1
  )
  SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION scheduler.prune_nonces(integer) IS 'Deletes nonces that have expired, at most so many, and says how many.';

--------------------------------------------------------------------- occurrences

-- A campaign's occurrences as its strategy stands, worked out by PostgreSQL's own
-- calendar. The offsets 26 hours before and after a local time are those on
-- either side of any clock change it could meet. Both lead to the local time
-- where it is repeated: the earlier instant counts. Neither does where it is
-- skipped: then the offset of before moves it forward by the gap.
CREATE FUNCTION scheduler.occurrences(campaign_id bigint, since timestamptz, until timestamptz) RETURNS SETOF timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH version AS (
    SELECT c.*, c.strategy_content AS content, c.time_zone AS zone,
           (occurrences.since AT TIME ZONE 'UTC')::date - 2 AS first_day, (occurrences.until AT TIME ZONE 'UTC')::date + 2 AS last_day
      FROM scheduler.campaigns c WHERE c.id = occurrences.campaign_id
  ), occurrence AS (
    SELECT v.written_at AS due_at FROM version v WHERE v.strategy_type = 0
    UNION ALL
    SELECT to_timestamp(trunc((v.content ->> 'fixedTime')::numeric / 1000)::double precision) FROM version v WHERE v.strategy_type = 1
    UNION ALL
    SELECT i.due_at
      FROM version v
     CROSS JOIN LATERAL (
      SELECT (to_timestamp((v.content ->> 'startTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS first,
             (to_timestamp((v.content ->> 'endTime')::numeric::double precision / 1000) AT TIME ZONE v.zone)::date AS last,
             (v.content ->> 'circleType')::numeric AS kind, (v.content ->> 'time')::time AS clock,
             CASE WHEN (v.content ->> 'circleType')::numeric > 1
                  THEN ARRAY(SELECT x::numeric FROM jsonb_array_elements_text(v.content -> 'circleValue') x) END AS chosen
     ) l
     CROSS JOIN LATERAL generate_series(greatest(l.first, v.first_day)::timestamp, least(l.last, v.last_day)::timestamp, '1 day') AS g (day)
     CROSS JOIN LATERAL (SELECT g.day + l.clock AS wall, (g.day + l.clock) AT TIME ZONE 'UTC' AS utc) w
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
           END
  )
  SELECT DISTINCT o.due_at FROM occurrence o WHERE o.due_at BETWEEN occurrences.since AND occurrences.until ORDER BY o.due_at
$$;
COMMENT ON FUNCTION scheduler.occurrences(bigint, timestamptz, timestamptz) IS
  'The occurrences of a campaign from one instant to another, both included, as its strategy stands now; those beyond the pending limit and those that are skipped too.';

---------------------------------------------------------------------------- skip

CREATE TABLE scheduler.skipped_occurrences (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  campaign_id    bigint NOT NULL,
  app_no         integer NOT NULL,
  due_at         timestamptz NOT NULL,
  task_id        bigint NOT NULL,
  note           text CHECK (note <> ''),
  skipped_by     text NOT NULL,
  skipped_via    text,
  skipped_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  restored_at    timestamptz,
  restored_by    text,
  restored_via   text,
  restored_note  text CHECK (restored_note <> '')
);
CREATE UNIQUE INDEX skipped_occurrences_standing ON scheduler.skipped_occurrences (campaign_id, due_at) WHERE restored_at IS NULL;
COMMENT ON TABLE scheduler.skipped_occurrences IS 'The audit of scheduler.skip_occurrence and unskip_occurrence: single occurrences that somebody took out of a campaign.';
COMMENT ON COLUMN scheduler.skipped_occurrences.id IS 'Key, in the order of the skips.';
COMMENT ON COLUMN scheduler.skipped_occurrences.campaign_id IS 'The campaign; it may be gone.';
COMMENT ON COLUMN scheduler.skipped_occurrences.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.skipped_occurrences.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.skipped_occurrences.task_id IS 'The task that was decided as cancelled.';
COMMENT ON COLUMN scheduler.skipped_occurrences.note IS 'Why, in the words of whoever did it.';
COMMENT ON COLUMN scheduler.skipped_occurrences.skipped_by IS 'Who did it: the login, or the role for which a front acted.';
COMMENT ON COLUMN scheduler.skipped_occurrences.skipped_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.skipped_occurrences.skipped_at IS 'When.';
COMMENT ON COLUMN scheduler.skipped_occurrences.restored_at IS 'When it was taken back; NULL: it stands.';
COMMENT ON COLUMN scheduler.skipped_occurrences.restored_by IS 'Who took it back.';
COMMENT ON COLUMN scheduler.skipped_occurrences.restored_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.skipped_occurrences.restored_note IS 'Why it was taken back.';
ALTER TABLE scheduler.skipped_occurrences ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.skipped_occurrences
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

-- The campaign is locked first: its planner cannot make a task of the occurrence
-- meanwhile, and a pause or an edit either is seen here or sees what is written
-- here. One statement asks whether the push has begun: a task moves from place to
-- place, and could be missed by two.
CREATE FUNCTION scheduler.skip_occurrence(campaign_id bigint, due_at timestamptz, note text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  c scheduler.campaigns; t record; stands text; due timestamptz := skip_occurrence.due_at; why text := nullif(skip_occurrence.note, '');
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  SELECT k.* INTO c FROM scheduler.campaigns k WHERE k.id = skip_occurrence.campaign_id AND scheduler.may_write(k.app_no) FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no campaign %', skip_occurrence.campaign_id USING ERRCODE = 'no_data_found';
  ELSIF EXISTS (SELECT FROM scheduler.skipped_occurrences s WHERE s.campaign_id = c.id AND s.due_at = due AND s.restored_at IS NULL) THEN
    RETURN false;
  ELSIF c.status NOT IN ('active', 'paused') THEN
    RAISE EXCEPTION 'only an active or paused campaign has occurrences to skip; this one is %', c.status USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF (due > clock_timestamp()) IS NOT TRUE THEN
    RAISE EXCEPTION 'only a coming occurrence can be skipped; % is past', due USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF NOT EXISTS (SELECT FROM scheduler.occurrences(c.id, due, due)) THEN
    RAISE EXCEPTION '% is no occurrence of campaign %', due, c.id USING ERRCODE = 'object_not_in_prerequisite_state',
      HINT = format('SELECT scheduler.occurrences(%s, now(), now() + interval ''30 days''); lists the next ones', c.id);
  END IF;
  DELETE FROM scheduler.pending_tasks p WHERE p.campaign_id = c.id AND p.due_at = due RETURNING p.id, p.origin INTO t;
  IF NOT FOUND THEN
    SELECT v.status INTO stands FROM scheduler.tasks v WHERE v.campaign_id = c.id AND v.due_at = due;
    IF FOUND THEN
      RAISE EXCEPTION 'the occurrence of % is % already', due, stands USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT nextval('scheduler.task_ids') AS id, 'scheduled'::scheduler.task_origin AS origin INTO t;
  END IF;
  INSERT INTO scheduler.skipped_occurrences (campaign_id, app_no, due_at, task_id, note, skipped_by, skipped_via)
    VALUES (c.id, c.app_no, due, t.id, why, scheduler.actor(), scheduler.actor_via());
  PERFORM scheduler.decide(ARRAY[ROW(t.id, c.app_no, c.id, c.revision, NULL, t.origin, 'cancelled', due, NULL, NULL, 0, 0, 0, 0, NULL,
    concat('skipped by ', scheduler.actor(), ': ' || why), NULL, NULL, NULL, NULL, NULL)::scheduler.ending], false);
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id) VALUES (c.app_no, c.id); -- there may be room now
  PERFORM pg_notify('scheduler_changes', c.app_no::text);
  RETURN true;
END $$;
COMMENT ON FUNCTION scheduler.skip_occurrence(bigint, timestamptz, text) IS
  'Decides one coming occurrence of a campaign as cancelled and leaves the others; note is for the audit. Returns whether it was not skipped already.';

CREATE FUNCTION scheduler.unskip_occurrence(campaign_id bigint, due_at timestamptz, note text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  c scheduler.campaigns; skip scheduler.skipped_occurrences; due timestamptz := unskip_occurrence.due_at;
BEGIN
  PERFORM scheduler.refuse_old_snapshot();
  SELECT k.* INTO c FROM scheduler.campaigns k WHERE k.id = unskip_occurrence.campaign_id AND scheduler.may_write(k.app_no) FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no campaign %', unskip_occurrence.campaign_id USING ERRCODE = 'no_data_found';
  END IF;
  UPDATE scheduler.skipped_occurrences s
     SET restored_at = clock_timestamp(), restored_by = scheduler.actor(), restored_via = scheduler.actor_via(), restored_note = nullif(unskip_occurrence.note, '')
   WHERE s.campaign_id = c.id AND s.due_at = due AND s.restored_at IS NULL RETURNING s.* INTO skip;
  IF NOT FOUND THEN
    RETURN false;
  ELSIF c.status NOT IN ('active', 'paused') THEN
    RAISE EXCEPTION 'the campaign is %', c.status USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF due <= clock_timestamp() THEN
    RAISE EXCEPTION 'the occurrence of % is past', due USING ERRCODE = 'object_not_in_prerequisite_state';
  ELSIF NOT EXISTS (SELECT FROM scheduler.occurrences(c.id, due, due)) THEN
    RAISE EXCEPTION 'the strategy was changed: % is no occurrence any more', due USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  DELETE FROM scheduler.decided_tasks d WHERE d.campaign_id = c.id AND d.due_at = due AND d.id = skip.task_id AND d.status = 'cancelled';
  INSERT INTO scheduler.campaign_changes (app_no, campaign_id, rewind_to) VALUES (c.app_no, c.id, due);
  PERFORM pg_notify('scheduler_changes', c.app_no::text);
  RETURN true;
END $$;
COMMENT ON FUNCTION scheduler.unskip_occurrence(bigint, timestamptz, text) IS
  'Takes a skip back while its occurrence is still to come; note is for the audit. Returns whether there was one.';

-------------------------------------------------------------------------- revoke

CREATE TABLE scheduler.revocations (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id       bigint NOT NULL,
  app_no        integer NOT NULL,
  campaign_id   bigint NOT NULL,
  due_at        timestamptz NOT NULL,
  target        text NOT NULL DEFAULT '',
  note          text CHECK (note <> ''),
  requested_by  text NOT NULL,
  requested_via text,
  requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (task_id, target)
);
COMMENT ON TABLE scheduler.revocations IS 'The audit of scheduler.revoke_task: who had which task taken back. What came of it is in revocation_calls; no decision changes by it.';
COMMENT ON COLUMN scheduler.revocations.id IS 'Key.';
COMMENT ON COLUMN scheduler.revocations.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.revocations.app_no IS 'Its app.';
COMMENT ON COLUMN scheduler.revocations.campaign_id IS 'Its campaign; it may be gone.';
COMMENT ON COLUMN scheduler.revocations.due_at IS 'The occurrence.';
COMMENT ON COLUMN scheduler.revocations.target IS 'The one receiver to take it back from; empty: all of them.';
COMMENT ON COLUMN scheduler.revocations.note IS 'Why, in the words of whoever did it.';
COMMENT ON COLUMN scheduler.revocations.requested_by IS 'Who did it: the login, or the role for which a front acted.';
COMMENT ON COLUMN scheduler.revocations.requested_via IS 'The role that the login took on, or the front that acted; NULL: neither.';
COMMENT ON COLUMN scheduler.revocations.requested_at IS 'When.';
ALTER TABLE scheduler.revocations ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.revocations
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

CREATE TABLE scheduler.revocation_calls (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  revocation_id bigint NOT NULL REFERENCES scheduler.revocations (id) ON DELETE CASCADE,
  task_id       bigint NOT NULL,
  slice_no      integer NOT NULL,
  app_no        integer NOT NULL,
  target        text NOT NULL DEFAULT '',
  message_id    text,
  request_id    text,
  status        text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'revoked', 'refused', 'unsupported', 'unknown')),
  ready_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempts      integer NOT NULL DEFAULT 0,
  reason        text,
  code          text,
  message       text,
  answer_id     text,
  finished_at   timestamptz,
  UNIQUE (revocation_id, slice_no),
  CHECK ((status = 'waiting') = (finished_at IS NULL))
);
CREATE INDEX revocation_calls_ready ON scheduler.revocation_calls (ready_at, id) WHERE finished_at IS NULL;
COMMENT ON TABLE scheduler.revocation_calls IS 'Deliveries that the provider is to take back, or was: one row a delivery, taken by any daemon. (id, attempts) is the token of whoever calls.';
COMMENT ON COLUMN scheduler.revocation_calls.id IS 'Key.';
COMMENT ON COLUMN scheduler.revocation_calls.revocation_id IS 'The revocation.';
COMMENT ON COLUMN scheduler.revocation_calls.task_id IS 'The task.';
COMMENT ON COLUMN scheduler.revocation_calls.slice_no IS 'The delivery''s number within the task.';
COMMENT ON COLUMN scheduler.revocation_calls.app_no IS 'The app.';
COMMENT ON COLUMN scheduler.revocation_calls.target IS 'The one receiver; empty: all of the delivery.';
COMMENT ON COLUMN scheduler.revocation_calls.message_id IS 'The provider''s id of the message.';
COMMENT ON COLUMN scheduler.revocation_calls.request_id IS 'The provider''s id of the call that pushed it.';
COMMENT ON COLUMN scheduler.revocation_calls.status IS 'waiting, or what came of it: revoked, refused, unsupported (the provider takes nothing back) or unknown.';
COMMENT ON COLUMN scheduler.revocation_calls.ready_at IS 'When the next attempt may begin; while one is under way, when another daemon may take it for lost.';
COMMENT ON COLUMN scheduler.revocation_calls.attempts IS 'Attempts begun.';
COMMENT ON COLUMN scheduler.revocation_calls.reason IS 'Why it was not accepted.';
COMMENT ON COLUMN scheduler.revocation_calls.code IS 'The provider''s code.';
COMMENT ON COLUMN scheduler.revocation_calls.message IS 'The provider''s message.';
COMMENT ON COLUMN scheduler.revocation_calls.answer_id IS 'The provider''s id of this call.';
COMMENT ON COLUMN scheduler.revocation_calls.finished_at IS 'When it ended.';
ALTER TABLE scheduler.revocation_calls ENABLE ROW LEVEL SECURITY;
CREATE POLICY granted_apps ON scheduler.revocation_calls
  USING ((SELECT scheduler.visible_apps()) IS NULL OR app_no = ANY ((SELECT scheduler.visible_apps())::integer[]));

-- Asked for again it adds what was accepted since, and nothing twice. A running
-- task goes on: whoever wants it to end cancels its campaign first.
CREATE FUNCTION scheduler.revoke_task(task_id bigint, note text DEFAULT NULL, target text DEFAULT '') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  t record; r bigint; n bigint; who text := coalesce(revoke_task.target, '');
BEGIN
  SELECT x.* INTO t FROM (
    SELECT d.app_no, d.campaign_id, d.due_at FROM scheduler.decided_tasks d WHERE d.id = revoke_task.task_id
    UNION ALL SELECT k.app_no, k.campaign_id, k.due_at FROM scheduler.running_tasks k WHERE k.id = revoke_task.task_id LIMIT 1) x
   WHERE scheduler.may_write(x.app_no);
  IF NOT FOUND THEN
    IF EXISTS (SELECT FROM scheduler.pending_tasks p WHERE p.id = revoke_task.task_id AND scheduler.may_write(p.app_no)) THEN
      RAISE EXCEPTION 'nothing of task % was sent', revoke_task.task_id USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = 'skip the occurrence, or cancel the campaign';
    END IF;
    RAISE EXCEPTION 'there is no task %', revoke_task.task_id USING ERRCODE = 'no_data_found';
  END IF;
  INSERT INTO scheduler.revocations AS v (task_id, app_no, campaign_id, due_at, target, note, requested_by, requested_via)
    VALUES (revoke_task.task_id, t.app_no, t.campaign_id, t.due_at, who, nullif(revoke_task.note, ''), scheduler.actor(), scheduler.actor_via())
    ON CONFLICT (task_id, target) DO UPDATE SET due_at = v.due_at RETURNING v.id INTO r; -- the row is locked: two that ask at once come one after the other
  WITH delivery AS (
    SELECT s.slice_no, s.message_id, s.request_id FROM scheduler.slices s LEFT JOIN scheduler.slice_targets x ON x.slice_id = s.id
     WHERE s.task_id = revoke_task.task_id AND s.status = 'accepted' AND (who = '' OR x.targets IS NULL OR who = ANY (x.targets))
    UNION ALL
    SELECT 1, d.message_id, d.request_id FROM scheduler.decided_tasks d
     WHERE d.id = revoke_task.task_id AND d.status = 'succeeded' AND NOT EXISTS (SELECT FROM scheduler.slices s WHERE s.task_id = d.id)
       AND (who = '' OR coalesce(cardinality(d.targets), 0) = 0 OR who = ANY (d.targets))
  ), added AS (
    INSERT INTO scheduler.revocation_calls (revocation_id, task_id, slice_no, app_no, target, message_id, request_id)
    SELECT r, revoke_task.task_id, y.slice_no, t.app_no, who, y.message_id, y.request_id FROM delivery y
        ON CONFLICT (revocation_id, slice_no) DO NOTHING RETURNING 1
  )
  SELECT count(*) INTO n FROM added;
  IF n = 0 AND NOT EXISTS (SELECT FROM scheduler.revocation_calls c WHERE c.revocation_id = r) THEN
    RAISE EXCEPTION 'the provider accepted nothing of task %', concat(revoke_task.task_id, CASE WHEN who <> '' THEN ' for this target' END)
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN n;
END $$;
COMMENT ON FUNCTION scheduler.revoke_task(bigint, text, text) IS
  'Has the provider take back what it accepted of a task, delivery by delivery; of one target only where target is given. note is for the audit. Returns how many deliveries that are beyond those asked for already.';

SELECT scheduler.set_schema_version(18);

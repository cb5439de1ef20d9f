package store_test

import (
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// BenchmarkVerify looks at 100,000 tasks: half of them of campaigns with one
// occurrence each, half of loops.
func BenchmarkVerify(b *testing.B) {
	db := pgtest.New(b)
	_, err := db.Exec(b.Context(), `
		SET session_replication_role = replica;
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'mpaas');
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, strategy_content, time_zone, status, app_no, written_at, created_by, updated_by,
			created_at, updated_at)
		SELECT n, 'c', 'a', 'mpaas.push_broadcast', CASE WHEN n <= 50000 THEN 1 ELSE 2 END,
		       CASE WHEN n <= 50000 THEN jsonb_build_object('fixedTime', 1770000000000 + n * 1000)
		            ELSE '{"startTime":1767196800000,"endTime":1782738000000,"circleType":1,"time":"09:00:00"}' END,
		       CASE n % 3 WHEN 0 THEN 'Asia/Shanghai' WHEN 1 THEN 'America/New_York' ELSE 'Europe/Berlin' END, 'finished', 1, t, 'me', 'me', t, t
		  FROM generate_series(1, 50280) n, (VALUES ('2026-01-01 00:00+08'::timestamptz)) x (t);
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
		SELECT nextval('scheduler.task_ids'), 1, u.id, 1, 4, 'scheduled', 'succeeded', u.due, u.due, 1, 1, 1, 0
		  FROM (SELECT id, to_timestamp(1770000000 + id) AS due FROM scheduler.campaigns WHERE strategy_type = 1
		        UNION ALL
		        SELECT id, (d + time '09:00') AT TIME ZONE time_zone
		          FROM scheduler.campaigns, generate_series('2026-01-01'::timestamp, '2026-06-29', '1 day') d WHERE strategy_type = 2) u;
		ANALYZE`)
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(b.Context(), store.Config{URL: db.URL, MaxConns: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		v, err := s.Verify(b.Context(), store.VerifyOptions{Now: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			b.Fatal(err)
		}
		if v.Occurrences < 100_000 || v.Tasks < 100_000 || len(v.Findings) > 0 {
			b.Fatalf("%d occurrences, %d tasks, found %v", v.Occurrences, v.Tasks, v.Counts)
		}
	}
}

package store_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// BenchmarkClaimAndRecord is the database's part of a task's way: one operation
// is one task, claimed and recorded in batches of 256.
func BenchmarkClaimAndRecord(b *testing.B) {
	const batch = 256
	ctx := context.Background()
	db := pgtest.New(b)
	s, err := store.Open(ctx, store.Config{URL: db.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	daemon, err := s.Enlist(ctx, store.Newcomer{Name: "bench", Lease: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	tasks := (b.N/batch + 1) * batch
	_, err = db.Exec(ctx, `
		WITH a AS (INSERT INTO scheduler.apps (app_id, provider, pending_limit) SELECT 'a' || i, 'mpaas', 1000 FROM generate_series(1, $1 / 1000 + 1) i RETURNING app_no)
		SELECT count(*) FROM a`, tasks)
	if err != nil {
		b.Fatal(err)
	}
	_, err = db.Exec(ctx, `
		INSERT INTO scheduler.pending_tasks (id, app_no, slot, campaign_id, revision, origin, due_at, ready_at)
		SELECT i, 1 + i / 1000, 1 + i % 1000, i, 1, 'scheduled', now() - interval '1 minute', now() - interval '1 minute' FROM generate_series(0, $1 - 1) i`, tasks)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ResetTimer()
	var claimed, recorded time.Duration
	for at := 0; at < b.N; at += batch {
		ids := make([]int64, batch)
		for i := range ids {
			ids[i] = int64(at + i)
		}
		began := time.Now()
		claim, got, err := s.Claim(ctx, daemon.ID, time.Time{}, ids)
		if err != nil || len(got) != batch {
			b.Fatal(len(got), err)
		}
		claimed += time.Since(began)
		decisions := make([]*store.Decision, batch)
		for i, t := range got {
			decisions[i] = &store.Decision{
				ClaimID: claim, TaskID: t.ID, AppNo: int32(1 + t.ID/1000), CampaignID: t.ID, Revision: 1, Channel: "mpaas.push_multiple",
				Origin: "scheduled", Status: "succeeded", DueAt: now.Add(-time.Minute), StartedAt: now, SentAt: now,
				Targets: []string{"user-" + strconv.Itoa(i)}, Code: "OK", Message: "success", RequestID: "56246ef1013b7f2f0000000000000001", MessageID: "56246ef1013b7f2f0000000000000002",
			}
		}
		began = time.Now()
		if n, err := s.Record(ctx, daemon.ID, decisions, []int64{claim}); err != nil || len(n) != batch {
			b.Fatal(len(n), err)
		}
		recorded += time.Since(began)
	}
	b.ReportMetric(float64(claimed.Nanoseconds())/float64(b.N), "claim-ns/op")
	b.ReportMetric(float64(recorded.Nanoseconds())/float64(b.N), "record-ns/op")
}

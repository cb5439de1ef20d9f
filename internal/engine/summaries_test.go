package engine_test

import (
	"encoding/json"
	"testing"
)

// A look by time reads no more than the last range of pages where nothing is found,
// once the daemon has had the others summarised.
func TestDecidedTasksAreSummarised(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(t, `ALTER TABLE scheduler.decided_tasks SET (autovacuum_enabled = off)`)
	r.run(t, `
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
		SELECT n, 1, n, 1, 1, 'scheduled', 'succeeded', now() - n * interval '1 second', now(), 1, 1, 1, 1 FROM generate_series(1, 45000) n`)
	read := func() int {
		var plan []struct {
			Plan struct {
				Plans []struct {
					Lossy int `json:"Lossy Heap Blocks"`
				}
			}
		}
		text := get[string](t, r, `EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM scheduler.decided_tasks WHERE due_at < '2000-01-01'`)
		if err := json.Unmarshal([]byte(text), &plan); err != nil || len(plan) != 1 || len(plan[0].Plan.Plans) != 1 {
			t.Fatalf("%v in %s", err, text)
		}
		return plan[0].Plan.Plans[0].Lossy
	}
	r.run(t, `SET enable_seqscan = off`)
	if n := read(); n <= 3*128 {
		t.Fatalf("%d pages are read before the daemon starts, the test needs three ranges", n)
	}
	start(t, r.config(t))
	until(t, "full ranges of pages to be summarised", func() bool { return read() <= 128 })
}

package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// manyTasks is how many decided tasks there are in newManyTasks, one each
// second up to now; each thousandth failed, each ten thousandth is unknown.
const manyTasks = 200_000

func newManyTasks(t *testing.T) (*pgtest.DB, *store.Store) {
	t.Helper()
	db := withManyTasks.New(t)
	// Those of the seconds since the template was made.
	_, err := db.Exec(t.Context(), `
		SET session_replication_role = replica;
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
		SELECT 400000 + n, 1, n % 1000 + 1, 1, 9, 'scheduled', 'succeeded', d.last + n * interval '1 second', d.last + (n + 1) * interval '1 second', 1, 1, 1, 1
		  FROM (SELECT max(due_at) AS last FROM scheduler.decided_tasks) d, generate_series(1, floor(extract(epoch FROM now() - d.last))::integer - 1) n;
		SET session_replication_role = origin`)
	do(t, err)
	s, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
	do(t, err)
	t.Cleanup(s.Close)
	return db, s
}

var withManyTasks = pgtest.NewTemplate(func(t testing.TB, db *pgtest.DB) {
	t.Helper()
	_, err := db.Exec(t.Context(), fmt.Sprintf(`
		SET session_replication_role = replica;
		INSERT INTO scheduler.apps (app_id, provider) VALUES ('a', 'webhook');
		INSERT INTO scheduler.campaigns (id, name, app_id, channel, strategy_type, time_zone, app_no, written_at, created_by, updated_by, created_at, updated_at)
		SELECT n, 'c', 'a', 'webhook', 0, 'UTC', 1, now(), 'me', 'me', now(), now() FROM generate_series(1, 1000) n;
		INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count, reason)
		SELECT n, 1, n %% 1000 + 1, 1, 9, 'scheduled', (CASE WHEN n %% 10000 = 0 THEN 'unknown' WHEN n %% 1000 = 0 THEN 'failed' ELSE 'succeeded' END)::scheduler.decision,
		       now() - n * interval '1 second', now() - (n - 1) * interval '1 second', 1, 1, (n %% 1000 <> 0)::integer, 1, CASE WHEN n %% 1000 = 0 THEN 'so' END
		  FROM generate_series(%d, 1, -1) n;
		INSERT INTO scheduler.pending_tasks (id, app_no, campaign_id, revision, origin, due_at, ready_at)
		SELECT 1000000 + n, 1, n, 1, 'immediate', now() + interval '1 day', now() + interval '1 day' FROM generate_series(1, 3) n;
		SET session_replication_role = origin`, manyTasks))
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`VACUUM ANALYZE scheduler.decided_tasks`, `ANALYZE`} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
})

// TestListTasksChooses compares what the list finds, looking back step by step,
// with what is there.
func TestListTasksChooses(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	now, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter store.Filter
		where  string
	}{
		"the latest":     {store.Filter{}, `true`},
		"many":           {store.Filter{Limit: 20_000}, `true`},
		"more than are":  {store.Filter{Campaign: 7, Limit: 1000}, `campaign_id = 7`},
		"pending":        {store.Filter{Statuses: []string{"pending", "running"}}, `status = 'pending'`},
		"failed":         {store.Filter{Statuses: []string{"failed", "missed"}, Limit: 100}, `status = 'failed'`},
		"some of both":   {store.Filter{Statuses: []string{"pending", "failed"}, Limit: 500}, `status IN ('pending', 'failed')`},
		"since":          {store.Filter{Since: now.Add(-90 * time.Second), Limit: 1000}, `due_at >= $1 - interval '90 seconds'`},
		"until":          {store.Filter{Until: now.Add(-24 * time.Hour), Limit: 5}, `due_at < $1 - interval '1 day'`},
		"unknown since":  {store.Filter{Statuses: []string{"unknown"}, Since: now.Add(-12 * time.Hour)}, `status = 'unknown' AND due_at >= $1 - interval '12 hours'`},
		"no such app":    {store.Filter{AppID: "b"}, `false`},
		"by its channel": {store.Filter{Channel: "webhook", Statuses: []string{"succeeded"}}, `status = 'succeeded'`},
	} {
		t.Run(name, func(t *testing.T) {
			tasks, err := s.ListTasks(t.Context(), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			got := []int64{}
			for _, r := range tasks {
				got = append(got, r.ID)
			}
			limit := c.filter.Limit
			if limit == 0 {
				limit = 50
			}
			rows, _ := db.Query(t.Context(), fmt.Sprintf(`SELECT id FROM scheduler.tasks WHERE $1::timestamptz IS NOT NULL AND %s ORDER BY due_at DESC, id DESC LIMIT %d`, c.where, limit), now)
			want, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%.2000s", diff)
			}
		})
	}
}

// TestListTasksReadsLittle asks the database how many decided tasks it looks at
// for a list: not all that there are.
func TestListTasksReadsLittle(t *testing.T) {
	t.Parallel()
	db, s := newManyTasks(t)
	now, err := s.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter store.Filter
		most   float64
	}{
		"the latest": {store.Filter{}, 50},
		"since":      {store.Filter{Since: now.Add(-10 * time.Minute)}, 50},
		"an hour":    {store.Filter{Since: now.Add(-25 * time.Hour), Until: now.Add(-24 * time.Hour)}, 50},
		"succeeded":  {store.Filter{Statuses: []string{"succeeded"}}, 60},
		"pending":    {store.Filter{Statuses: []string{"pending", "running"}}, 0},
		"failed":     {store.Filter{Statuses: []string{"failed", "missed"}}, 100},
		"a campaign": {store.Filter{Campaign: 7}, 150},
	} {
		t.Run(name, func(t *testing.T) {
			total := 0.0
			_, err := s.PageSteps(t.Context(), c.filter, 10*time.Minute, func(tx pgx.Tx, sql string, args []any) (int, error) {
				total += explained(t, tx, sql, args...)
				rows, _ := tx.Query(t.Context(), sql, args...)
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				return len(ids), err
			})
			if err != nil {
				t.Fatal(err)
			}
			if total > c.most {
				t.Errorf("looked at %.0f of %d decided tasks, want at most %.0f", total, manyTasks, c.most)
			}
		})
	}
	for view, most := range map[string]float64{"missed": manyTasks / 1000, "unresolved": 20} {
		if n := explained(t, db, `SELECT * FROM scheduler.`+view+` LIMIT 20`); n > most {
			t.Errorf("scheduler.%s looked at %.0f decided tasks, want at most %.0f", view, n, most)
		}
	}
}

// explained runs a statement and returns how many decided tasks it looked at.
func explained(t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) float64 {
	t.Helper()
	var plan []struct{ Plan json.RawMessage }
	if err := db.QueryRow(t.Context(), `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) `+sql, args...).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	if testing.Verbose() {
		t.Logf("%s\n%s", sql, plan[0].Plan)
	}
	return planRows(t, plan[0].Plan, "decided_tasks")
}

// planRows sums up the rows of a table that a plan's nodes have read.
func planRows(t *testing.T, raw json.RawMessage, table string) float64 {
	t.Helper()
	var node struct {
		Relation string            `json:"Relation Name"`
		Rows     float64           `json:"Actual Rows"`
		Loops    float64           `json:"Actual Loops"`
		Filtered float64           `json:"Rows Removed by Filter"`
		Recheck  float64           `json:"Rows Removed by Index Recheck"`
		Plans    []json.RawMessage `json:"Plans"`
	}
	if err := json.Unmarshal(raw, &node); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	if node.Relation == table {
		sum = (node.Rows + node.Filtered + node.Recheck) * node.Loops
	}
	for _, below := range node.Plans {
		sum += planRows(t, below, table)
	}
	return sum
}

package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// hotTables grow with the number of campaigns or tasks.
var hotTables = []string{"campaigns", "campaign_cursors", "pending_tasks", "decided_tasks"}

// stocked is how many rows the tables grow to. What is read while they are
// almost empty is far less.
const stocked = 3000

// A statement is planned once a connection and goes on with that plan, so it
// must be right whatever the tables held, and whatever was known of them, when
// it was made. Each case lets one connection work on tables that are almost
// empty, fills them, and lets it work again: whole tables must not be read.
func TestNoPlanReadsWholeTables(t *testing.T) {
	t.Parallel()
	for name, analyze := range map[string]struct{ empty, full bool }{
		"never analysed":              {},
		"analysed while empty":        {empty: true},
		"analysed while full":         {full: true},
		"analysed in between as well": {empty: true, full: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			run(t, db, `INSERT INTO scheduler.apps (app_id, provider, pending_limit) VALUES ('a', 'mpaas', 100000)`)
			for _, table := range hotTables {
				run(t, db, `ALTER TABLE scheduler.`+table+` SET (autovacuum_enabled = false)`)
			}
			if analyze.empty {
				run(t, db, `VACUUM ANALYZE`)
			}
			s, err := store.Open(t.Context(), store.Config{URL: db.URL, MaxConns: 1})
			if err != nil {
				t.Fatal(err)
			}
			daemon, err := s.Enlist(t.Context(), store.Newcomer{Name: "flip", Lease: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				work(t, db, s, daemon.ID, stock(t, db, 1))
			}
			stock(t, db, stocked)
			if analyze.full {
				run(t, db, `VACUUM ANALYZE`)
			}
			for range 5 {
				work(t, db, s, daemon.ID, stock(t, db, 1))
			}
			s.Close()
			awaitEnd(t, db)
			for table, n := range rowsRead(t, db) {
				if n >= stocked {
					t.Errorf("%d rows of %s were read, to find a few", n, table)
				}
			}
		})
	}
}

// stock adds n campaigns with a task each that is due, and returns the newest. When
// they are many, they come past the triggers, which would judge each of them for a
// millisecond, and with as many decided tasks: the first plans are made while nothing
// has been decided yet.
func stock(t *testing.T, db *pgtest.DB, n int) (newest int64) {
	t.Helper()
	tx, err := db.Begin(t.Context())
	do(t, err)
	if n > 1 {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`)
		do(t, err)
	}
	do(t, tx.QueryRow(t.Context(), `
		WITH c AS (
			INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, time_zone, app_no, written_at, created_by, updated_by, created_at, updated_at)
			SELECT 'x', 'a', 'mpaas.push_multiple', 1, jsonb_build_object('fixedTime', (extract(epoch FROM now() + interval '1 day') * 1000)::bigint),
			       'UTC', 1, now(), 'x', 'x', now(), now() FROM generate_series(1, $1::integer)
			RETURNING id, app_no
		), u AS (
			INSERT INTO scheduler.campaign_changes (app_no, campaign_id) SELECT app_no, id FROM c WHERE $1 > 1
		), d AS (
			INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, decided_at, attempts, slices, accepted, target_count)
			SELECT nextval('scheduler.task_ids'), app_no, id, 1, 1, 'scheduled', 'succeeded', now() - interval '1 day', now(), 1, 1, 1, 1 FROM c WHERE $1 > 1
		), p AS (
			INSERT INTO scheduler.pending_tasks (app_no, campaign_id, revision, origin, due_at, ready_at)
			SELECT app_no, id, 1, 'immediate', now(), now() FROM c
		)
		SELECT max(id) FROM c`, n).Scan(&newest))
	do(t, tx.Commit(t.Context()))
	return newest
}

// work plans the app and decides what is due, as the engine does.
func work(t *testing.T, db *pgtest.DB, s *store.Store, daemon, newest int64) {
	t.Helper()
	ctx := t.Context()
	changes, campaigns := unplanned(t, s, 1, 20)
	if _, err := s.PlanApp(ctx, 1, time.Time{}, func(tx *store.PlanTx) error { return plan(ctx, tx, changes, campaigns, newest) }); err != nil {
		t.Fatal(err)
	}
	ready, _, err := s.Upcoming(ctx, time.Now(), nil, nil, 0, 1, 10, 10)
	if err != nil || len(ready) == 0 {
		t.Fatalf("%d tasks are ready, %v", len(ready), err)
	}
	ids := make([]int64, len(ready))
	decisions := make(map[int64]*store.Decision, len(ready))
	for i, r := range ready {
		ids[i] = r.ID
		decisions[r.ID] = &store.Decision{
			TaskID: r.ID, AppNo: r.AppNo, CampaignID: r.CampaignID, Revision: 1, Channel: "mpaas.push_multiple",
			Origin: r.Origin, Status: "succeeded", DueAt: r.DueAt, StartedAt: time.Now(), SentAt: time.Now(),
		}
	}
	claimAndRecord := func(want int) {
		claim, claimed, err := s.Claim(ctx, daemon, time.Time{}, ids)
		if err != nil || len(claimed) != want {
			t.Fatalf("%d of %d tasks claimed, %v", len(claimed), want, err)
		}
		list := make([]*store.Decision, want)
		for i, c := range claimed {
			list[i] = decisions[c.ID]
			list[i].ClaimID = claim
		}
		if _, err := s.Record(ctx, daemon, list, []int64{claim}); err != nil {
			t.Fatal(err)
		}
	}
	// First the way around a task that somebody holds, then the straight one.
	hold(t, db, func() { claimAndRecord(len(ids) - 1) }, `SELECT FROM scheduler.pending_tasks WHERE id = $1 FOR UPDATE`, ids[0])
	claimAndRecord(1)
	ended := make([]int64, len(ready))
	for i, r := range ready {
		ended[i] = r.CampaignID
	}
	if _, err := s.Campaigns(ctx, ended); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FinishCampaigns(ctx, ended); err != nil {
		t.Fatal(err)
	}
}

// plan does everything a planner may do in one transaction, with changes in the
// order they come and with the newest campaign, whose rows are the last of each
// index: a plan that goes through an index from its start reads all of it.
func plan(ctx context.Context, tx *store.PlanTx, unplanned []store.Unplanned, campaigns map[int64]*store.Campaign, newest int64) error {
	changes, err := tx.Changes(ctx, unplanned, campaigns)
	if err != nil {
		return err
	}
	var cursors []store.Cursor
	var tasks []store.NewTask
	for i, c := range changes {
		if c.Campaign == nil {
			continue
		}
		next := tx.Now.Add(time.Duration(24+i) * time.Hour)
		cursors = append(cursors, store.Cursor{CampaignID: c.CampaignID, Revision: 1, Active: true, NextDueAt: next})
		tasks = append(tasks, store.NewTask{CampaignID: c.CampaignID, Revision: 1, Origin: "immediate", DueAt: next})
	}
	if err := tx.SaveCursors(ctx, cursors); err != nil {
		return err
	}
	if _, err := tx.Candidates(ctx, tx.Now.Add(time.Hour), 10); err != nil {
		return err
	}
	if _, err := tx.Lock(ctx, []int64{changes[0].CampaignID}); err != nil {
		return err
	}
	if err := tx.SaveCursors(ctx, advanced(cursors)); err != nil {
		return err
	}
	if err := tx.Rewind(ctx, []store.PendingTask{{CampaignID: changes[0].CampaignID, DueAt: tx.Now}}); err != nil {
		return err
	}
	later := tx.Now.Add(100 * time.Hour)
	tasks = append(tasks, store.NewTask{CampaignID: newest, Revision: 1, Origin: "immediate", DueAt: later})
	if _, err := tx.Insert(ctx, tasks); err != nil {
		return err
	}
	return tx.Decide(ctx, []store.Decision{{
		CampaignID: newest, Revision: 1, Channel: "mpaas.push_multiple", DueAt: later.Add(time.Hour), Status: "missed", Reason: "x",
	}})
}

// awaitEnd returns once the store's connections are gone, which report what they
// did before they go.
func awaitEnd(t *testing.T, db *pgtest.DB) {
	t.Helper()
	for gone := false; !gone; {
		err := db.QueryRow(t.Context(), `
			SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'scheduler%')`).Scan(&gone)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// rowsRead is how many rows of each hot table were read, with an index or
// without.
func rowsRead(t *testing.T, db *pgtest.DB) map[string]int64 {
	t.Helper()
	out := make(map[string]int64)
	for _, table := range hotTables {
		var n int64
		err := db.QueryRow(t.Context(), `
			SELECT t.seq_tup_read + (SELECT coalesce(sum(i.idx_tup_read), 0) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)::bigint
			  FROM pg_stat_user_tables t WHERE t.schemaname = 'scheduler' AND t.relname = $1`, table).Scan(&n)
		if err != nil {
			t.Fatal(table, err)
		}
		out[table] = n
	}
	return out
}

// advanced are the cursors an hour further.
func advanced(cursors []store.Cursor) []store.Cursor {
	out := slices.Clone(cursors)
	for i := range out {
		out[i].NextDueAt = out[i].NextDueAt.Add(time.Hour)
	}
	return out
}

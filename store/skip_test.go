package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// What skip_occurrence and the API take for an occurrence is what package
// strategy does.
func TestCampaignOccurrencesAgreeWithStrategy(t *testing.T) {
	t.Parallel()
	db := surface(t)
	id := campaign(t, db)
	rapid.Check(t, func(r *rapid.T) {
		spec := strategytest.Good(r)
		s, _, err := strategy.Parse(spec)
		if err != nil {
			return
		}
		var got []time.Time
		err = pgx.BeginFunc(context.Background(), db.Pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`) // no triggers: the spec's day is not today
			if err == nil {
				_, err = tx.Exec(t.Context(), `
					UPDATE scheduler.campaigns SET strategy_type = $2, strategy_content = $3, time_zone = $4, short_month_policy = $5, dst_gap_policy = $6, written_at = $7, times = $8
					 WHERE id = $1`, id, int16(spec.Type), orNull(spec.Content), spec.Zone, string(spec.ShortMonth), string(spec.DSTGap), spec.WrittenAt, spec.Times)
			}
			if err != nil {
				return err
			}
			rows, _ := tx.Query(t.Context(), `SELECT scheduler.occurrences($1, '-infinity', 'infinity')`, id)
			got, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
			return err
		})
		if err != nil {
			r.Fatal(err)
		}
		compareOccurrences(r, spec, occurrences(s), got)
	})
}

func orNull(content []byte) *string {
	if len(content) == 0 {
		return nil
	}
	text := string(content)
	return &text
}

func TestSkipOccurrenceRefuses(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, time_zone)
		SELECT 'loop', app_id, channel, 2, $1::jsonb, 'UTC' FROM scheduler.campaigns WHERE id = $2 RETURNING id`, loop(9), campaign(t, db))
	dues := occurrencesOf(t, db, id)
	pend(t, db, id, 1, dues[1])
	for _, tt := range []struct {
		name, want string
		id         int64
		due        time.Time
	}{
		{"no campaign", "there is no such campaign", 999, dues[1]},
		{"past", "is past", id, dues[1].AddDate(-1, 0, 0)},
		{"no occurrence", "is no occurrence", id, dues[1].Add(time.Second)},
	} {
		if _, err := s.SkipOccurrence(t.Context(), tt.id, tt.due, "", false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for _, want := range []bool{true, false} { // the second time it is so already
		if changed, err := s.SkipOccurrence(t.Context(), id, dues[1], "holiday", false); err != nil || changed != want {
			t.Errorf("skip: %v, %v", changed, err)
		}
	}
	got := one[string](t, db, `SELECT status || ', ' || reason FROM scheduler.tasks WHERE campaign_id = $1 AND due_at = $2`, id, dues[1])
	if want := "cancelled, skipped by postgres: holiday"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	run(t, db, `UPDATE scheduler.campaigns SET status = 'cancelled' WHERE id = $1`, id)
	for _, back := range []bool{false, true} {
		due := dues[2]
		if back {
			due = dues[1]
		}
		if _, err := s.SkipOccurrence(t.Context(), id, due, "", back); err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("of a cancelled campaign, back %v: %v", back, err)
		}
	}
}

func occurrencesOf(t *testing.T, db *pgtest.DB, id int64) []time.Time {
	t.Helper()
	rows, _ := db.Query(t.Context(), `SELECT scheduler.occurrences($1, now(), 'infinity')`, id)
	dues, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil || len(dues) < 4 {
		t.Fatalf("%d occurrences, %v", len(dues), err)
	}
	return dues
}

// What has begun is not skipped, whichever place it is in.
func TestSkipOccurrenceThatHasBegun(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	id := one[int64](t, db, `INSERT INTO scheduler.campaigns (name, app_id, channel, strategy_type, strategy_content, time_zone)
		SELECT 'loop', app_id, channel, 2, $1::jsonb, 'UTC' FROM scheduler.campaigns WHERE id = $2 RETURNING id`, loop(9), campaign(t, db))
	due := occurrencesOf(t, db, id)[1]
	for place, sql := range map[string]string{
		"claims": `INSERT INTO scheduler.claims (daemon_id, task_ids, app_nos, campaign_ids, revisions, origins, due_ats)
			SELECT 1, ARRAY[-1], ARRAY[app_no], ARRAY[id], ARRAY[1], ARRAY['scheduled'::scheduler.task_origin], ARRAY[$2::timestamptz] FROM scheduler.campaigns WHERE id = $1`,
		"running_tasks": `INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
			SELECT -2, app_no, id, 1, 'scheduled', $2, now(), 1, 1 FROM scheduler.campaigns WHERE id = $1`,
	} {
		run(t, db, sql, id, due)
		if _, err := s.SkipOccurrence(t.Context(), id, due, "", false); err == nil || !strings.Contains(err.Error(), "is running already") {
			t.Errorf("%s: %v", place, err)
		}
		run(t, db, `DELETE FROM scheduler.`+place)
	}
	if changed, err := s.SkipOccurrence(t.Context(), id, due, "", false); err != nil || !changed {
		t.Errorf("before it begins: %v, %v", changed, err)
	}
}

// Authors skip in the apps granted to them, and the audit names them.
func TestSkipOccurrenceByRole(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	author, reader := p.connect(t, "author"), p.connect(t, "reader")
	const due = `to_timestamp(4102444800)`
	p.exec(t, `DELETE FROM scheduler.pending_tasks`)
	for _, tt := range []struct {
		who  string
		conn *pgx.Conn
		sql  string
		want string
	}{
		{"author", author, `SELECT scheduler.skip_occurrence(1000002, %s, 'x')`, "P0002"},
		{"author", author, `INSERT INTO scheduler.skipped_occurrences (campaign_id, due_at) VALUES (1000002, %s)`, denied},
		{"reader", reader, `SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, denied},
		{"author", author, `SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, ""},
	} {
		if _, state := try(t, tt.conn, fmt.Sprintf(tt.sql, due)); state != tt.want {
			t.Errorf("%s: %s: %q, want %q", tt.who, tt.sql, state, tt.want)
		}
	}
	if _, err := author.Exec(t.Context(), fmt.Sprintf(`SELECT scheduler.skip_occurrence(1000001, %s, 'x')`, due)); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, p.db, `SELECT skipped_by FROM scheduler.skipped_occurrences`); got != p.names["author"] {
		t.Errorf("skipped by %s", got)
	}
	if _, err := author.Exec(t.Context(), `UPDATE scheduler.skipped_occurrences SET restored_note = 'x'`); err == nil {
		t.Error("an audit was changed")
	}
	if _, err := author.Exec(t.Context(), fmt.Sprintf(`SELECT scheduler.unskip_occurrence(1000001, %s, 'y')`, due)); err != nil {
		t.Error(err)
	}
	if got := one[string](t, p.db, `SELECT restored_by || ' ' || restored_note FROM scheduler.skipped_occurrences`); got != p.names["author"]+" y" {
		t.Errorf("restored by %s", got)
	}
}

// A nonce is used once, also by two connections at the same time.
func TestNonceIsUsedOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx := author(t, db, `SELECT scheduler.use_nonce($1, now() + interval '1 hour')`, nonceOf(1))
	second := make(chan error, 1)
	go func() {
		_, err := db.Exec(context.WithoutCancel(t.Context()), `SELECT scheduler.use_nonce($1, now() + interval '1 hour')`, nonceOf(1))
		second <- err
	}()
	blocked(t, db, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-second; !store.IsNonceUsed(err) {
		t.Errorf("the second use: %v", err)
	}
	run(t, db, `SELECT scheduler.use_nonce($1, now() - interval '1 hour')`, nonceOf(2))
	if n := one[int64](t, db, `SELECT scheduler.prune_nonces(100)`); n != 1 {
		t.Errorf("%d nonces pruned, want the one that has expired", n)
	}
}

func nonceOf(n byte) []byte { return append(make([]byte, 15), n) }

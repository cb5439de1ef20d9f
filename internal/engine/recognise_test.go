package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// engineTables are those of which a failover may lose rows.
var engineTables = []string{
	"pending_tasks", "claims", "running_tasks", "slices", "slice_targets", "decided_tasks", "quota_uses", "daemons", "campaign_cursors", "campaign_changes", "recognitions",
}

// photograph remembers the engine's tables as they are.
func (r *rig) photograph(t *testing.T) {
	t.Helper()
	err := pgx.BeginTxFunc(t.Context(), r, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		for _, table := range engineTables {
			if _, err := tx.Exec(t.Context(), fmt.Sprintf(`CREATE TABLE public.then_%s AS TABLE scheduler.%[1]s`, table)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// failOver has the database lose what was committed since the photograph, as a
// standby that lagged has not got it: all connections break, and the unlogged
// table is empty. lost tells which tables lose; nil: all.
func (r *rig) failOver(t *testing.T, lost ...string) {
	t.Helper()
	if lost == nil {
		lost = engineTables
	}
	for {
		err := r.lose(t, lost)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "40P01" {
			continue // a deadlock with the engine: nothing is lost yet
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
}

func (r *rig) lose(t *testing.T, tables []string) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), r, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil { // no triggers
			return err
		}
		for _, table := range tables {
			_, err := tx.Exec(t.Context(), fmt.Sprintf(`LOCK TABLE scheduler.%[1]s; DELETE FROM scheduler.%[1]s;
				INSERT INTO scheduler.%[1]s OVERRIDING SYSTEM VALUE SELECT * FROM public.then_%[1]s`, table))
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		_, err := tx.Exec(t.Context(), `
			DELETE FROM scheduler.recognition;
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'scheduler%'`)
		return err
	})
}

// recognised waits until everything may begin again.
func (r *rig) recognised(t *testing.T) {
	t.Helper()
	until(t, "the database to be recognised", func() bool {
		return get[bool](t, r, `SELECT EXISTS (SELECT FROM scheduler.recognitions WHERE seal = scheduler.seal() AND complete_at IS NOT NULL)`)
	})
}

// once asserts that each key was called once.
func (r *rig) once(t *testing.T) {
	t.Helper()
	seen := make(map[string]int)
	for _, c := range r.pusher.seen() {
		if len(c.keys) == 0 {
			seen[c.msgKey]++
		}
		for _, k := range c.keys {
			seen[k]++
		}
	}
	for key, n := range seen {
		if n > 1 {
			t.Errorf("key %s called %d times", key, n)
		}
	}
}

// TestLostTailIsWrittenAgain is a failover to a standby that is less than a
// heartbeat behind: what this daemon had begun and recorded there is lost, and
// is pushed once all the same.
func TestLostTailIsWrittenAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	no := r.app(t, "shop", "webhook", nil)
	r.app(t, "phone", "mpaas", nil)
	due := time.Now().Add(3 * time.Second).Truncate(time.Second)
	var campaigns []int64
	for range 20 {
		campaigns = append(campaigns, r.insert(t, "shop", "webhook", 1, fixed(due)))
	}
	plan(t, r.planner(t), no, time.Time{})
	e := beaten(t, r.config(t))
	t.Cleanup(func() { stop(t, e) })
	r.photograph(t)
	for _, c := range campaigns {
		r.decided(t, c, 1)
	}
	r.failOver(t)
	r.recognised(t)
	for _, c := range campaigns {
		if got := r.decided(t, c, 1); got[0] != "succeeded" {
			t.Errorf("campaign %d: %s", c, got)
		}
	}
	r.once(t)
	if held(t, r) {
		t.Error("held, though all that was lost is written again")
	}
}

// TestLostRecordIsWrittenAgain loses the record and keeps the claim: it is not
// given back, since this daemon has recorded it.
func TestLostRecordIsWrittenAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	_, release := block(r.pusher, accepted)
	e := beaten(t, r.config(t))
	t.Cleanup(func() { stop(t, e) })
	c := r.insert(t, "shop", "webhook", 0, nil)
	until(t, "the call", func() bool { return r.pusher.count() == 1 })
	r.photograph(t)
	release()
	r.decided(t, c, 1)
	r.failOver(t)
	r.recognised(t)
	if got := r.decided(t, c, 1); got[0] != "succeeded" {
		t.Errorf("%s", got)
	}
	until(t, "no claim to be left", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.claims`) == 0 })
	r.once(t)
}

// TestLostDeliveriesAreWrittenAgain loses attempts of stored deliveries, and in
// a second case the begin of their task too: then it is unknown.
func TestLostDeliveriesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begun bool // before the photograph
		want  string
	}{
		"attempts":  {true, "succeeded"},
		"the begin": {false, "unknown: the database lost the begin of its deliveries, of which some were made"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			no := r.app(t, "phone", "mpaas", &engine.App{})
			var names []string
			for i := range 250 {
				names = append(names, fmt.Sprintf(`"u%03d"`, i))
			}
			due := time.Now().Add(3 * time.Second).Truncate(time.Second)
			campaign := r.insert(t, "phone", "mpaas.push_multiple", 1, fixed(due), "request", `{"targets": [`+strings.Join(names, ",")+`]}`)
			plan(t, r.planner(t), no, time.Time{})
			_, release := block(r.pusher, accepted)
			e := beaten(t, r.config(t))
			t.Cleanup(func() { stop(t, e) })
			if !c.begun {
				r.photograph(t)
			}
			until(t, "the calls", func() bool { return r.pusher.count() == 3 })
			if c.begun {
				r.photograph(t)
				r.run(t, `UPDATE public.then_slices SET status = 'waiting', daemon_id = NULL, attempts = 0, sent_at = NULL`)
			}
			release()
			r.decided(t, campaign, 1)
			r.failOver(t)
			r.recognised(t)
			if got := r.decided(t, campaign, 1); got[0] != c.want {
				t.Errorf("%s", got)
			}
			r.once(t)
		})
	}
}

// TestWhatIsNotRememberedIsNotMadeAgain restores the database as it was during
// calls that this daemon has forgotten by then, and an operator releases it: nobody
// knows whether the calls were made, and so they become unknown.
func TestWhatIsNotRememberedIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.app(t, "shop", "webhook", nil)
	r.app(t, "phone", "mpaas", nil)
	var names []string
	for i := range 250 {
		names = append(names, fmt.Sprintf(`"u%03d"`, i))
	}
	_, release := block(r.pusher, accepted)
	cfg := r.config(t)
	cfg.Lease = time.Second // many heartbeats
	e := beaten(t, cfg)
	t.Cleanup(func() { stop(t, e) })
	campaigns := []int64{
		r.insert(t, "shop", "webhook", 0, nil),
		r.insert(t, "phone", "mpaas.push_multiple", 0, nil, "request", `{"targets": [`+strings.Join(names, ",")+`]}`),
	}
	until(t, "the calls", func() bool { return r.pusher.count() == 4 })
	r.photograph(t)
	release()
	for _, c := range campaigns {
		r.decided(t, c, 1)
	}
	recorded := e.Beats()
	until(t, "the calls to be forgotten", func() bool { return e.Beats() > recorded+engine.LedgerPages })
	r.failOver(t)
	r.recognised(t)
	until(t, "a hold", func() bool { return held(t, r) })
	r.run(t, `SELECT scheduler.release_hold()`)
	for _, c := range campaigns {
		if got := r.decided(t, c, 1); !strings.HasPrefix(got[0], "unknown: ") {
			t.Errorf("campaign %d: %s", c, got)
		}
	}
	r.once(t)
}

// TestAllDaemonsLookFirst has a second daemon on the database whose knowledge is
// needed: nothing begins before it has looked. When it is gone for good, and
// something is known to be lost, everything is held.
func TestAllDaemonsLookFirst(t *testing.T) {
	t.Parallel()
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		no := r.app(t, "shop", "webhook", nil)
		due := time.Now().Add(3 * time.Second).Truncate(time.Second)
		var campaigns []int64
		for range 30 {
			campaigns = append(campaigns, r.insert(t, "shop", "webhook", 1, fixed(due)))
		}
		plan(t, r.planner(t), no, time.Time{})
		one, other := beaten(t, r.config(t)), beaten(t, r.config(t))
		t.Cleanup(func() { stop(t, one); stop(t, other) })
		r.photograph(t)
		for _, c := range campaigns {
			r.decided(t, c, 1)
		}
		r.failOver(t)
		r.recognised(t)
		for _, c := range campaigns {
			r.decided(t, c, 1)
		}
		r.once(t)
		if held(t, r) {
			t.Error("held")
		}
	})
	for name, lost := range map[string]bool{"one is gone, something is lost": true, "one is gone, nothing is lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			no := r.app(t, "shop", "webhook", nil)
			c := r.insert(t, "shop", "webhook", 1, fixed(time.Now().Add(time.Hour)))
			plan(t, r.planner(t), no, time.Time{})
			cfg := r.config(t)
			cfg.Lease = 2 * time.Second
			e := beaten(t, cfg)
			t.Cleanup(func() { stop(t, e) })
			gone := get[int64](t, r, `INSERT INTO scheduler.daemons (name, version, leased_until) VALUES ('gone', '', clock_timestamp() + '1 hour') RETURNING id`)
			r.photograph(t)
			if lost {
				before := e.Beats()
				until(t, "heartbeats", func() bool { return e.Beats() > before+1 })
				r.failOver(t)
			} else {
				r.failOver(t, "recognitions")
			}
			r.recognised(t)
			until(t, "the judgement", func() bool { return held(t, r) == lost })
			if lost {
				reason := get[string](t, r, `SELECT reason FROM scheduler.hold`)
				if !strings.Contains(reason, fmt.Sprintf("nobody knows what daemon %d had begun", gone)) {
					t.Errorf("campaign %d: %s", c, reason)
				}
			}
		})
	}
}

// TestTimelineSeenToLoseNothingIsKnown is a failover without a loss, and a stop
// of all daemons afterwards: nothing is held at the next start.
func TestTimelineSeenToLoseNothingIsKnown(t *testing.T) {
	t.Parallel()
	r, overdue, _ := guarded(t)
	e := beaten(t, r.config(t))
	r.decided(t, overdue, 1)
	r.run(t, `CREATE OR REPLACE FUNCTION scheduler.database_place(OUT place text, OUT timeline integer) LANGUAGE sql AS $$ SELECT i.place, 7 FROM scheduler.installation i $$`)
	r.photograph(t)
	r.failOver(t, "recognitions")
	r.recognised(t)
	stop(t, e)
	late := r.insert(t, "shop", "webhook", 1, fixed(time.Now().Add(-time.Second)))
	r.run(t, `UPDATE scheduler.daemons SET seen_at = clock_timestamp() - interval '310 seconds', started_at = clock_timestamp() - interval '400 seconds'`)
	if why := readiness(t, start(t, r.config(t))); why != "" {
		t.Errorf("not ready: %s", why)
	}
	r.decided(t, late, 1)
}

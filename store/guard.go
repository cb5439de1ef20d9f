package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Mark is what a daemon remembers of a database, in a file outside it. It is
// enough to tell the database from a copy, and from the same database set back
// to an earlier moment.
type Mark struct {
	Installation string    `json:"installation"` // the database's id
	Address      string    `json:"address"`      // where it was reached
	Daemon       int64     `json:"daemon"`       // a daemon that ran on it
	Beats        int64     `json:"beats"`        // heartbeats that daemon wrote
	SeenAt       time.Time `json:"seen_at"`      // the last of them, by the database's clock
}

// A Newcomer is a daemon that asks for its first lease, or for one after it
// lost another.
type Newcomer struct {
	Name, Version string
	Lease         time.Duration
	Marks         []Mark        // what it remembers
	MaxGap        time.Duration // between heartbeats of any daemon; zero: 24 h
	Run           bool          // go on where the guard would hold
}

// Enlisted is a daemon with a lease.
type Enlisted struct {
	ID           int64
	Installation string
	GuardReason  string // why the guard holds, or would hold; empty: it has no reason
	Seal         string // of the database
	Complete     bool   // whether pushes may begin on the database
	Origin       uint32 // see Known
}

// Enlist writes a new daemon's row with a lease. In the same transaction it
// judges whether this is the database on which daemons last worked, and not an
// earlier state of it. In doubt it holds everything, before any daemon can
// begin a push.
func (s *Store) Enlist(ctx context.Context, n Newcomer) (Enlisted, error) {
	var out Enlisted
	err := s.asAny(ctx, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT scheduler.meet($1 * interval '1 microsecond', '{}')`, n.Lease.Microseconds()).Scan(&out.Seal); err != nil {
			return err
		}
		f, err := readFacts(ctx, tx, n.Marks)
		if err != nil {
			return err
		}
		out.Installation, out.Origin, out.GuardReason = f.installation, f.origin, f.guardReason(n, s.Address())
		if err := adopt(ctx, tx, f); err != nil {
			return err
		}
		if out.GuardReason != "" && !n.Run {
			if err := holdFor(ctx, tx, out.GuardReason); err != nil {
				return err
			}
		}
		err = tx.QueryRow(ctx, `
			INSERT INTO scheduler.daemons (name, version, leased_until, recognised) VALUES ($1, $2, clock_timestamp() + $3 * interval '1 microsecond', $4)
			RETURNING id`, n.Name, n.Version, n.Lease.Microseconds(), out.Seal).Scan(&out.ID)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT scheduler.complete_recognition($1)`, out.Seal).Scan(&out.Complete)
	})
	if err != nil {
		return Enlisted{}, fmt.Errorf("enlist daemon: %w", err)
	}
	return out, nil
}

// Address returns the address and name of the database, without secrets.
func (s *Store) Address() string {
	c := s.pool.Config().ConnConfig
	return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database)
}

// facts are the signs of a database's past.
type facts struct {
	installation         string
	origin               uint32
	place, lastPlace     string // empty: unknown
	timeline, lastTimely int32
	now                  time.Time
	lastBeat             time.Time // of any daemon; zero: none ever ran
	releasedAt           time.Time // when an operator last released a hold
	overdue              bool      // an occurrence should have begun, or had begun
	work                 bool      // anything might be pushed, now or later
	beats                map[int64]int64
	marks                []Mark
}

// readFacts locks the hold, so that the first of several daemons that start
// together judges for all.
func readFacts(ctx context.Context, tx pgx.Tx, marks []Mark) (facts, error) {
	f := facts{beats: make(map[int64]int64), marks: marks}
	if _, err := tx.Exec(ctx, `SELECT FROM scheduler.hold FOR UPDATE`); err != nil {
		return f, fmt.Errorf("lock hold: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO scheduler.installation DEFAULT VALUES ON CONFLICT DO NOTHING`); err != nil {
		return f, fmt.Errorf("write installation: %w", err)
	}
	var lastBeat, releasedAt *time.Time
	var unfinished bool
	err := tx.QueryRow(ctx, `
		SELECT i.id::text, i.tableoid, coalesce(p.place, ''), coalesce(i.place, ''), coalesce(p.timeline, 0), coalesce(i.timeline, 0),
		       clock_timestamp(), (SELECT max(seen_at) FROM scheduler.daemons), (SELECT released_at FROM scheduler.hold),
		       EXISTS (SELECT FROM scheduler.claims) OR EXISTS (SELECT FROM scheduler.slices WHERE finished_at IS NULL),
		       EXISTS (SELECT FROM scheduler.pending_tasks WHERE due_at < clock_timestamp())
		         OR EXISTS (SELECT FROM scheduler.campaign_cursors WHERE active AND next_due_at < clock_timestamp()),
		       EXISTS (SELECT FROM scheduler.pending_tasks) OR EXISTS (SELECT FROM scheduler.campaign_cursors WHERE next_due_at IS NOT NULL)
		         OR EXISTS (SELECT FROM scheduler.campaign_changes)
		  FROM scheduler.installation i, scheduler.database_place() p`).
		Scan(&f.installation, &f.origin, &f.place, &f.lastPlace, &f.timeline, &f.lastTimely, &f.now, &lastBeat, &releasedAt, &unfinished, &f.overdue, &f.work)
	if err != nil {
		return f, fmt.Errorf("read installation: %w", err)
	}
	if lastBeat != nil {
		f.lastBeat = *lastBeat
	}
	if releasedAt != nil {
		f.releasedAt = *releasedAt
	}
	f.overdue, f.work = f.overdue || unfinished, f.work || unfinished
	return f, f.readBeats(ctx, tx)
}

func (f *facts) readBeats(ctx context.Context, tx pgx.Tx) error {
	ids := make([]int64, len(f.marks))
	for i, m := range f.marks {
		ids[i] = m.Daemon
	}
	rows, _ := tx.Query(ctx, `SELECT id, beats FROM scheduler.daemons WHERE id = ANY($1)`, ids)
	var id, beats int64
	_, err := pgx.ForEachRow(rows, []any{&id, &beats}, func() error { f.beats[id] = beats; return nil })
	if err != nil {
		return fmt.Errorf("read heartbeats: %w", err)
	}
	return nil
}

// Bounds of the guard that nobody needs to choose.
const (
	defaultMaxGap = 24 * time.Hour
	// timelineGap bounds the gap when the cluster has begun a new timeline since.
	// A failover takes less time, a recovery to a point in time takes more.
	timelineGap = 5 * time.Minute
	// markAge is how long a mark is used. Rows of ended daemons, with which
	// marks are compared, are removed after 30 days.
	markAge = 28 * 24 * time.Hour
)

// guardReason returns why the database may be a copy, or may be set back, so that its
// tasks may have been pushed already. Empty: there is no sign of that, or there is
// nothing to push.
func (f *facts) guardReason(n Newcomer, address string) string {
	if !f.work {
		return ""
	}
	for _, m := range f.marks {
		if reason := f.contradicts(m, address); reason != "" {
			return reason
		}
	}
	if moved := f.moved(); moved != "" {
		return moved
	}
	if f.lastBeat.IsZero() || !f.overdue {
		return ""
	}
	gap := f.now.Sub(f.lastBeat)
	maxGap := cmp.Or(n.MaxGap, defaultMaxGap)
	switch {
	case f.lastTimely != 0 && f.timeline > f.lastTimely && gap > min(timelineGap, maxGap):
		return fmt.Sprintf("the database was recovered (timeline %d after %d) and has no heartbeat of the last %s, while pushes were due",
			f.timeline, f.lastTimely, gap.Truncate(time.Second))
	case gap > maxGap:
		return fmt.Sprintf("no daemon's heartbeat for %s, beyond restore_guard.max_gap of %s, while pushes were due", gap.Truncate(time.Second), maxGap)
	}
	return ""
}

// moved returns how the place where the database runs has changed; empty: it has not.
func (f *facts) moved() string {
	if f.lastPlace == "" || f.place == "" || f.place == f.lastPlace {
		return ""
	}
	return fmt.Sprintf("the database has moved: it ran in %s, and runs in %s now; it may be a copy whose original still pushes", f.lastPlace, f.place)
}

func setBack(m Mark, known int64) string {
	return fmt.Sprintf("the database was set back: daemon %d wrote %d heartbeats, of which it knows %d; the last was at %s",
		m.Daemon, m.Beats, known, m.SeenAt.UTC().Format(time.RFC3339))
}

// contradicts returns how the database differs from what a daemon remembers;
// empty: it does not. A mark from before the last release no longer counts,
// since an operator has ruled on it.
func (f *facts) contradicts(m Mark, address string) string {
	if m.SeenAt.Before(f.releasedAt) || f.now.Sub(m.SeenAt) > markAge {
		return ""
	}
	if m.Installation != f.installation {
		if m.Address == address && !f.lastBeat.IsZero() {
			return fmt.Sprintf("another database answers at %s, or its schema was made anew: installation %s, not %s", address, f.installation, m.Installation)
		}
		return ""
	}
	if known, ok := f.beats[m.Daemon]; !ok || known < m.Beats {
		return setBack(m, known)
	}
	return ""
}

// adopt stores where the database runs now. A new place is judged only once: a
// hold is durable, and its release accepts the place.
func adopt(ctx context.Context, tx pgx.Tx, f facts) error {
	if f.place == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE scheduler.installation SET place = $1, timeline = $2 WHERE (place, timeline) IS DISTINCT FROM ($1, $2)`, f.place, f.timeline)
	if err != nil {
		return fmt.Errorf("write installation: %w", err)
	}
	return nil
}

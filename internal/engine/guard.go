package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A Guard says how a daemon recognises a database that was restored or cloned.
// Pushes that the original database has made must not be made again.
type Guard struct {
	// Dir is where the daemon keeps what it remembers of its databases, between
	// runs. Where Dir is empty or cannot be written, the daemon remembers only
	// while it runs. A start can then go only by a gap in the heartbeats.
	Dir string
	// MaxGap is the longest time without a heartbeat of any daemon that is no
	// reason to hold; zero: 24 h.
	MaxGap time.Duration
	// Run has the daemon go on with a warning where the guard would hold.
	Run bool
}

// A memory is what a daemon remembers of its databases: a mark for each, in a
// file of its own.
type memory struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	own    store.Mark // of this run
	failed bool
}

// marks returns what this run and earlier ones remember.
func (m *memory) marks() []store.Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Mark
	if m.own.Daemon != 0 {
		out = append(out, m.own)
	}
	files, _ := filepath.Glob(filepath.Join(m.dir, "*.json")) // a bad pattern is the only error
	for _, name := range files {
		var mark store.Mark
		content, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(content, &mark)
		}
		if err != nil {
			m.log.Warn("what the daemon remembers of a database cannot be read", "file", name, "error", err)
			continue
		}
		out = append(out, mark)
	}
	return out
}

// keep remembers a heartbeat. The file is replaced as a whole, and not synced:
// to lose the last seconds weakens the guard only by these seconds.
func (m *memory) keep(mark store.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own = mark
	if m.dir == "" {
		return
	}
	err := m.write(mark)
	if err != nil && !m.failed {
		m.log.Warn("what the daemon remembers of its database cannot be kept; after a restart only a gap in the heartbeats tells a restored database",
			"error", err)
	}
	m.failed = err != nil
}

func (m *memory) write(mark store.Mark) error {
	content, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(m.dir, mark.Installation+".json")
	temporary := fmt.Sprintf("%s.%d", name, os.Getpid()) // another daemon may share the directory
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// listed is how many held pushes the log shows.
const listed = 20

// watchHold follows the hold. It logs the start of a hold, with the pushes that
// are held, and its end.
func (l *lease) watchHold(ctx context.Context, held bool) {
	l.mu.Lock()
	before := l.held
	l.held = held
	if before && !held {
		l.released = l.clock.Now()
	}
	l.mu.Unlock()
	l.metrics.Held.Set(0)
	if held {
		l.metrics.Held.Set(1)
	}
	switch {
	case held && !before:
		l.wakes.leaseLost() // tasks and deliveries are read again after the release
		l.tellHeld(ctx)
	case !held && before:
		l.setHoldReason("")
		l.log.InfoContext(ctx, "released: pushes begin again")
	}
}

func (l *lease) tellHeld(ctx context.Context) {
	hold, pushes, err := l.store.Held(ctx, listed)
	if err != nil {
		l.log.WarnContext(ctx, "held: nothing is pushed until scheduler release", "error", err)
		return
	}
	l.setHoldReason(hold.Reason)
	l.log.WarnContext(ctx, "held: nothing is pushed until scheduler release; the view scheduler.held lists what would be",
		"reason", hold.Reason, "since", hold.Since, "overdue", hold.Overdue, "coming", hold.Coming)
	for _, p := range pushes {
		l.log.WarnContext(ctx, "held back", "due", p.DueAt, "on_release", p.OnRelease, "campaign", p.CampaignID, "name", p.Campaign,
			"channel", p.Channel, "app", p.AppID, "task", p.TaskID)
	}
}

func (l *lease) setHoldReason(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holdReason = reason
}

// enlist takes a lease; the guard judges the database on the way.
func (l *lease) enlist(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	in, err := l.store.Enlist(ctx, store.Newcomer{
		Name: l.name, Version: l.version, Lease: l.length, Marks: l.memory.marks(), MaxGap: l.guard.MaxGap, Run: l.guard.Run,
	})
	if err != nil {
		return err
	}
	keys, err := l.store.Keys(ctx)
	if err != nil {
		return err
	}
	l.setKeys(keysOf(keys)) // before there is a lease: messages are named only under a lease
	l.mu.Lock()
	l.daemon, l.last, l.beats, l.installation = in.ID, in.ID, 0, in.Installation
	if l.seal == "" { // else recognise looks whether the database lost anything
		l.seal, l.origin = in.Seal, in.Origin
	}
	known := l.seal
	l.mu.Unlock()
	l.ledger.renumber()
	l.store.Adopt(known)
	l.setRecognised(in.Complete && in.Seal == known)
	l.log.InfoContext(ctx, "daemon enlisted", "daemon", in.ID, "name", l.name)
	if in.GuardReason != "" && l.guard.Run {
		l.log.WarnContext(ctx, "the database may be restored or cloned; going on, as restore_guard.policy is run", "reason", in.GuardReason)
	}
	if l.alone {
		return l.store.EndOthers(ctx, in.ID)
	}
	return nil
}

// remember keeps a heartbeat for the guard.
func (l *lease) remember(hb store.Heartbeat) {
	l.mu.Lock()
	l.beats, l.beatAt = hb.Beats, hb.Now
	mark := store.Mark{Installation: l.installation, Address: l.store.Address(), Daemon: l.daemon, Beats: hb.Beats, SeenAt: hb.Now}
	l.mu.Unlock()
	l.memory.keep(mark)
	l.ledger.turn(hb.Beats)
}

// holding returns why nothing may begin; empty: nothing is held.
func (l *lease) holding() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.held {
		return ""
	}
	if l.holdReason == "" { // the reason is not read yet
		return "held; scheduler release lets pushes begin again"
	}
	return "held: " + l.holdReason + "; scheduler release lets pushes begin again"
}

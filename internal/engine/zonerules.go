package engine

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A zoneRules makes stored occurrences follow the time zone rules that are in
// force. Governments change the rules, and a new tzdata comes with the program or
// the machine. It looks when the daemon starts and when it reads its
// configuration anew. Any number of daemons may do so at once. Where their
// machines have different rules, the last daemon to look wins, and its log says
// so.
type zoneRules struct {
	*loop
	store *store.Store
	log   *slog.Logger
	name  string // of this daemon
	wakes wakes

	mu     sync.Mutex
	wanted bool
}

func newZoneRules(cfg *Config, w wakes) *zoneRules {
	z := &zoneRules{store: cfg.Store, log: cfg.Log, name: cfg.Name, wakes: w, wanted: true}
	z.loop = newLoop("zone rules", cfg.Log, 0, nil, z.run)
	return z
}

// look asks for a look with the next beat.
func (z *zoneRules) look() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.wanted = true
}

func (z *zoneRules) run(ctx context.Context) error {
	z.mu.Lock()
	wanted := z.wanted
	z.wanted = false
	z.mu.Unlock()
	if !wanted {
		return nil
	}
	err := z.follow(ctx)
	if err != nil {
		z.look()
	}
	return err
}

// follow compares the rules that stored occurrences follow with those in force.
// The rules are recorded last, so that work that was cut off in between is done
// again.
func (z *zoneRules) follow(ctx context.Context) error {
	known, err := z.store.ZoneRules(ctx)
	if err != nil {
		return err
	}
	changed := make(map[string]string)
	for name, mark := range known {
		if now, ok := strategy.ZoneRules(name); ok && now != mark {
			changed[name] = now
		}
	}
	if len(changed) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(changed))
	z.compareServer(ctx, names)
	moved := make(map[string]int)
	for after := int64(0); ; {
		began := time.Now()
		page, err := z.store.Zoned(ctx, names, after, listedAtOnce)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		if err := z.move(ctx, page, moved); err != nil {
			return err
		}
		after = page[len(page)-1].CampaignID
		pace(ctx, began)
	}
	return z.store.SaveZoneRules(ctx, z.name, changed, moved)
}

// move has campaigns planned anew whose stored instants are no occurrences any more.
func (z *zoneRules) move(ctx context.Context, page []store.Zoned, moved map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	ids := make([]int64, len(page))
	instants := make(map[int64][]time.Time, len(page))
	for i, c := range page {
		ids[i], instants[c.CampaignID] = c.CampaignID, c.Instants
	}
	campaigns, err := z.store.Campaigns(ctx, ids)
	if err != nil {
		return err
	}
	var stale []int64
	for i := range campaigns {
		c := &campaigns[i]
		s, err := schedule(c)
		if err != nil {
			continue // the planner rejects it
		}
		if slices.ContainsFunc(instants[c.ID], func(at time.Time) bool { return !occurs(s, at) }) {
			stale = append(stale, c.ID)
			moved[c.TimeZone]++
		}
	}
	if len(stale) == 0 {
		return nil
	}
	if err := z.store.FollowZones(ctx, stale); err != nil {
		return err
	}
	z.log.WarnContext(ctx, "the rules of a time zone have changed: coming occurrences follow them", "campaigns", stale)
	z.wakes.campaignsToPlan()
	return nil
}

// compareServer logs zones for which PostgreSQL has other rules than this
// program. Local times that people see, and verify, go by the server's rules.
func (z *zoneRules) compareServer(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	var at []time.Time
	for month := range 12 {
		at = append(at, time.Now().UTC().Truncate(time.Hour).AddDate(0, month, 0))
	}
	offsets, err := z.store.ZoneOffsets(ctx, names, at)
	if err != nil {
		z.log.DebugContext(ctx, "the server's zones could not be compared", "error", err)
		return
	}
	var differ []string
	for _, name := range names {
		zone, err := time.LoadLocation(name)
		if err != nil {
			continue
		}
		for i, t := range at {
			if _, own := t.In(zone).Zone(); i < len(offsets[name]) && time.Duration(own)*time.Second != offsets[name][i] {
				differ = append(differ, name)
				break
			}
		}
	}
	if len(differ) > 0 {
		z.log.WarnContext(ctx, "PostgreSQL has other rules for time zones than this program, which pushes by its own: update the tzdata that is older",
			"zones", differ)
	}
}

// occurs says whether an instant is one of a schedule's.
func occurs(s strategy.Schedule, at time.Time) bool { return s.Next(at.Add(-time.Second)).Equal(at) }

// onSchedule returns the occurrence that corresponds to an instant, which was an
// occurrence under other rules of its zone. It is the occurrence before, where
// that is less than half a day away and nearer; else the next.
func onSchedule(s strategy.Schedule, at time.Time) time.Time {
	if occurs(s, at) {
		return at
	}
	const half = 12 * time.Hour
	next := s.Next(at)
	var before time.Time // the last occurrence before at: there may be several a day
	for t := s.Next(at.Add(-half)); !t.IsZero() && t.Before(at); t = s.Next(t) {
		before = t
	}
	if !before.IsZero() && (next.IsZero() || at.Sub(before) < next.Sub(at)) {
		return before
	}
	return next
}

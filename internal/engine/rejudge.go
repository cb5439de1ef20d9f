package engine

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// A rejudge looks at campaigns whose verdict may have changed without a change of
// their row: the configuration was read anew, the program is another version, or
// targets came or went. Rejected campaigns that are good now become active.
// Campaigns with pending tasks that are bad now are handed to the planner, which
// rejects them with the reason. Any number of daemons may do it at once.
type rejudge struct {
	*loop
	store   *store.Store
	log     *slog.Logger
	app     func(appNo int32) *App
	compile compileFunc
	idle    func() bool // no call is under way
	wakes   wakes

	mu    sync.Mutex
	all   bool
	named map[int64]bool // rejected campaigns to which something has happened
}

func newRejudge(cfg *Config, idle func() bool, w wakes) *rejudge {
	r := &rejudge{store: cfg.Store, log: cfg.Log, app: cfg.App, compile: silent.guard(cfg.Compile), idle: idle, wakes: w, all: true, named: make(map[int64]bool)}
	r.loop = newLoop("judge", cfg.Log, 0, nil, r.run)
	return r
}

// everything asks for a look at all campaigns, with the next beat.
func (r *rejudge) everything() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = true
}

// rejected asks for a look at one rejected campaign, with the next beat.
func (r *rejudge) rejected(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named[id] = true
}

// A look at all campaigns lists listedAtOnce of them and looks at judgedAtOnce. After each
// look it rests slowness times as long as the look took, since pushes go first: a task
// that is due is judged when it begins. Only where no call was under way after each of
// the last judgedSlowly looks does it rest no longer than the look took.
const (
	listedAtOnce = 200
	judgedAtOnce = 20
	judgedSlowly = 20
	slowness     = 50
)

// run makes the looks that were asked for. A look that fails is asked for again.
func (r *rejudge) run(ctx context.Context) error {
	r.mu.Lock()
	all := r.all
	r.all = false
	r.mu.Unlock()
	err := r.lookAtNamed(ctx)
	if err == nil && all {
		if err = r.pages(ctx, r.store.RejectedCampaigns); err == nil {
			err = r.pages(ctx, r.store.PendingCampaigns)
		}
	}
	if err != nil {
		r.mu.Lock()
		r.all = r.all || all
		r.mu.Unlock()
	}
	return err
}

// lookAtNamed looks at the rejected campaigns that were asked for by name.
func (r *rejudge) lookAtNamed(ctx context.Context) error {
	r.mu.Lock()
	named := r.named
	r.named = make(map[int64]bool)
	r.mu.Unlock()
	err := r.look(ctx, slices.Collect(maps.Keys(named)))
	if err != nil {
		r.mu.Lock()
		maps.Copy(r.named, named)
		r.mu.Unlock()
	}
	return err
}

// pages looks at all campaigns of a list, in the order of their ids, and in between at
// those that are asked for by name.
func (r *rejudge) pages(ctx context.Context, list func(ctx context.Context, after int64, limit int) ([]int64, error)) error {
	idle := 0
	for after := int64(0); ; {
		page, err := list(ctx, after, listedAtOnce)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		for ids := range slices.Chunk(page, judgedAtOnce) {
			began := time.Now()
			if err := r.lookAtNamed(ctx); err != nil {
				return err
			}
			if err := r.look(ctx, ids); err != nil {
				return err
			}
			if idle++; !r.idle() {
				idle = 0
			}
			if idle > judgedSlowly {
				pace(ctx, began)
			} else {
				sleep(ctx, min(slowness*time.Since(began), time.Second))
			}
		}
	}
}

// look judges campaigns as they stand. Those of apps that this daemon has no
// credentials for are left to the others, since their configuration is not here.
func (r *rejudge) look(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	campaigns, err := r.store.Campaigns(ctx, ids)
	if err != nil {
		return err
	}
	good := make(map[int64]int32)
	var bad []int64
	for i := range campaigns {
		c := &campaigns[i]
		if r.app(c.AppNo) == nil {
			continue
		}
		_, err := schedule(c)
		problems := 1
		if err == nil {
			_, found := r.compile(c)
			problems = len(found)
		}
		switch {
		case c.Status == "rejected" && problems == 0:
			good[c.ID] = c.Revision
		case c.Status == "active" && problems > 0:
			bad = append(bad, c.ID)
		}
	}
	if len(bad) > 0 {
		if err := r.store.Rejudge(ctx, bad); err != nil {
			return err
		}
		r.wakes.campaignsToPlan()
	}
	if len(good) == 0 {
		return nil
	}
	accepted, err := r.store.Accept(ctx, good)
	for _, id := range accepted {
		r.log.InfoContext(ctx, "campaign is no longer rejected: its request is good as it stands", "campaign", id)
	}
	if len(accepted) > 0 {
		r.wakes.campaignsToPlan()
	}
	return err
}

package engine

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A compileFunc judges a campaign's request and encodes it. It returns what is wrong
// with the request, or the message.
type compileFunc = func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)

// A compiled campaign is one revision of a campaign, ready to be pushed.
type compiled struct {
	campaign store.Campaign
	schedule strategy.Schedule
	message  *dispatch.Message // nil: the request cannot be pushed
	problem  string            // why it cannot be pushed
	app      *App              // nil: this daemon has no credentials for the app
	keys     Keys              // name its messages
	bytes    int64             // of memory that it takes, about
}

// on returns the compiled campaign as it is pushed on an app.
func (v *compiled) on(app *App) *compiled {
	if v.app == app {
		return v
	}
	other := *v
	other.app = app
	return &other
}

// A compileCache keeps compiled campaigns by id. It keeps two generations, each bounded
// in number and in bytes, so that memory stays flat however many campaigns there are
// and however large. A campaign that nobody asks for any more is dropped with its
// generation.
type compileCache struct {
	compile compileFunc
	app     func(appNo int32) *App
	load    func(ctx context.Context, ids []int64, take func([]store.Campaign) bool) error
	bad     func(ids []int64) // is called with active campaigns that cannot be pushed as they stand
	size    int
	bytes   int64 // of a generation

	mu         sync.Mutex
	young, old map[int64]*compiled
	held       int64     // bytes of young
	turned     time.Time // when the young generation began
	keys       Keys
	resets     int // how often reset was called
}

// compiledAge is the least time for which a compiled campaign is kept that nobody asks
// for. It is kept for twice as long at most.
const compiledAge = time.Minute

// compileCacheBytes bounds the bytes that one generation takes.
const compileCacheBytes = 32 << 20

func newCompileCache(size int, compile compileFunc, app func(int32) *App, load func(context.Context, []int64, func([]store.Campaign) bool) error,
	bad func(ids []int64),
) *compileCache {
	return &compileCache{
		compile: compile, app: app, load: load, bad: bad, size: size, bytes: compileCacheBytes, young: make(map[int64]*compiled), turned: time.Now(),
	}
}

// get returns the cached compilation, whatever its revision, or nil.
func (c *compileCache) get(id int64) *compiled {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.young[id]; v != nil {
		return v
	}
	v := c.old[id]
	if v != nil {
		c.put(v)
	}
	return v
}

func (c *compileCache) put(v *compiled) {
	if len(c.young) >= c.size || len(c.young) > 0 && c.held+v.bytes > c.bytes {
		c.turn()
	}
	if was := c.young[v.campaign.ID]; was != nil {
		c.held -= was.bytes
	}
	c.young[v.campaign.ID] = v
	c.held += v.bytes
}

// turn begins a generation and forgets the one before the last.
func (c *compileCache) turn() {
	c.old, c.young, c.held, c.turned = c.young, make(map[int64]*compiled), 0, time.Now()
}

// age begins a generation when the last has stood for long.
func (c *compileCache) age(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.turned) >= after {
		c.turn()
	}
}

// forget drops campaigns: they have ended, or are to be read anew.
func (c *compileCache) forget(ids []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if v := c.young[id]; v != nil {
			c.held -= v.bytes
		}
		delete(c.young, id)
		delete(c.old, id)
	}
}

// setKeys sets how messages are named. Campaigns that were compiled before are
// compiled anew.
func (c *compileCache) setKeys(k Keys) {
	c.mu.Lock()
	changed := c.keys != k
	c.keys = k
	c.mu.Unlock()
	if changed {
		c.reset()
	}
}

func (c *compileCache) namedBy() Keys {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys
}

// reset forgets everything, for example when the configuration has changed.
func (c *compileCache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old, c.held = make(map[int64]*compiled), nil, 0
	c.resets++
}

// A want is a campaign with the conditions that its compilation must meet.
type want struct {
	id       int64
	revision int32 // zero: any
	targets  bool  // its message takes targets
}

// meets says whether a cached compilation meets the conditions.
func (v *compiled) meets(w want) bool {
	switch {
	case v == nil, w.revision != 0 && v.campaign.Revision != w.revision:
		return false
	default:
		return !w.targets || v.message == nil || v.needsTargets()
	}
}

// ensure loads and compiles those campaigns whose cached compilation does not meet
// its want.
func (c *compileCache) ensure(ctx context.Context, wants []want) error {
	missing := make(map[int64]bool)
	for _, w := range wants {
		if !c.get(w.id).meets(w) {
			missing[w.id] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	ids := make([]int64, 0, len(missing))
	for id := range missing {
		ids = append(ids, id)
	}
	return c.load(ctx, ids, func(loaded []store.Campaign) bool {
		c.keep(loaded)
		return ctx.Err() == nil
	})
}

// keep compiles loaded campaigns and puts them into the cache.
func (c *compileCache) keep(loaded []store.Campaign) {
	for {
		resets := c.generation()
		prepared := make([]*compiled, len(loaded))
		var bad []int64
		for i := range loaded { // before the lock: compiling takes a while
			prepared[i] = c.prepare(loaded[i])
			if prepared[i].problem != "" && loaded[i].Status == "active" {
				bad = append(bad, loaded[i].ID)
			}
			runtime.Gosched() // calls that are due go first
		}
		if c.putAll(prepared, resets) {
			if len(bad) > 0 {
				c.bad(bad)
			}
			return
		}
	}
}

func (c *compileCache) generation() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resets
}

// putAll puts compiled campaigns into the cache, unless reset was called since
// resets was read. Then they may be of the old configuration, and would stay.
func (c *compileCache) putAll(prepared []*compiled, resets int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resets != resets {
		return false
	}
	for _, v := range prepared {
		c.put(v)
	}
	return true
}

// The parts of a compiled campaign's size, in bytes. The request is in it several
// times: as the adapter encodes it, and its parts. Its schedule has a timetable for
// each time of day, and holds twice when its calendar is closed.
const (
	campaignOverhead = 1 << 10
	timeOverhead     = 640
	closedOverhead   = 32
	messageFactor    = 2
)

func (c *compileCache) prepare(campaign store.Campaign) *compiled {
	v := &compiled{campaign: campaign, app: c.app(campaign.AppNo), keys: c.namedBy(), bytes: campaignOverhead + int64(len(campaign.Name)+len(campaign.StrategyContent)+messageFactor*len(campaign.Request)+timeOverhead*len(campaign.Times)+closedOverhead*len(campaign.Calendar.Closed))}
	defer func() { v.campaign.Request, v.campaign.StrategyContent, v.campaign.Calendar.Closed = nil, nil, nil }() // the message and the schedule hold the parts that are needed
	if campaign.Unreadable != "" {
		v.problem = campaign.Unreadable
		return v
	}
	s, err := schedule(&v.campaign)
	if err != nil {
		v.problem = err.Error()
		return v
	}
	v.schedule = s
	message, problems := c.compile(&v.campaign)
	if len(problems) > 0 {
		v.problem = problemText(problems)
		return v
	}
	v.message = message
	return v
}

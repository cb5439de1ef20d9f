package engine

import (
	"context"
	"runtime"
	"sync"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A content is a campaign's revision, ready to be pushed.
type content struct {
	campaign store.Campaign
	schedule strategy.Schedule
	message  *dispatch.Message // nil: the request cannot be pushed
	problem  string            // then why
	app      *App              // nil: this daemon has no credentials for the app
}

// on returns the content as it is pushed on an app.
func (v *content) on(app *App) *content {
	if v.app == app {
		return v
	}
	other := *v
	other.app = app
	return &other
}

// contents caches campaigns by id. It keeps two generations of bounded size, so
// that memory stays flat however many campaigns there are.
type contents struct {
	compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem)
	app     func(appNo int32) *App
	load    func(ctx context.Context, ids []int64) ([]store.Campaign, error)
	size    int

	mu         sync.Mutex
	young, old map[int64]*content
	resets     int // how often everything was forgotten
}

func newContents(size int, compile func(*store.Campaign) (*dispatch.Message, []dispatch.Problem), app func(int32) *App,
	load func(context.Context, []int64) ([]store.Campaign, error),
) *contents {
	return &contents{compile: compile, app: app, load: load, size: size, young: make(map[int64]*content)}
}

// get returns the cached content, whatever its revision, or nil.
func (c *contents) get(id int64) *content {
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

func (c *contents) put(v *content) {
	if len(c.young) >= c.size {
		c.old, c.young = c.young, make(map[int64]*content, c.size)
	}
	c.young[v.campaign.ID] = v
}

// forget drops campaigns.
func (c *contents) forget(ids []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.young, id)
		delete(c.old, id)
	}
}

// reset forgets everything, for example when the configuration has changed.
func (c *contents) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = make(map[int64]*content), nil
	c.resets++
}

// want is a campaign and what is asked of its content.
type want struct {
	id       int64
	revision int32 // zero: any
	targets  bool  // its message takes targets
}

// meets says whether a cached content is what is wanted.
func (v *content) meets(w want) bool {
	switch {
	case v == nil, w.revision != 0 && v.campaign.Revision != w.revision:
		return false
	default:
		return !w.targets || v.message == nil || v.needsTargets()
	}
}

// ensure loads those of the campaigns whose cached content is not what is wanted.
func (c *contents) ensure(ctx context.Context, wants []want) error {
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
	loaded, err := c.load(ctx, ids)
	if err != nil {
		return err
	}
	for resets := c.generation(); ; resets = c.generation() {
		prepared := make([]*content, len(loaded))
		for i := range loaded { // before the lock: compiling takes a while
			prepared[i] = c.prepare(loaded[i])
			runtime.Gosched() // calls that are due go first
		}
		if c.putAll(prepared, resets) {
			return nil
		}
	}
}

func (c *contents) generation() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resets
}

// putAll keeps what was prepared, unless everything has been forgotten since:
// then it may be of the old configuration, and would stay.
func (c *contents) putAll(prepared []*content, resets int) bool {
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

func (c *contents) prepare(campaign store.Campaign) *content {
	v := &content{campaign: campaign, app: c.app(campaign.AppNo)}
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

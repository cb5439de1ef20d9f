package engine

import (
	"context"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/store"
)

// A reload comes while a campaign is made ready with the old configuration, which
// knows no credentials for its app: what is kept must be of the new one, or the
// campaign's tasks would wait until they are missed.
func TestReloadOvertakesACompile(t *testing.T) {
	t.Parallel()
	var configured *App
	var c *compileCache
	app := func(int32) *App {
		if configured == nil {
			configured = &App{}
			c.reset()
			return nil // as it was a moment ago
		}
		return configured
	}
	compile := func(*store.Campaign) (*dispatch.Message, []dispatch.Problem) { return &dispatch.Message{}, nil }
	load := func(_ context.Context, ids []int64, take func([]store.Campaign) bool) error {
		take([]store.Campaign{{ID: ids[0]}})
		return nil
	}
	c = newCompileCache(100, compile, app, load, func([]int64) {})
	if err := c.ensure(t.Context(), []want{{id: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := c.get(1).app; got == nil || got != configured {
		t.Error("the campaign is kept as it was compiled before the reload")
	}
}

// Authors finding 3: what a daemon keeps of campaigns is bounded in bytes, and
// nothing is kept of one that has ended or that nobody asks for any more.
func TestContentsAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	compile := func(*store.Campaign) (*dispatch.Message, []dispatch.Problem) { return &dispatch.Message{}, nil }
	load := func(_ context.Context, ids []int64, take func([]store.Campaign) bool) error {
		for _, id := range ids {
			take([]store.Campaign{{
				ID: id, StrategyType: 1, StrategyContent: []byte(`{"fixedTime": 1893456000000}`), TimeZone: "UTC", ShortMonthPolicy: "skip", DSTGapPolicy: "shift",
				Request: make([]byte, 1<<20),
			}})
		}
		return nil
	}
	c := newCompileCache(100, compile, func(int32) *App { return nil }, load, func([]int64) {})
	for id := range int64(200) {
		if err := c.ensure(t.Context(), []want{{id: id}}); err != nil {
			t.Fatal(err)
		}
		if n, bytes := c.inAll(); bytes > 64<<20 {
			t.Fatalf("%d campaigns of %d bytes are kept", n, bytes)
		}
	}
	c.forget([]int64{199})
	n, _ := c.inAll()
	if err := c.ensure(t.Context(), []want{{id: 198}}); err != nil {
		t.Fatal(err)
	}
	c.age(0)
	if err := c.ensure(t.Context(), []want{{id: 198}}); err != nil { // it is asked for, and stays
		t.Fatal(err)
	}
	c.age(0)
	if left, _ := c.inAll(); n < 10 || left != 1 {
		t.Errorf("%d campaigns were kept, %d are left that were asked for since, want 1", n, left)
	}
}

// inAll is how many campaigns are kept, and their bytes.
func (c *compileCache) inAll() (n int, bytes int64) {
	for _, generation := range []map[int64]*compiled{c.young, c.old} {
		for _, v := range generation {
			n, bytes = n+1, bytes+v.bytes
		}
	}
	return n, bytes
}

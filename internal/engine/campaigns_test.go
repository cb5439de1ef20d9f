package engine_test

import (
	"context"
	"testing"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// A reload comes while a campaign is made ready with the old configuration, which
// knows no credentials for its app: what is kept must be of the new one, or the
// campaign's tasks would wait until they are missed.
func TestReloadOvertakesACompile(t *testing.T) {
	t.Parallel()
	var configured *engine.App
	var c engine.Contents
	app := func(int32) *engine.App {
		if configured == nil {
			configured = &engine.App{}
			c.Reset()
			return nil // as it was a moment ago
		}
		return configured
	}
	compile := func(*store.Campaign) (*dispatch.Message, []dispatch.Problem) { return &dispatch.Message{}, nil }
	load := func(_ context.Context, ids []int64, take func([]store.Campaign) bool) error {
		take([]store.Campaign{{ID: ids[0]}})
		return nil
	}
	c = engine.NewContents(compile, app, load)
	got, err := c.AppOf(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got == nil || got != configured {
		t.Error("the campaign is kept as it was compiled before the reload")
	}
}

//go:build unix

package embedpg_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

func TestRunning(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t), Database: "campaigns"}
	if url, ok := embedpg.Running(cfg.Dir, cfg.Database); ok {
		t.Errorf("before the start: %s", url)
	}
	s := start(t, cfg)
	url, ok := embedpg.Running(cfg.Dir, cfg.Database)
	if !ok || url != s.URL(cfg.Database) {
		t.Errorf("got %q %t, want %q", url, ok, s.URL(cfg.Database))
	}
	if got := query(t, url, "SELECT current_database()"); got != cfg.Database {
		t.Errorf("connects to %s", got)
	}
	stop(t, s)
	if url, ok := embedpg.Running(cfg.Dir, cfg.Database); ok {
		t.Errorf("after the stop: %s", url)
	}
}

package doctor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/doctor"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// A pooler that keeps no sessions is wrong, since no daemon starts behind it.
func TestExamineNamesAPooler(t *testing.T) {
	t.Parallel()
	for mode, wrong := range map[string]bool{"session": false, "transaction": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := pgtest.New(t).Pooler(t, mode)
			found := false
			for _, c := range doctor.Examine(t.Context(), doctor.Options{Config: &config.Config{}, DatabaseURL: url, Now: time.Now}) {
				found = found || c.Grade == doctor.Wrong && strings.Contains(c.Found, "a pooler in transaction mode") && strings.Contains(c.ToDo, "pool_mode = session")
			}
			if found != wrong {
				t.Errorf("found a pooler in transaction mode: %v, want %v", found, wrong)
			}
		})
	}
}

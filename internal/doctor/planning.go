package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// unplannedAfter is how long a change may wait for a planner, which takes a second,
// and lookAgain when one that waits is looked at again: its author may have
// committed only now what was written long ago.
const (
	unplannedAfter = 5 * time.Second
	lookAgain      = 1500 * time.Millisecond
)

// planning looks for apps whose changed campaigns are not planned, and for who is
// in the way.
func (e *examination) planning(ctx context.Context, s *store.Store) {
	waiting, err := s.UnplannedApps(ctx, unplannedAfter)
	if err == nil && len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
		waiting, err = s.UnplannedApps(ctx, unplannedAfter)
	}
	if err != nil {
		e.wrong("planning", err.Error(), "look at the privileges of the role: it should be in scheduler_daemon")
		return
	}
	for _, a := range waiting {
		found := fmt.Sprintf("changed campaigns have not been planned for %s", a.Waiting.Truncate(time.Second))
		toDo := "see that a daemon runs, and what its log says of the app"
		blockers, err := s.Blockers(ctx, a.AppNo)
		switch {
		case err != nil:
			found += "; who is in the way cannot be seen: " + err.Error()
		case len(blockers) > 0:
			names := make([]string, len(blockers))
			for i, b := range blockers {
				names[i] = b.String()
			}
			found += "; blocked by " + strings.Join(names, "; ")
			toDo = fmt.Sprintf("have that transaction ended: ask its login, or SELECT pg_terminate_backend(%d)", blockers[0].PID)
		}
		e.wrong("app "+a.Name(), found, toDo)
	}
	if len(waiting) == 0 {
		e.ok("planning", "every change of a campaign is planned")
	}
}

// installation says which database this is to other installations.
func (e *examination) installation(ctx context.Context, s *store.Store) {
	k, err := s.Keys(ctx)
	if err != nil {
		return // no daemon has run yet
	}
	e.ok("installation", fmt.Sprintf("%s, numbers from range %d; no other installation may push to its apps", k.Installation, k.Range))
}

package attack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// TestTheOneInTheWayIsNamed: an admin's forgotten transaction holds a row that the
// engine wants; the daemon's login, an operator's and nobody's superuser are told
// which session and which login it is.
func TestTheOneInTheWayIsNamed(t *testing.T) {
	t.Parallel()
	c := newTown(t)
	holder := c.as(t, "olga")
	if _, err := holder.Exec(t.Context(), `BEGIN; UPDATE scheduler.apps SET pending_limit = 7 WHERE app_id = 'a'`); err != nil {
		t.Fatal(err)
	}
	daemon, err := store.Open(t.Context(), store.Config{URL: c.url(t, "pusher"), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Close)
	operator, err := store.Open(t.Context(), store.Config{URL: c.url(t, "olga"), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(operator.Close)
	ended := make(chan error, 1)
	go func() {
		ended <- daemon.Register(t.Context(), nil, []store.AppSpec{{AppID: "a", Provider: "webhook", PendingLimit: 9, TimeZone: "UTC"}})
	}()
	deadline := time.Now().Add(20 * time.Second)
	for name, s := range map[string]*store.Store{"daemon": daemon, "operator": operator} {
		for {
			found, err := s.Waits(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 1 {
				w := found[0]
				if w.Login != c.names["olga"] || w.PID != int32(holder.PgConn().PID()) || !strings.Contains(w.String(), c.names["olga"]) { //nolint:gosec // process ids are 32 bits
					t.Errorf("%s names %+v", name, w)
				}
				break
			}
			if len(found) > 1 || time.Now().After(deadline) {
				t.Fatalf("%s: %+v", name, found)
			}
		}
	}
	if _, err := holder.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil && !store.IsBlocked(err) { // it may have given up before
		t.Error(err)
	}
	if found, err := operator.Waits(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("after its end: %v %v", found, err)
	}
	if got := state(t, c.as(t, "eve"), `SELECT * FROM scheduler.blockers()`); got != denied {
		t.Errorf("a stranger asks: %s", got)
	}
}

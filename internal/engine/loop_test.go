package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

func TestLoopOnTheHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond) // not on a second boundary
		var passes []string
		l := engine.NewLoop("test", slog.New(slog.DiscardHandler), 0, nil, func(context.Context) error {
			passes = append(passes, time.Now().Format("05.000"))
			if len(passes) == 2 {
				time.Sleep(2500 * time.Millisecond) // longer than two beats
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		l.Start(ctx, &wg)
		c := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
		c.Schedule(engine.EverySecond{}, cron.FuncJob(l.Wake))
		c.Start()
		time.Sleep(6 * time.Second)
		<-c.Stop().Done()
		cancel()
		wg.Wait()
		// Beats during a long pass are one more pass, at once.
		if diff := cmp.Diff([]string{"01.000", "02.000", "04.500", "05.000", "06.000"}, passes); diff != "" {
			t.Errorf("passes (-want +got):\n%s", diff)
		}
	})
}

func TestLoopLogsTroubleOnceAndSurvivesPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		outcomes := []func() error{
			func() error { return errors.New("first") },
			func() error { return errors.New("second") },
			func() error { panic("third") },
			func() error { return nil },
			func() error { return nil },
		}
		n := 0
		l := engine.NewLoop("test", slog.New(slog.NewTextHandler(&log, nil)), 0, nil, func(context.Context) error {
			n++
			return outcomes[n-1]()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		l.Start(ctx, &wg)
		for range outcomes {
			l.Wake()
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		if n != len(outcomes) || strings.Count(log.String(), "service failing") != 1 || strings.Count(log.String(), "service recovered") != 1 {
			t.Errorf("%d passes, log:\n%s", n, log.String())
		}
	})
}

func TestLoopPassHasATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended time.Duration
		l := engine.NewLoop("test", slog.New(slog.DiscardHandler), 3*time.Second, nil, func(ctx context.Context) error {
			began := time.Now()
			<-ctx.Done()
			ended = time.Since(began)
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		l.Start(ctx, &wg)
		l.Wake()
		time.Sleep(10 * time.Second)
		cancel()
		wg.Wait()
		if ended != 3*time.Second {
			t.Errorf("the pass ended after %v", ended)
		}
	})
}

// Fault 20: any deadline was taken for an outage of the database, and told of at
// debug. What is not over in time twice in a row is a warning, while the database
// answers others; an outage is told of by the heartbeat alone.
func TestLoopTellsOfPassesThatAreNotOverInTime(t *testing.T) {
	t.Parallel()
	late := fmt.Errorf("settle: %w", context.DeadlineExceeded)
	for name, c := range map[string]struct {
		answers  bool
		outcomes []error
		want     int // warnings
	}{
		"once":                       {true, []error{late, nil, late, nil}, 0},
		"twice":                      {true, []error{late, late, late}, 1},
		"twice, and again later":     {true, []error{late, late, nil, late, late}, 2},
		"while the database is away": {false, []error{late, late, late}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			n := 0
			l := engine.NewLoop("test", slog.New(slog.NewTextHandler(&log, nil)), 0, func() bool { return c.answers }, func(context.Context) error {
				n++
				return c.outcomes[n-1]
			})
			for range c.outcomes {
				engine.RunOnce(l, t.Context())
			}
			if got := strings.Count(log.String(), "not done in time, though"); got != c.want {
				t.Errorf("%d warnings, want %d:\n%s", got, c.want, log.String())
			}
		})
	}
}

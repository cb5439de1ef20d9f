package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The channels of NOTIFY. A notification is a hint: polling finds everything
// too.
const (
	changesChannel = "scheduler_changes" // payload: app_no, or empty for many
	readyChannel   = "scheduler_ready"   // a task became ready sooner than a daemon may expect
)

// A Hint tells a daemon that there may be something to do now.
type Hint struct {
	Changes bool  // campaigns changed; else tasks became ready
	AppNo   int32 // 0: several apps
}

// Listen calls wake for every notification until ctx ends or the connection
// breaks. ready is called once, when Listen hears notifications: earlier ones
// may have been missed.
func (s *Store) Listen(ctx context.Context, ready func(), wake func(Hint)) error {
	cfg := s.pool.Config().ConnConfig
	cfg.RuntimeParams["application_name"] = "scheduler listener"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := s.session.start(ctx, conn); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if err := execWithin(ctx, conn, `LISTEN `+changesChannel+`; LISTEN `+readyChannel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		n, err := nextNotification(ctx, conn)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if n == nil {
			continue
		}
		h := Hint{Changes: n.Channel == changesChannel}
		_, _ = fmt.Sscan(n.Payload, &h.AppNo) // an empty payload means several
		wake(h)
	}
}

const (
	listenTimeout = 5 * time.Second  // of a statement of the listener
	listenSilence = 10 * time.Second // after which it asks whether the connection lives
)

// nextNotification waits for a notification; nil: none came for a while, and
// the connection lives.
func nextNotification(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, listenSilence)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	if err == nil || ctx.Err() != nil || waiting.Err() == nil || conn.IsClosed() {
		return n, err
	}
	return nil, execWithin(ctx, conn, ``) // an empty query: only its answer matters
}

func execWithin(ctx context.Context, conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return err
}

// NotifyReady tells all daemons that tasks of the app became ready soon.
func (s *Store) NotifyReady(ctx context.Context, appNo int32) error {
	if _, err := s.db.Exec(ctx, `SELECT pg_notify($1, $2)`, readyChannel, fmt.Sprint(appNo)); err != nil {
		return fmt.Errorf("notify daemons: %w", err)
	}
	return nil
}

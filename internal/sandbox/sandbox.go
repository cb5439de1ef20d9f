// Package sandbox stands in for the push APIs on loopback: mPaaS, Alipay and
// webhook, behind one address.
//
// It verifies every signature with its own code (package aliyun for mPaaS), which
// shares nothing with the adapters that it tests. It answers as the documents of the
// APIs say and enforces the documented limits. It writes each call to a journal as
// one line of JSON. Faults make it throttle, fail, delay or cut calls.
//
// The journal is an oracle. The operating system has the line of an accepted
// push before its answer is sent. So a push that the client saw accepted is in
// the journal even when the sandbox is killed right after.
//
//	POST /                                  mPaaS
//	POST /v3/alipay/open/public/...         Alipay
//	POST /webhook/APP                       webhook
//	GET  /_sandbox/stats                    counters
//	GET  /_sandbox/journal?since=N[&follow] journal lines after N
//	GET, POST /_sandbox/faults              the faults in force
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/listen"
)

// A Sandbox answers as the push APIs do. Make it with New. Its methods are safe
// for concurrent use.
type Sandbox struct {
	cfg      Config
	listener *listen.Listener
	journal  *journal
	chaos    chaos
	stats    stats
	nonces   *nonces
	ids      *ids
	mpaas    *mpaas
	alipay   *alipay
	webhook  *webhook

	stopping context.Context // ends when Stop begins, which ends followers of the journal
	stopped  context.Context // ends when the sandbox no longer waits for anything
	stop     context.CancelFunc
	giveUp   context.CancelFunc
	stopOnce sync.Once
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil once stopped
}

// New opens the journal and binds the listener, so that Addr is known; nothing
// is answered before Start.
func New(cfg Config) (*Sandbox, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("new sandbox: %w", err)
	}
	s := &Sandbox{cfg: cfg, nonces: newNonces(), ids: newIDs(), conns: map[net.Conn]struct{}{}}
	if err := s.addProviders(); err != nil {
		return nil, fmt.Errorf("new sandbox: %w", err)
	}
	s.chaos.set(cfg.Faults, &cfg.Seed)
	var err error
	if s.journal, err = openJournal(cfg.JournalPath, cfg.JournalDetail, cfg.Ring); err != nil {
		return nil, fmt.Errorf("new sandbox: %w", err)
	}
	if err = s.alipay.restore(s.journal, cfg.Now()); err == nil {
		// Open: admin asks for no credential. The default of MaxConns is more than two
		// daemons keep idle.
		s.listener, err = listen.Bind(context.Background(), listen.Config{Listen: cfg.Listen, Open: true, MaxConns: cfg.MaxConns, ReadTimeout: cfg.ReadTimeout})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("new sandbox: %w", err), s.journal.close())
	}
	s.stats.started = cfg.Now()
	s.stopped, s.giveUp = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(s.stopped)
	return s, nil
}

func (s *Sandbox) addProviders() error {
	var err1, err2, err3 error
	s.mpaas, err1 = newMPaaS(s.cfg, s.nonces, s.ids)
	s.alipay, err2 = newAlipay(s.cfg, s.nonces, s.ids)
	s.webhook, err3 = newWebhook(s.cfg)
	return errors.Join(err1, err2, err3)
}

// Addr returns the address on which the sandbox listens, such as 127.0.0.1:41231.
func (s *Sandbox) Addr() string { return s.listener.Addr().String() }

// URL returns the endpoint for a client.
func (s *Sandbox) URL() string { return "http://" + s.Addr() }

// Start starts to answer calls. It does not block. When ctx ends, all connections are
// cut, as Stop with an ended context does.
func (s *Sandbox) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.serving.Go(s.accept)
	context.AfterFunc(ctx, func() { _ = s.Stop(ctx) })
	return nil
}

// Stop takes no more connections, lets the calls being answered end, and closes
// the journal. When ctx ends first, the remaining connections are cut.
func (s *Sandbox) Stop(ctx context.Context) error {
	var err error
	s.stopOnce.Do(func() {
		s.stop()
		err = s.listener.Close()
		for _, conn := range s.takeConns() {
			// This wakes the connections that wait for a request.
			_ = conn.SetReadDeadline(time.Unix(1, 0))
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		defer context.AfterFunc(ctx, s.giveUp)()
		defer s.giveUp()
		s.serving.Wait()
		err = errors.Join(err, s.journal.close())
	})
	return err
}

func (s *Sandbox) takeConns() []net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var conns []net.Conn
	for conn := range s.conns {
		conns = append(conns, conn)
	}
	s.conns = nil
	return conns
}

// SetFaults replaces the current faults.
func (s *Sandbox) SetFaults(faults ...*Fault) error {
	if err := checkFaults(faults); err != nil {
		return err
	}
	s.chaos.set(faults, nil)
	return nil
}

// Stats returns the counters.
func (s *Sandbox) Stats() Stats { return s.stats.snapshot(s.cfg.Now(), s.journal.last()) }

// Last returns the sequence number of the latest call in the journal.
func (s *Sandbox) Last() uint64 { return s.journal.last() }

// Calls returns the calls after since that are in the journal now.
func (s *Sandbox) Calls(since uint64) ([]Call, error) {
	var lines lineBuffer
	if _, err := s.journal.copyTo(&lines, since); err != nil {
		return nil, err
	}
	return parseCalls(lines)
}

// Follow yields the calls after since, including later ones, until ctx ends. No
// call is left out: a follower that falls behind is served from the file.
func (s *Sandbox) Follow(ctx context.Context, since uint64) iter.Seq2[Call, error] {
	return func(yield func(Call, error) bool) {
		for {
			if s.journal.wait(ctx, since) != nil {
				return
			}
			calls, err := s.Calls(since)
			if err != nil {
				yield(Call{}, err)
				return
			}
			for _, c := range calls {
				since = c.Seq
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

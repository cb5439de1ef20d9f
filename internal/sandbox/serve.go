package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func (s *Sandbox) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors: some will come back
			s.cfg.Logger.Warn("accept connection", "error", err)
			s.sleep(10 * time.Millisecond)
			continue
		}
		if !s.enter(conn) {
			_ = conn.Close()
			return
		}
		s.serving.Go(func() {
			defer s.leave(conn)
			s.serve(conn)
		})
	}
}

// enter registers a connection, unless the sandbox is stopping.
func (s *Sandbox) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Sandbox) leave(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *Sandbox) serve(conn net.Conn) {
	c := &call{wire: *newWire(conn, s.listener.Config)}
	c.patience = func(d time.Duration) { s.patience(conn, d) }
	for {
		if err := c.readHead(s.cfg.Now); err != nil {
			s.complain(c, err)
			return
		}
		c.reset()
		if err := s.handle(c); err != nil {
			s.complain(c, err)
			return
		}
		if c.last {
			return
		}
	}
}

// patience bounds the time of all further reads together; zero: no bound. While
// the sandbox stops, the bound that Stop has set applies.
func (s *Sandbox) patience(conn net.Conn, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conns == nil:
	case d == 0:
		_ = conn.SetReadDeadline(time.Time{})
	default:
		_ = conn.SetReadDeadline(time.Now().Add(d))
	}
}

// complain answers a request that is not HTTP. A connection that ended by itself gets
// no answer.
func (s *Sandbox) complain(c *call, err error) {
	var bad *wireError
	if !errors.As(err, &bad) {
		return
	}
	c.answer.reset()
	c.answer.status, c.last = bad.status, true
	c.answer.body = appendField(append(c.answer.body, `{"sandbox":true`...), "message", bad.text)
	c.answer.body = append(c.answer.body, '}')
	_ = c.write(&c.answer)
}

// handle answers one request. An error ends the connection.
func (s *Sandbox) handle(c *call) error {
	if strings.HasPrefix(string(c.path), adminPrefix) {
		return s.admin(c)
	}
	c.api, c.provider = route(&c.wire)
	if c.provider == providerNone {
		return &wireError{http.StatusNotFound, "no such path; see GET /_sandbox/"}
	}
	s.stats.begin()
	defer s.stats.end()
	drawn := s.chaos.draw()
	if err := c.readBody(); err != nil {
		return err
	}
	s.listener.Serving(c.conn, true)
	defer s.listener.Serving(c.conn, false)
	c.requestID = s.ids.append(c.requestID)
	refused := s.judge(c)
	c.fault = drawn.fault(c)
	if d := drawn.pause(c); d > 0 && !s.sleep(d) {
		return io.ErrUnexpectedEOF
	}
	s.settle(c, refused)
	return s.finish(c)
}

// judge verifies the signature and checks the parameters. It changes nothing
// but the memory of nonces.
func (s *Sandbox) judge(c *call) *refusal {
	switch c.provider {
	case providerMPaaS:
		return s.mpaas.judge(c)
	case providerAlipay:
		return s.alipay.judge(c)
	case providerWebhook:
		return s.webhook.judge(c)
	case providerNone:
	}
	return &refusal{http.StatusNotFound, "", "no such path"}
}

// settle decides the call and makes the answer, with faults applied.
func (s *Sandbox) settle(c *call, refused *refusal) {
	if c.fault != nil && s.interfere(c) {
		return
	}
	if refused == nil {
		refused = s.take(c)
	}
	if refused != nil {
		s.refuse(c, refused)
	} else {
		c.outcome = Accepted
		s.confirm(c)
	}
	if c.fault != nil && (c.fault.Kind == CutAfter || c.fault.Kind == HangAfter) {
		c.delivered = false
	}
}

// interfere applies the faults that keep a call from being accepted. It
// reports whether the call is settled by that.
func (s *Sandbox) interfere(c *call) bool {
	switch c.fault.Kind {
	case Throttle:
		s.throttle(c)
	case Refuse:
		s.refuse(c, s.excuse(c, false))
	case SystemError:
		s.refuse(c, s.excuse(c, true))
	case HTML:
		c.answer.kind = "text/html;charset=utf-8"
		c.answer.body = append(c.answer.body, "<html><body><h1>Please wait a moment</h1></body></html>"...)
		if c.provider == providerWebhook {
			c.answer.status = http.StatusBadGateway
		}
	case Status:
		c.answer.status = c.fault.Status
		if c.provider == providerWebhook && c.fault.Status < http.StatusMultipleChoices {
			return false
		}
		c.answer.body = append(c.answer.body, '{', '}')
		if c.fault.Status >= 300 && c.fault.Status < 400 {
			c.answer.header("Location", "http://127.0.0.1:9/elsewhere")
		}
	case Hang, CutBefore:
		c.delivered = false
	case HangAfter, CutAfter, Unsigned, Forged, Delay:
		return false
	}
	return true
}

// finish writes the journal line, and only then the answer.
func (s *Sandbox) finish(c *call) error {
	c.line = c.appendLine(c.line[:0], s.cfg.Now(), s.cfg.JournalDetail)
	if err := s.journal.add(c.line); err != nil {
		s.cfg.Logger.Error("write journal", "error", err)
		c.outcome = Refused
		return err // a call that is not in the journal gets no answer
	}
	s.stats.count(c)
	if c.delivered {
		err := c.write(&c.answer)
		if err != nil {
			s.stats.lost.Add(1)
		}
		return err
	}
	if c.fault.Kind == Hang || c.fault.Kind == HangAfter {
		s.hang(c)
	}
	c.cut()
	return io.ErrUnexpectedEOF
}

// hang waits until the client gives up, the sandbox stops, or other clients need
// the connection.
func (s *Sandbox) hang(c *call) {
	s.listener.Serving(c.conn, false)
	defer s.listener.Serving(c.conn, true)
	c.patience(0)
	var rest [512]byte
	for {
		if _, err := c.conn.Read(rest[:]); err != nil {
			return
		}
	}
}

// sleep reports false when the sandbox gives up meanwhile.
func (s *Sandbox) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopped.Done():
		return false
	}
}

// take commits the call: quotas are used, schedules stored.
func (s *Sandbox) take(c *call) *refusal {
	switch c.provider {
	case providerMPaaS:
		return s.mpaas.take(c)
	case providerAlipay:
		return s.alipay.take(c)
	case providerWebhook, providerNone:
	}
	return nil
}

// confirm makes the answer to an accepted call.
func (s *Sandbox) confirm(c *call) {
	switch c.provider {
	case providerMPaaS:
		s.mpaas.confirm(c)
	case providerAlipay:
		s.alipay.confirm(c)
	case providerWebhook:
		s.webhook.confirm(c)
	case providerNone:
	}
}

// refuse makes the answer of a refusal.
func (s *Sandbox) refuse(c *call, r *refusal) {
	c.code = r.code
	switch c.provider {
	case providerMPaaS:
		s.mpaas.refuse(c, r)
	case providerAlipay:
		s.alipay.refuse(c, r)
	case providerWebhook:
		s.webhook.refuse(c, r)
	case providerNone:
	}
}

// throttle makes the answer of a refusal for too many calls.
func (s *Sandbox) throttle(c *call) {
	switch c.provider {
	case providerMPaaS:
		s.mpaas.throttle(c)
	case providerAlipay:
		s.refuse(c, &refusal{http.StatusTooManyRequests, "app-call-limited", "too many calls of this app"})
	case providerWebhook:
		c.answer.header("Retry-After", "1")
		s.refuse(c, &refusal{http.StatusTooManyRequests, "throttled", "too many calls"})
	case providerNone:
	}
}

// excuse returns the refusal of the faults "error" (system) and "refuse".
func (s *Sandbox) excuse(c *call, system bool) *refusal {
	switch {
	case c.provider == providerMPaaS && system:
		return &refusal{http.StatusOK, "9000", "SYSTEM_ERROR"}
	case c.provider == providerMPaaS:
		return &refusal{http.StatusOK, "3028", "INVALID_PARAM: by order of a fault"}
	case c.provider == providerAlipay && system:
		return &refusal{http.StatusInternalServerError, "SYSTEM_ERROR", "the system is busy"}
	case c.provider == providerAlipay:
		return &refusal{http.StatusBadRequest, "ILLEGAL_BIZ_PARAMS", "by order of a fault"}
	case system:
		return &refusal{http.StatusInternalServerError, "error", "by order of a fault"}
	}
	return &refusal{http.StatusUnprocessableEntity, "refused", "by order of a fault"}
}

// ids makes the identifiers in answers: unique over restarts by a random
// prefix, cheap by a counter.
type ids struct {
	prefix string
	next   atomic.Uint64
}

func newIDs() *ids {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return &ids{prefix: hex.EncodeToString(b[:])}
}

// append appends an identifier of 32 hexadecimal digits.
func (i *ids) append(b []byte) []byte {
	b = append(b, i.prefix...)
	const width = 16
	n := strconv.AppendUint(make([]byte, 0, width), i.next.Add(1), 16)
	for range width - len(n) {
		b = append(b, '0')
	}
	return append(b, n...)
}

func (i *ids) make() string { return string(i.append(nil)) }

const (
	nonceShards = 64
	// nonceShardSize bounds memory: at least nonceShards × nonceShardSize
	// nonces are remembered, and at most twice as many, in about 50 MB.
	nonceShardSize = 16 << 10
)

// nonces holds the hashes of recent nonces. Replays of older requests are refused by
// their timestamp.
type nonces struct {
	seed   maphash.Seed
	shards [nonceShards]nonceShard
}

type nonceShard struct {
	mu           sync.Mutex
	young, older map[uint64]struct{}
}

func newNonces() *nonces { return &nonces{seed: maphash.MakeSeed()} }

// use takes a nonce for an owner and reports whether it was free.
func (n *nonces) use(owner, nonce []byte) bool {
	var h maphash.Hash
	h.SetSeed(n.seed)
	_, _ = h.Write(owner)
	_ = h.WriteByte(0)
	_, _ = h.Write(nonce)
	key := h.Sum64()
	return n.shards[key%nonceShards].use(key)
}

func (s *nonceShard) use(key uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.young[key]; used {
		return false
	}
	if _, used := s.older[key]; used {
		return false
	}
	if s.young == nil || len(s.young) >= nonceShardSize {
		s.older, s.young = s.young, make(map[uint64]struct{})
	}
	s.young[key] = struct{}{}
	return true
}

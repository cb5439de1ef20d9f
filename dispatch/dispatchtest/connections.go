package dispatchtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// listen starts a provider below HTTP. serve gets each connection, which is
// closed when serve returns.
func (s Subject) listen(t *testing.T, serve func(*rig, net.Conn)) *rig {
	t.Helper()
	r := &rig{t: t, subject: s}
	r.connect("http://" + accept(t, func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		serve(r, conn)
	}))
	return r
}

// accept listens on a free port until the test ends and returns its address. serve
// gets each connection and must close it.
func accept(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(running.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// receive reads one request from conn.
func (r *rig) receive(conn net.Conn) (Call, error) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return Call{}, err
	}
	c, err := readCall(req)
	if err == nil {
		r.record(c)
	}
	return c, err
}

func (s Subject) testNoListener(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	r := &rig{t: t, subject: s}
	r.connect(server.URL)
	want(t, r.push(t.Context()), dispatch.NotSent, dispatch.ReasonConnect)
}

// testUntrustedTLS uses a server whose certificate nobody signed. The handshake
// fails before any byte of the request is written.
func (s Subject) testUntrustedTLS(t *testing.T) {
	t.Parallel()
	r := &rig{t: t, subject: s}
	server := httptest.NewUnstartedServer(r.handler(func(http.ResponseWriter, Call) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	r.connect(server.URL)
	want(t, r.push(t.Context()), dispatch.NotSent, dispatch.ReasonConnect)
	if n := r.received.Load(); n != 0 {
		t.Errorf("%d calls reached a server that nobody vouches for", n)
	}
}

// testCutBeforeRequest closes each connection without reading. It is a race
// whether a part of the request was written by then, so not sent and unknown
// are both right. It is never right to take the end for an answer.
func (s Subject) testCutBeforeRequest(t *testing.T) {
	t.Parallel()
	r := s.listen(t, func(*rig, net.Conn) {})
	for range 20 {
		if o := r.push(t.Context()); o.Class != dispatch.Unknown && o.Class != dispatch.NotSent {
			t.Errorf("got %v %+v", o.Class, o)
		}
	}
}

func (s Subject) testCutAfterRequest(t *testing.T) {
	t.Parallel()
	beginnings := map[string]string{
		"no answer":          "",
		"part of a status":   "HTTP/1.",
		"part of a header":   "HTTP/1.1 200 OK\r\nContent-Le",
		"part of a body":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
		"part of a refusal":  "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{",
		"part of a chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
		"only informational": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
	}
	for name, beginning := range beginnings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := s.listen(t, func(r *rig, conn net.Conn) {
				if _, err := r.receive(conn); err == nil {
					_, _ = io.WriteString(conn, beginning)
				}
			})
			o := r.push(t.Context())
			if s.StatusDecides && strings.Contains(beginning, "\r\n\r\n") && !strings.HasSuffix(beginning, "\r\n\r\n") {
				status := 200
				if strings.Contains(beginning, " 400 ") {
					status = 400
				}
				want(t, o, s.Bare(status))
			} else {
				want(t, o, dispatch.Unknown, dispatch.ReasonCut, dispatch.ReasonBadAnswer)
			}
			if n := r.received.Load(); n != 1 {
				t.Errorf("received %d times, want once", n)
			}
		})
	}
}

// testStaleConnections closes every connection after a good answer that promised
// to keep it. A push on such a connection may fail, but it must not arrive twice,
// and a push that is classed as not sent must not have arrived.
func (s Subject) testStaleConnections(t *testing.T) {
	t.Parallel()
	r := s.listen(t, func(r *rig, conn net.Conn) {
		if c, err := r.receive(conn); err == nil {
			s.Accepted(c).writeRaw(conn)
		}
	})
	for range 100 {
		before := r.received.Load()
		o := r.push(t.Context())
		arrived := r.received.Load() - before
		if o.Class == dispatch.Permanent || o.Class == dispatch.Accepted && arrived != 1 ||
			o.Class == dispatch.NotSent && arrived != 0 {
			t.Errorf("arrived %d times, outcome %v %+v", arrived, o.Class, o)
		}
	}
}

// writeRaw writes the answer below net/http, which would say "Connection: close".
func (a Answer) writeRaw(w io.Writer) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d Status\r\nContent-Length: %d\r\n", a.status(), len(a.Body))
	_ = a.Header.Write(w)
	_, _ = fmt.Fprintf(w, "\r\n%s", a.Body)
}

// testGarbage answers with bytes that are not HTTP.
func (s Subject) testGarbage(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"SSH-2.0-OpenSSH_9.6\r\n", "\x15\x03\x01\x00\x02\x02\x46", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 100000) + "\r\n", strings.Repeat("x", 1<<20),
	} {
		r := s.serve(t, func(w http.ResponseWriter, _ Call) { hijack(t, w, raw) })
		want(t, r.push(t.Context()), dispatch.Unknown, dispatch.ReasonBadAnswer, dispatch.ReasonCut)
	}
}

func (s Subject) testCancelledBefore(t *testing.T) {
	t.Parallel()
	r := s.answer(t, s.Accepted)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, r.push(ctx), dispatch.NotSent, dispatch.ReasonCancelled)
	expired := NewDeadline()
	expired.Expire()
	want(t, r.push(expired), dispatch.NotSent)
	if n := r.received.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// testEndedDuring ends the context while the provider is at work.
func (s Subject) testEndedDuring(t *testing.T) {
	t.Parallel()
	s.endAt(t, false, func(http.ResponseWriter, Call) {})
}

// testSlowBody ends the context half way through a good answer.
func (s Subject) testSlowBody(t *testing.T) {
	t.Parallel()
	s.endAt(t, s.StatusDecides, func(w http.ResponseWriter, c Call) {
		a := s.Accepted(c)
		a.Header = a.Header.Clone()
		if a.Header == nil {
			a.Header = http.Header{}
		}
		a.Header.Set("Content-Length", "1000")
		if a.Status == http.StatusNoContent { // an answer without a body has no half
			a.Status = http.StatusOK
		}
		a.Body = a.Body[:min(len(a.Body), 1)]
		a.write(w)
		w.(http.Flusher).Flush()
	})
}

// endAt has the provider call begin and then do nothing until the caller's
// context has ended, once by cancelling and once by its deadline. With
// mayAccept, Accepted is right as well, since the provider's answer may have
// been read by then.
func (s Subject) endAt(t *testing.T, mayAccept bool, begin func(http.ResponseWriter, Call)) {
	t.Helper()
	begun, over := make(chan struct{}), make(chan struct{})
	r := s.serve(t, func(w http.ResponseWriter, c Call) {
		begin(w, c)
		begun <- struct{}{}
		<-over
	})
	defer close(over)
	ctx, cancel := context.WithCancel(t.Context())
	late := NewDeadline()
	for _, end := range []struct {
		ctx    context.Context
		end    func()
		reason dispatch.Reason
	}{{ctx, cancel, dispatch.ReasonCancelled}, {late, late.Expire, dispatch.ReasonTimeout}} {
		go func() { <-begun; end.end() }()
		if o := r.push(end.ctx); !mayAccept || o.Class != dispatch.Accepted {
			want(t, o, dispatch.Unknown, end.reason)
		}
	}
}

// A Deadline is a context whose deadline passes when the test says so. It is not
// derived from another context, since context.Cause would ask that one.
type Deadline struct {
	context.Context
	done chan struct{}
	once sync.Once
}

// NewDeadline returns a Deadline that has not passed.
func NewDeadline() *Deadline {
	return &Deadline{Context: context.Background(), done: make(chan struct{})}
}

// Expire makes the deadline pass. It may be called more than once, and from any
// goroutine.
func (d *Deadline) Expire() { d.once.Do(func() { close(d.done) }) }

// Done is closed by Expire.
func (d *Deadline) Done() <-chan struct{} { return d.done }

// Deadline returns no time.
func (d *Deadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err returns context.DeadlineExceeded after Expire.
func (d *Deadline) Err() error {
	select {
	case <-d.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

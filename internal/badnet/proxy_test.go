package badnet_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/badnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every line with itself until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return ln.Addr().String()
}

func proxy(t *testing.T) *badnet.Proxy {
	t.Helper()
	addr := echo(t)
	p, err := badnet.NewProxy(func() string { return addr })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func dial(t *testing.T, p *badnet.Proxy) (net.Conn, error) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.Addr())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// ask sends a line and returns the answer.
func ask(t *testing.T, conn net.Conn, line string, limit time.Duration) (string, error) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// hear returns the line that comes without being asked for.
func hear(conn net.Conn) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	return bufio.NewReader(conn).ReadString('\n')
}

func heal(t *testing.T, p *badnet.Proxy) {
	t.Helper()
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
}

func mustAsk(t *testing.T, p *badnet.Proxy) net.Conn {
	t.Helper()
	conn, err := dial(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, conn, "hello", 5*time.Second); err != nil || answer != "hello\n" {
		t.Fatalf("through the proxy: %q, %v", answer, err)
	}
	return conn
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	conn := mustAsk(t, p)
	p.Cut()
	if answer, err := ask(t, conn, "again", 5*time.Second); err == nil {
		t.Errorf("a cut connection answered %q", answer)
	}
	mustAsk(t, p)
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	mustAsk(t, p)
	p.Refuse()
	if _, err := dial(t, p); err == nil {
		t.Error("a refusing proxy took a connection")
	}
	heal(t, p)
	mustAsk(t, p)
}

func TestProxyBlackHoleDeliversLate(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	conn := mustAsk(t, p)
	p.BlackHole()
	if answer, err := ask(t, conn, "held", 50*time.Millisecond); err == nil {
		t.Errorf("a black hole answered %q", answer)
	}
	heal(t, p)
	if answer, err := hear(conn); err != nil || answer != "held\n" {
		t.Errorf("after the black hole: %q, %v, want the line it held", answer, err)
	}
}

func TestProxySwallowsForGood(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	conn := mustAsk(t, p)
	p.Swallow()
	late, err := dial(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := ask(t, late, "lost", 50*time.Millisecond); err == nil {
		t.Errorf("a new connection answered %q", answer)
	}
	heal(t, p)
	if answer, err := ask(t, conn, "lost", 50*time.Millisecond); err == nil {
		t.Errorf("a dead connection answered %q", answer)
	}
	mustAsk(t, p)
}

func TestProxyAnswersItself(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	conn := mustAsk(t, p)
	p.Answer(func(c net.Conn) { _, _ = io.WriteString(c, "no room\n") })
	if answer, err := ask(t, conn, "again", 5*time.Second); err == nil {
		t.Errorf("a connection from before answered %q", answer)
	}
	fresh, err := dial(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := hear(fresh); err != nil || answer != "no room\n" {
		t.Errorf("in the upstream's place: %q, %v", answer, err)
	}
	heal(t, p)
	mustAsk(t, p)
}

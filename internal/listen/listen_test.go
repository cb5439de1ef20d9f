package listen_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/listen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come; it fails after it.
const patience = 20 * time.Second

func start(t *testing.T, c listen.Config) string {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Handler == nil {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })
	}
	s, err := listen.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a request and returns the status and the body.
func ask(t *testing.T, conn net.Conn, request string) (status int, body string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// closed waits until the other side has closed the connection.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		t.Error("the connection stays open")
	}
}

const get = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

// TestHoldingConnectionsKeepsNobodyOut opens as many as may be, in each state in
// which a connection costs its holder nothing, and asks with one more.
func TestHoldingConnectionsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{"silent": "", "within a header": "GET / HTTP/1.1\r\nHo", "after an answer": get} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 8
			addr := start(t, listen.Config{MaxConns: most, ReadTimeout: patience, IdleTimeout: patience})
			var held []net.Conn
			for range most {
				conn := dial(t, addr)
				if said == get {
					if status, _ := ask(t, conn, get); status != http.StatusOK {
						t.Fatalf("status %d", status)
					}
				} else if _, err := io.WriteString(conn, said); err != nil {
					t.Fatal(err)
				}
				held = append(held, conn)
			}
			for range 2 * most {
				conn := dial(t, addr)
				if status, body := ask(t, conn, get); status != http.StatusOK || body != "served" {
					t.Fatalf("status %d, %q", status, body)
				}
			}
			for _, conn := range held {
				closed(t, conn)
			}
		})
	}
}

// TestWhatIsServedIsNotCut fills the listener with requests that are being served:
// they go on, and what comes then is closed at once.
func TestWhatIsServedIsNotCut(t *testing.T) {
	t.Parallel()
	const most = 4
	entered, leave := make(chan struct{}), make(chan struct{})
	addr := start(t, listen.Config{MaxConns: most, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "served")
	})})
	var held []net.Conn
	for range most {
		conn := dial(t, addr)
		if _, err := io.WriteString(conn, get); err != nil {
			t.Fatal(err)
		}
		<-entered
		held = append(held, conn)
	}
	closed(t, dial(t, addr))
	close(leave)
	for _, conn := range held {
		if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("a request that was being served: %v", err)
		} else {
			_ = answer.Body.Close()
		}
	}
}

func TestSilenceIsClosed(t *testing.T) {
	t.Parallel()
	addr := start(t, listen.Config{ReadTimeout: 10 * time.Millisecond, IdleTimeout: 10 * time.Millisecond})
	closed(t, dial(t, addr))
	conn := dial(t, addr)
	ask(t, conn, get)
	closed(t, conn)
}

func TestHeaderAndBodyAreBounded(t *testing.T) {
	t.Parallel()
	read := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, "too long", http.StatusRequestEntityTooLarge)
		}
	})
	addr := start(t, listen.Config{MaxBody: 10, MaxHeader: 1 << 10, Handler: read})
	for want, request := range map[int]string{
		http.StatusOK:                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
		http.StatusRequestEntityTooLarge: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890",
	} {
		if status, _ := ask(t, dial(t, addr), request); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	conn := dial(t, addr)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 8<<10)+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// It says 431 and cuts the connection, which may be faster than the answer.
	if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a long header: status %d", answer.StatusCode)
		}
	}
}

// TestHostsWhereThereIsNoCredential: a page whose own name leads here sends that
// name, and reads nothing.
func TestHostsWhereThereIsNoCredential(t *testing.T) {
	t.Parallel()
	open, guarded := start(t, listen.Config{Open: true}), start(t, listen.Config{})
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:8080": 200, "127.9.9.9": 200, "localhost": 200, "LOCALHOST:80": 200, "localhost.": 200, "[::1]:8080": 200, "[::1]": 200,
		"attacker.example": 421, "attacker.example:8080": 421, "localhost.attacker.example": 421, "127.0.0.1.attacker.example": 421,
		"10.0.0.1": 421, "0.0.0.0": 421, "[::]": 421, "": 421, "localhostx": 421,
	} {
		request := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		status, body := ask(t, dial(t, open), request)
		if status != want || status != 200 && strings.Contains(body, "served") {
			t.Errorf("Host %q: %d %q, want %d", host, status, body, want)
		}
		if status, _ := ask(t, dial(t, guarded), request); status != 200 {
			t.Errorf("Host %q where a credential is asked for: %d", host, status)
		}
	}
}

func TestOpenIsLoopbackOnly(t *testing.T) {
	t.Parallel()
	if _, err := listen.New(t.Context(), listen.Config{Listen: "0.0.0.0:0", Open: true, Handler: http.NotFoundHandler()}); err == nil {
		t.Error("a listener without a credential was bound to all addresses")
	}
}

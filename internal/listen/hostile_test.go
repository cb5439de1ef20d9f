package listen_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/certtest"
	"github.com/campaign-scheduler/scheduler/internal/listen"
)

// What a client may write that is not a request as others read it.

// TestAmbiguousRequestsAreRefused sends what a proxy in front may read otherwise
// than this listener does.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	t.Parallel()
	addr := start(t, listen.Config{Open: true})
	for request, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: attacker.example\r\n\r\n": 400,
		"GET / HTTP/1.1\r\n\r\n": 400,
		"GET / HTTP/1.0\r\n\r\n": 421,
		"GET http://attacker.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n":                                     421,
		"OPTIONS * HTTP/1.1\r\nHost: attacker.example\r\n\r\n":                                                 421,
		"CONNECT attacker.example:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n":                                      421,
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx":               400,
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: +1\r\n\r\nx":                                    400,
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length : 1\r\n\r\nx":                                    400,
		"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n":              501,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                                     505,
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n":     200,
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + strings.Repeat("X: y\r\n", 20) + "\r\n":                      200,
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Host: attacker.example\r\nForwarded: host=x\r\n\r\n": 200,
		"GET /../../etc/passwd HTTP/1.1\r\nHost: attacker.example\r\nX-Forwarded-Host: 127.0.0.1\r\n\r\n":      421,
		"GET / HTTP/1.1\r\nHost: 127.0.0.1@attacker.example\r\n\r\n":                                           400,
		"GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n":                                                           421,
		"GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n":                                                                421,
		"GET / HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\n\r\n":                                                   200,
		"GET / HTTP/1.1\r\nHost: [::ffff:10.0.0.1]\r\n\r\n":                                                    421,
	} {
		if status, body := ask(t, dial(t, addr), request); status != want || want != 200 && strings.Contains(body, "served") {
			t.Errorf("%.90q: %d %q, want %d", request, status, body, want)
		}
	}
}

// TestTwoLengths sends a body whose end two headers tell: it is read once, by the
// chunks, and the connection ends, so that nothing of it is taken for a request.
func TestTwoLengths(t *testing.T) {
	t.Parallel()
	conn := dial(t, start(t, listen.Config{}))
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(conn)
	if n := strings.Count(string(text), "HTTP/1.1 "); n != 1 {
		t.Errorf("%d answers:\n%s", n, text)
	}
}

// TestPipelinedRequestsAreServedInTurn writes very many requests at once: one is
// served at a time, and the connection gives way to nobody's who asks once.
func TestPipelinedRequestsAreServedInTurn(t *testing.T) {
	t.Parallel()
	const many = 500
	atOnce := make(chan struct{}, 1)
	addr := start(t, listen.Config{MaxConns: 2, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pipelined" {
			select {
			case atOnce <- struct{}{}:
				defer func() { <-atOnce }()
			default:
				t.Error("two requests of one connection are served at once")
			}
		}
		_, _ = io.WriteString(w, "served")
	})})
	conn := dial(t, addr)
	go func() {
		_, _ = io.WriteString(conn, strings.Repeat("GET /pipelined HTTP/1.1\r\nHost: x\r\n\r\n", many-1)+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	}()
	if status, _ := ask(t, dial(t, addr), get); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	text, _ := io.ReadAll(conn)
	if n := strings.Count(string(text), "HTTP/1.1 200"); n != many {
		t.Errorf("%d answers, want %d", n, many)
	}
}

// TestSlowBodiesKeepNobodyOut fills the listener with requests whose bodies do not
// end, read by a handler that wants all of them, and with some whose answer is
// kept back: who asks then is served.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const most = 8
	entered := make(chan struct{})
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			entered <- struct{}{}
		}
		if r.URL.Path == "/kept" {
			defer listen.Rest(r.Context())()
			<-r.Context().Done()
			return
		}
		if _, err := io.ReadAll(r.Body); err == nil {
			_, _ = io.WriteString(w, "served")
		}
	})
	for name, said := range map[string]string{
		"a body": "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsome", "chunks": "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nsome",
		"a body not begun": "POST /body HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", "an answer kept back": "GET /kept HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t, listen.Config{MaxConns: most, ReadTimeout: patience, Handler: reads})
			var held []net.Conn
			for range most {
				conn := dial(t, addr)
				if _, err := io.WriteString(conn, said); err != nil {
					t.Fatal(err)
				}
				<-entered
				held = append(held, conn)
			}
			var ended sync.WaitGroup
			for _, conn := range held {
				ended.Go(func() { closed(t, conn) })
			}
			over := make(chan struct{})
			go func() { ended.Wait(); close(over) }()
			for asked := 0; ; {
				switch status := tries(t, addr, get); status {
				case 0: // all were served at that moment: a body's first read comes after the handler's call
				case http.StatusOK:
					asked++
				default:
					t.Fatalf("status %d", status)
				}
				select {
				case <-over:
					if asked >= most {
						return
					}
				default:
				}
			}
		})
	}
}

// tries asks on a connection of its own and returns the status; zero: it was closed.
func tries(t *testing.T, addr, request string) (status int) {
	t.Helper()
	conn := dial(t, addr)
	_, _ = io.WriteString(conn, request)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		t.Fatal(err)
	}
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestSlowClientsAreCut sends headers, bodies and requests byte by byte, each in
// its time, all together beyond it.
func TestSlowClientsAreCut(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{
		"a header": "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", "a body": "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
			conn := dial(t, start(t, listen.Config{ReadTimeout: 50 * time.Millisecond, Handler: handler}))
			if _, err := io.WriteString(conn, said); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { // until the other side has closed
				defer close(ended)
				for range 50_000 {
					if _, err := io.WriteString(conn, "x"); err != nil {
						return
					}
				}
			}()
			closed(t, conn)
			_ = conn.Close()
			<-ended
		})
	}
}

// TestHTTP2IsNotSpoken: its streams would be many requests on one connection, which
// a client begins and takes back at no cost to itself.
func TestHTTP2IsNotSpoken(t *testing.T) {
	t.Parallel()
	secure := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certtest.SelfSigned(t, "localhost")}}
	addr := start(t, listen.Config{TLS: secure})
	dialTLS := func(protocols ...string) (*tls.Conn, error) {
		//nolint:gosec // the certificate is not what is tried
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}}
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*tls.Conn), nil
	}
	if _, err := dialTLS("h2"); err == nil {
		t.Error("a client that speaks HTTP/2 only is let in")
	}
	for _, protocols := range [][]string{{"h2", "http/1.1"}, nil} {
		conn, err := dialTLS(protocols...)
		if err != nil {
			t.Fatal(err)
		}
		if p := conn.ConnectionState().NegotiatedProtocol; p == "h2" {
			t.Errorf("HTTP/2 was agreed on with %q", protocols)
		}
		if status, _ := ask(t, conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); status != http.StatusHTTPVersionNotSupported {
			t.Errorf("the preface of HTTP/2: status %d", status)
		}
	}
}

// TestPlainIsLoopbackOnly is about Config.Plain.
func TestPlainIsLoopbackOnly(t *testing.T) {
	t.Parallel()
	if _, err := listen.New(t.Context(), listen.Config{Listen: "0.0.0.0:0", Plain: true, Handler: http.NotFoundHandler()}); err == nil {
		t.Error("a listener without TLS was bound to all addresses")
	}
}

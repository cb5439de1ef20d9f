package attack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/admin"
	"github.com/campaign-scheduler/scheduler/internal/api"
	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
	"github.com/campaign-scheduler/scheduler/store"
)

// patience is how long a test waits for what must come; it fails after it.
const patience = time.Minute

// A door is a listener of the program, as a stranger finds it.
type door struct {
	name, addr string
	path       string // what a stranger may ask for
	body       string // where a body is sent
	open       bool   // without a credential it is for loopback hosts only
	most       int    // connections
}

// request is one as a stranger sends it.
func (d *door) request(method, path, more string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", method, path, more)
}

// doors opens every listener of the program.
func doors(t *testing.T) []*door {
	t.Helper()
	c := newTown(t)
	stopped := func(stop func(context.Context) error) {
		t.Cleanup(func() { _ = stop(context.WithoutCancel(t.Context())) })
	}
	ops, err := admin.New(t.Context(), admin.Config{Listen: "127.0.0.1:0", Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ops.Start()
	stopped(ops.Stop)
	s, err := store.Open(t.Context(), store.Config{URL: c.url(t, "desk"), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	mpaas, err := api.New(t.Context(), api.Config{
		Listen: "127.0.0.1:0", Store: s, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Compile: func(string, string, dispatch.Request) (*dispatch.Message, []dispatch.Problem) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mpaas.Start()
	stopped(mpaas.Stop)
	settings := config.Default()
	pages, err := app.NewConsole(t.Context(), app.Options{Config: &settings, Log: slog.New(slog.DiscardHandler)}, "127.0.0.1:0", c.url(t, "mei"), nil)
	if err != nil {
		t.Fatal(err)
	}
	pages.Start()
	stopped(pages.Stop)
	box, err := sandbox.New(sandbox.Config{MaxConns: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped(box.Stop)
	return []*door{
		{name: "admin", addr: ops.Addr().String(), path: "/readyz", body: "/readyz", open: true, most: 128},
		{name: "api", addr: mpaas.Addr(), path: "/", body: "/", most: 256},
		{name: "console", addr: strings.TrimPrefix(pages.URL(), "http://"), path: "/sign-in", body: "/sign-in", most: 1000},
		{name: "sandbox", addr: box.Addr(), path: "/_sandbox/stats", body: "/webhook/x", open: true, most: 64},
	}
}

func (d *door) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends a request and returns the status; zero: the connection was closed.
func (d *door) ask(t *testing.T, request string) int {
	t.Helper()
	conn := d.dial(t)
	_, _ = io.WriteString(conn, request)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
		t.Fatalf("%.60q: no answer", request)
	}
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// served asks as somebody honest does, until it is answered.
func (d *door) served(t *testing.T) {
	t.Helper()
	for range 1000 {
		switch status := d.ask(t, d.request("GET", d.path, "")); {
		case status >= http.StatusInternalServerError:
			t.Fatalf("status %d", status)
		case status != 0:
			return
		}
	}
	t.Fatal("whoever asks is closed out")
}

// TestStrangersHoldNoListener fills each listener of the program with connections in
// every state that costs a stranger nothing: an honest one is served all the same,
// and what is slow is cut in the end.
func TestStrangersHoldNoListener(t *testing.T) {
	t.Parallel()
	for _, d := range doors(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			var slow []net.Conn
			for _, said := range []string{
				"", // and nothing more
				"GET " + d.path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
				d.request("POST", d.body, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n") + "some",
				d.request("POST", d.body, "Transfer-Encoding: chunked\r\n") + "9\r\nsome",
			} {
				for range d.most {
					conn := d.dial(t)
					_, _ = io.WriteString(conn, said)
					if said != "" { // silence may last half a minute
						slow = append(slow, conn)
					}
				}
				for range 8 {
					d.served(t)
				}
			}
			for _, conn := range slow {
				_, err := io.Copy(io.Discard, conn)
				if network, ok := errors.AsType[net.Error](err); ok && network.Timeout() {
					t.Fatal("a slow connection stays open")
				}
			}
		})
	}
}

// TestNoListenerTakesWhatIsNoRequest sends each listener what another may read
// otherwise, names that a browser was led here by, and what is too long.
func TestNoListenerTakesWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	for _, d := range doors(t) {
		get := d.request("GET", d.path, "")
		for request, want := range map[string][]int{
			strings.Replace(get, "\r\n\r\n", "\r\nHost: attacker.example\r\n\r\n", 1):       {400},
			d.request("POST", d.body, "Content-Length: 1\r\nContent-Length: 2\r\n") + "xx":  {400},
			d.request("POST", d.body, "Content-Length: +1\r\n") + "x":                       {400},
			d.request("POST", d.body, "Content-Length : 1\r\n") + "x":                       {400},
			d.request("POST", d.body, "Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n": {501},
			d.request("GET", d.path, "X: "+strings.Repeat("x", 200<<10)+"\r\n"):             {0, 431},
			d.request("GET", d.path, strings.Repeat("X: y\r\n", 30_000)):                    {0, 431},
			"GET /" + strings.Repeat("x", 200<<10) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n": {0, 431},
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                              {400, 505},
			"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n":                          {400},
		} {
			d.expect(t, request, want...)
		}
		if d.open {
			for _, host := range []string{"attacker.example", "127.0.0.1.attacker.example", "10.0.0.1", "0.0.0.0", "127.1"} {
				d.expect(t, strings.Replace(get, "127.0.0.1", host, 1), 421)
			}
			d.expect(t, strings.Replace(get, "GET ", "GET http://attacker.example", 1), 404, 421)
		}
		d.served(t)
	}
}

func (d *door) expect(t *testing.T, request string, want ...int) {
	t.Helper()
	got := d.ask(t, request)
	if !slices.Contains(want, got) {
		t.Errorf("%s: %.90q: status %d, want one of %v", d.name, request, got, want)
	}
}

// TestPipelinesAreAnsweredInTurn writes thousands of requests at once and reads
// nothing meanwhile: others are served.
func TestPipelinesAreAnsweredInTurn(t *testing.T) {
	t.Parallel()
	for _, d := range doors(t) {
		conn := d.dial(t)
		var writes sync.WaitGroup
		writes.Go(func() {
			_, _ = io.WriteString(conn, strings.Repeat(d.request("GET", d.path, ""), 5000))
		})
		for range 8 {
			d.served(t)
		}
		_ = conn.Close()
		writes.Wait()
	}
}

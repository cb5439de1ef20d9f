package httpcall_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A call without a connection was certainly not sent, whatever kept it from one.
func TestNothingIsSentWithoutAConnection(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	l, reached := silent(t)
	tests := []struct {
		name   string
		to     string
		reason dispatch.Reason
		end    func(context.Context) (context.Context, context.CancelFunc)
	}{
		{"nobody listens", closed.URL, dispatch.ReasonConnect, context.WithCancel},
		{"cancelled in the handshake", "https://" + l, dispatch.ReasonCancelled, context.WithCancel},
		{"out of time in the handshake", "https://" + l, dispatch.ReasonConnect, func(context.Context) (context.Context, context.CancelFunc) {
			d := dispatchtest.NewDeadline()
			return d, d.Expire
		}},
	}
	for _, tt := range tests {
		ctx, end := tt.end(t.Context())
		if strings.HasPrefix(tt.to, "https") {
			go func() { <-reached; end() }()
		}
		_, f := httpcall.NewClient(nil).Post(ctx, request(tt.to))
		end()
		if f == nil || f.Class != dispatch.NotSent || f.Reason != tt.reason {
			t.Errorf("%s: got %+v, want not sent, %v", tt.name, f, tt.reason)
		}
	}
}

// silent accepts connections and tells of each once something came on it; it
// never answers.
func silent(t *testing.T) (address string, reached <-chan struct{}) {
	t.Helper()
	came := make(chan struct{})
	return listen(t, func(_ int, r *bufio.Reader, _ net.Conn) bool {
		if _, err := r.Peek(1); err != nil {
			return false
		}
		came <- struct{}{}
		_, _ = io.Copy(io.Discard, r) // until the client closes
		return false
	}), came
}

// roundTrip is a transport of somebody else's.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	defer func() { _ = r.Body.Close() }()
	return f(r)
}

// What another transport did of a call that failed is not known.
func TestForeignTransports(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]dispatch.Reason{
		errors.New("broken"): dispatch.ReasonCut, context.Canceled: dispatch.ReasonCancelled, context.DeadlineExceeded: dispatch.ReasonTimeout,
	} {
		_, f := httpcall.NewClient(roundTrip(func(*http.Request) (*http.Response, error) { return nil, err })).Post(t.Context(), request("http://a.invalid/"))
		if f == nil || f.Class != dispatch.Unknown || f.Reason != want {
			t.Errorf("%v: got %+v, want unknown, %v", err, f, want)
		}
	}
	r := request("http://a.invalid/x?y=z")
	r.Header = []httpcall.Field{{Name: "x-one", Value: "1"}}
	a, f := httpcall.NewClient(roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		text := r.Method + " " + r.URL.String() + " " + r.Header.Get("X-One") + " " + string(body)
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(text)), ContentLength: -1}, err
	})).Post(t.Context(), r)
	if f != nil || string(a.Body) != "POST http://a.invalid/x?y=z 1 a=b" {
		t.Errorf("got %+v, %v", a, f)
	}
}

func request(to string) *httpcall.Request {
	u, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	return &httpcall.Request{URL: u, Body: []byte("a=b")}
}

// A header with a line break would be refused for ever, or be two.
func TestMalformedRequestIsPermanent(t *testing.T) {
	t.Parallel()
	r := request("http://127.0.0.1:1/")
	r.Header = []httpcall.Field{{Name: "X-Bad", Value: "a\nb"}}
	_, f := httpcall.NewClient(nil).Post(t.Context(), r)
	if f == nil || f.Class != dispatch.Permanent || f.Reason != dispatch.ReasonInvalid {
		t.Errorf("got %+v", f)
	}
}

// What is sent: one request, as HTTP/1.1 has it.
func TestTheRequest(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	l := listen(t, func(_ int, r *bufio.Reader, w net.Conn) bool {
		b := make([]byte, 1<<10)
		n, _ := r.Read(b)
		got <- string(b[:n])
		_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		return false
	})
	r := request("http://" + l + "/a%20b?c=d")
	r.Header = []httpcall.Field{{Name: "x-two", Value: "2"}, {Name: "X-One", Value: "1\t1"}}
	if _, f := httpcall.NewClient(nil).Post(t.Context(), r); f != nil {
		t.Fatal(f)
	}
	want := "POST /a%20b?c=d HTTP/1.1\r\nHost: " + l + "\r\nx-two: 2\r\nX-One: 1\t1\r\nUser-Agent: campaign-scheduler\r\nAccept-Encoding: identity\r\nContent-Length: 3\r\n\r\na=b"
	if text := <-got; text != want {
		t.Errorf("sent %q, want %q", text, want)
	}
}

// A connection that is cut before an answer leaves its call unknown; nothing
// repeats it on another, as net/http would with an Idempotency-Key.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	var second atomic.Int32
	listener := listen(t, func(n int, r *bufio.Reader, w net.Conn) bool {
		if !receive(r) {
			return false
		}
		if n == 0 {
			_, err := io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
			return err == nil
		}
		second.Add(1)
		return false
	})
	client := httpcall.NewClient(nil)
	t.Cleanup(client.CloseIdleConnections)
	r := request("http://" + listener)
	r.Header = []httpcall.Field{{Name: "Idempotency-Key", Value: "d-1"}}
	if _, f := client.Post(t.Context(), r); f != nil {
		t.Fatal(f)
	}
	_, f := client.Post(t.Context(), r)
	if f == nil || f.Class != dispatch.Unknown || f.Reason != dispatch.ReasonCut {
		t.Errorf("second call on a connection: got %+v, want unknown", f)
	}
	if got := second.Load(); got != 1 {
		t.Errorf("the second request arrived %d times, want once", got)
	}
}

// receive reads one request.
func receive(r *bufio.Reader) bool {
	got, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, got.Body)
	return err == nil
}

// An idle connection that the other side closed, or on which something came that
// nobody asked for, is not used: its call would be unknown, or take that for its
// answer.
func TestIdleConnectionsAreLookedAt(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]string{"closed": "", "an answer to nothing": "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", TLS: ", secure), func(t *testing.T) {
				t.Parallel()
				answered := make(chan struct{})
				client, url := serve(t, secure, func(_ int, r *bufio.Reader, w net.Conn) bool {
					if !receive(r) {
						return false
					}
					_, _ = io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
					<-answered // by now the client has put the connection by
					_, _ = io.WriteString(w, after)
					_ = w.Close()
					answered <- struct{}{}
					return false
				})
				for range 3 {
					a, f := client.Post(t.Context(), request(url))
					if f != nil || a.Status != 204 {
						t.Fatalf("got %+v, %v", a, f)
					}
					answered <- struct{}{}
					<-answered
				}
			})
		}
	}
}

// serve is listen, with TLS or without, and a client that trusts it.
func serve(t *testing.T, secure bool, serve func(n int, r *bufio.Reader, w net.Conn) bool) (client *httpcall.Client, url string) {
	t.Helper()
	client = httpcall.NewGuardedClient(nil)
	defer t.Cleanup(client.CloseIdleConnections) // before the listener's, which waits for connections to end
	if !secure {
		return client, "http://" + listen(t, serve)
	}
	known := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	known.Close()
	httpcall.Trust(client, known.Certificate())
	return client, "https://" + listen(t, func(_ int, r *bufio.Reader, bare net.Conn) bool {
		conn := tls.Server(readerConn{bare, r}, &tls.Config{Certificates: known.TLS.Certificates})
		r = bufio.NewReader(conn)
		n := 0
		for serve(n, r, conn) {
			n++
		}
		return false
	})
}

// readerConn is a connection of which a reader has taken hold.
type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// A connection serves one call after another, with TLS too.
func TestConnectionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		var connections, calls atomic.Int32
		client, url := serve(t, secure, func(n int, r *bufio.Reader, w net.Conn) bool {
			if n == 0 {
				connections.Add(1)
			}
			if !receive(r) {
				return false
			}
			calls.Add(1)
			_, err := io.WriteString(w, "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
			return err == nil
		})
		for range 10 {
			a, f := client.Post(t.Context(), request(url))
			if f != nil || a.Status != 200 || string(a.Body) != "ok" {
				t.Fatalf("TLS %v: got %+v, %v", secure, a, f)
			}
		}
		if connections.Load() != 1 || calls.Load() != 10 {
			t.Errorf("TLS %v: %d calls on %d connections, want 10 on one", secure, calls.Load(), connections.Load())
		}
	}
}

// A new connection to a known host goes on with its TLS session, which spares both
// sides the dearest part of a handshake.
func TestTLSSessionsAreResumed(t *testing.T) {
	t.Parallel()
	resumed := make(chan bool, 2)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resumed <- r.TLS.DidResume
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.SetKeepAlivesEnabled(false)
	server.StartTLS()
	t.Cleanup(server.Close)
	client := httpcall.NewGuardedClient(nil)
	httpcall.Trust(client, server.Certificate())
	for _, want := range []bool{false, true} {
		if a, f := client.Post(t.Context(), request(server.URL)); f != nil || a.Status != http.StatusNoContent {
			t.Fatalf("got %+v, %v", a, f)
		}
		if got := <-resumed; got != want {
			t.Errorf("the session was resumed: %v, want %v", got, want)
		}
	}
}

// A connection that may be refused is refused before anything is sent.
func TestGuardedClient(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	client := httpcall.NewGuardedClient(func(_, _ string, _ syscall.RawConn) error { return refused })
	_, f := client.Post(t.Context(), request("http://127.0.0.1:1/"))
	if f == nil || f.Class != dispatch.NotSent || !errors.Is(f, refused) {
		t.Errorf("got %+v", f)
	}
}

// Idle connections are closed by themselves, before the other side would.
func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := httpcall.NewGuardedClient(nil)
		here, there := net.Pipe()
		httpcall.PutBy(client, here)
		time.Sleep(httpcall.IdleTimeout - time.Nanosecond)
		synctest.Wait()
		if n := httpcall.Idle(client); n != 1 {
			t.Errorf("%d idle connections, want one", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := httpcall.Idle(client); n != 0 {
			t.Errorf("%d idle connections, want none", n)
		}
		if _, err := there.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is open: %v", err)
		}
	})
}

// listen serves every connection with serve, once per request, until it returns
// false. n counts the requests of one connection.
func listen(t *testing.T, serve func(n int, r *bufio.Reader, w net.Conn) bool) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			n := 0
			for serve(n, r, conn) {
				n++
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestSwitchingProtocolsDoesNotHang(t *testing.T) {
	t.Parallel()
	l := listen(t, func(_ int, r *bufio.Reader, w net.Conn) bool {
		if _, err := http.ReadRequest(r); err != nil {
			return false
		}
		_, _ = io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, r) // until the client closes
		return false
	})
	a, f := httpcall.NewClient(nil).Post(t.Context(), request("http://"+l))
	if f != nil {
		t.Fatal(f)
	}
	if o, ok := a.ByStatus(); !ok || o.Class != dispatch.Unknown {
		t.Errorf("got %+v", o)
	}
}

func TestByStatus(t *testing.T) {
	t.Parallel()
	for status := 100; status <= 700; status++ {
		a := &httpcall.Answer{Status: status, Header: http.Header{"Retry-After": {"7"}}}
		o, decided := a.ByStatus()
		want := dispatch.Unknown
		switch {
		case status == 429:
			want = dispatch.NotSent
			if o.RetryAfter != 7*time.Second {
				t.Errorf("429: RetryAfter %v", o.RetryAfter)
			}
		case status/100 == 2, status/100 == 4:
			if decided {
				t.Errorf("%d is the provider's to decide", status)
			}
			continue
		}
		if !decided || o.Class != want {
			t.Errorf("%d: got %v, want %v", status, o.Class, want)
		}
	}
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{0, 1, httpcall.MaxAnswer, httpcall.MaxAnswer + 1, 3 * httpcall.MaxAnswer} {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if chunked {
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, strings.Repeat("x", size))
			}))
			client := httpcall.NewClient(nil)
			a, f := client.Post(t.Context(), request(s.URL))
			if f != nil {
				t.Fatal(f)
			}
			if want := min(size, httpcall.MaxAnswer); len(a.Body) != want || a.TooLong != (size > want) {
				t.Errorf("%d bytes, chunked %v: got %d, too long %v", size, chunked, len(a.Body), a.TooLong)
			}
			client.CloseIdleConnections()
			s.Close()
		}
	}
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	r := httpcall.NewRedactor("", "s3cret", "s3cret-longer")
	long := strings.Repeat("é", dispatch.MaxMessage)
	o := r.Outcome(dispatch.Outcome{
		Code: "a s3cret", Message: "x s3cret-longer\ny\xff" + long, RequestID: "s3cret", MessageID: "\x00",
	})
	if want := "a [redacted]"; o.Code != want {
		t.Errorf("code %q, want %q", o.Code, want)
	}
	if want := "x [redacted] y\uFFFDé"; !strings.HasPrefix(o.Message, want) {
		t.Errorf("message %q, want %q…", o.Message, want)
	}
	if len(o.Message) > dispatch.MaxMessage || !strings.HasSuffix(o.Message, "é") {
		t.Errorf("message is %d bytes and ends in %q", len(o.Message), o.Message[len(o.Message)-2:])
	}
	if o.RequestID != "[redacted]" || o.MessageID != " " {
		t.Errorf("ids %q %q", o.RequestID, o.MessageID)
	}
}

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://a.example", "http://127.0.0.1:80/"} {
		if u, err := httpcall.ParseEndpoint(good); err != nil || u.Path != "" {
			t.Errorf("%s: %v, %v", good, u, err)
		}
	}
	for in, want := range map[string]string{"https://推送.example:8443": "xn--jzu200h.example:8443", "https://[::1]:80": "[::1]:80"} {
		if u, err := httpcall.ParseEndpoint(in); err != nil || u.Host != want {
			t.Errorf("%s: %v, %v, want the host %s", in, u, err, want)
		}
	}
	for _, bad := range []string{"", "a.example", "ftp://a", "https://", "https://u:pass-word@h", "https://h/p", "https://h?q", "https://h/#f", "https://h\x7f"} {
		if _, err := httpcall.ParseEndpoint(bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "pass-word") {
			t.Errorf("%q: the error quotes it", bad)
		}
	}
}

// A compressed body is decoded within the bound of a plain one; what cannot be
// decoded stays as it came.
func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	zip := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	bomb := zip(strings.Repeat(" ", 4<<20))
	for name, tt := range map[string]struct {
		encoding, body, want string
		tooLong              bool
	}{
		"gzip":         {"gzip", zip("ok"), "ok", false},
		"named twice":  {"gzip, gzip", zip(zip("ok")), "ok", false},
		"cut gzip":     {"gzip", zip("ok")[:15], zip("ok")[:15], false},
		"not gzip":     {"gzip", "plain", "plain", false},
		"unknown":      {"br", "??", "??", false},
		"identity":     {"identity", "ok", "ok", false},
		"much in less": {"gzip", bomb, strings.Repeat(" ", httpcall.MaxAnswer), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", tt.encoding)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(server.Close)
			client := httpcall.NewClient(nil)
			t.Cleanup(client.CloseIdleConnections)
			a, f := client.Post(t.Context(), request(server.URL))
			if f != nil || string(a.Body) != tt.want || a.TooLong != tt.tooLong {
				t.Errorf("got %d bytes, too long %v, failure %v", len(a.Body), a.TooLong, f)
			}
		})
	}
}

package httpcall_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roundTrip is a transport that reports to the trace what a test wants.
type roundTrip func(*httptrace.ClientTrace, *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	defer func() { _ = r.Body.Close() }()
	return f(httptrace.ContextClientTrace(r.Context()), r)
}

var errBroken = errors.New("broken")

func TestFailuresAreClassedByWhatWasWritten(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		do     roundTrip
		class  dispatch.Class
		reason dispatch.Reason
	}{
		{"a transport that reports nothing", func(*httptrace.ClientTrace, *http.Request) (*http.Response, error) {
			return nil, errBroken
		}, dispatch.Unknown, dispatch.ReasonCut},
		{"no connection", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			return nil, errBroken
		}, dispatch.NotSent, dispatch.ReasonConnect},
		{"cancelled while connecting", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			return nil, context.Canceled
		}, dispatch.NotSent, dispatch.ReasonCancelled},
		{"out of time while connecting", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			return nil, context.DeadlineExceeded
		}, dispatch.NotSent, dispatch.ReasonConnect},
		{"a stale connection, nothing written", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{Reused: true})
			return nil, io.EOF
		}, dispatch.NotSent, dispatch.ReasonConnect},
		{"cut after a header field", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{})
			c.WroteHeaderField("Host", nil)
			return nil, io.EOF
		}, dispatch.Unknown, dispatch.ReasonCut},
		{"out of time after the request", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{})
			c.WroteHeaders()
			return nil, context.DeadlineExceeded
		}, dispatch.Unknown, dispatch.ReasonTimeout},
		{"cancelled after the request", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.WroteRequest(httptrace.WroteRequestInfo{})
			return nil, context.Canceled
		}, dispatch.Unknown, dispatch.ReasonCancelled},
		{"an answer that is no HTTP", func(c *httptrace.ClientTrace, _ *http.Request) (*http.Response, error) {
			c.WroteHeaders()
			c.GotFirstResponseByte()
			return nil, errBroken
		}, dispatch.Unknown, dispatch.ReasonBadAnswer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, f := httpcall.NewClient(tt.do).Post(t.Context(), request("http://example.invalid/"))
			if f == nil || f.Class != tt.class || f.Reason != tt.reason {
				t.Errorf("got %+v, want %v %v", f, tt.class, tt.reason)
			}
		})
	}
}

func request(to string) *httpcall.Request {
	u, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	return &httpcall.Request{URL: u, Header: http.Header{}, Body: []byte("a=b")}
}

// A header that net/http refuses would be refused for ever.
func TestMalformedRequestIsPermanent(t *testing.T) {
	t.Parallel()
	r := request("http://127.0.0.1:1/")
	r.Header["X-Bad"] = []string{"a\nb"}
	_, f := httpcall.NewClient(nil).Post(t.Context(), r)
	if f == nil || f.Class != dispatch.Permanent || f.Reason != dispatch.ReasonInvalid {
		t.Errorf("got %+v", f)
	}
}

// net/http repeats a POST with an Idempotency-Key by itself when a reused
// connection is cut before an answer. Calls must not.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	var second atomic.Int32
	listener := listen(t, func(n int, r *bufio.Reader, w net.Conn) bool {
		got, err := http.ReadRequest(r)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, got.Body)
		if n == 0 {
			_, err := io.WriteString(w, "HTTP/1.1 204 No Content\r\n\r\n")
			return err == nil
		}
		second.Add(1)
		return false
	})
	client := httpcall.NewClient(nil)
	t.Cleanup(client.CloseIdleConnections)
	post := func() (*httpcall.Answer, *httpcall.Failure) {
		r := request("http://" + listener)
		r.Header.Set("Idempotency-Key", "d-1")
		return client.Post(t.Context(), r)
	}
	// On a slow machine net/http gives a connection up instead of using it again:
	// then the next call is another first one.
	_, f := post()
	for f == nil && second.Load() == 0 {
		_, f = post()
	}
	if f == nil || f.Class != dispatch.Unknown {
		t.Errorf("second call on a connection: got %+v, want unknown", f)
	}
	if got := second.Load(); got != 1 {
		t.Errorf("the second request arrived %d times, want once", got)
	}
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
	for _, bad := range []string{"", "a.example", "ftp://a", "https://", "https://u:pass-word@h", "https://h/p", "https://h?q", "https://h/#f", "https://h\x7f"} {
		if _, err := httpcall.ParseEndpoint(bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "pass-word") {
			t.Errorf("%q: the error quotes it", bad)
		}
	}
}

package dispatchtest

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// A rig is a pusher, a message, and the server that the pusher calls.
type rig struct {
	t       *testing.T
	subject Subject
	pusher  dispatch.Pusher
	message *dispatch.Message
	// received counts the requests that arrived whole.
	received atomic.Int32
	pushes   atomic.Int32
	mu       sync.Mutex
	calls    []Call
}

// serve starts a provider that handles every whole request with handle.
func (s Subject) serve(t *testing.T, handle func(http.ResponseWriter, Call)) *rig {
	t.Helper()
	r := &rig{t: t, subject: s}
	server := httptest.NewServer(r.handler(handle))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	r.connect(server.URL)
	return r
}

// answer starts a provider that answers every call with answer.
func (s Subject) answer(t *testing.T, answer func(Call) Answer) *rig {
	t.Helper()
	return s.serve(t, func(w http.ResponseWriter, c Call) { answer(c).write(w) })
}

func (r *rig) handler(handle func(http.ResponseWriter, Call)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		call, err := readCall(req)
		if err != nil {
			return // the client cut the connection; the outcome is judged on its side
		}
		r.record(call)
		handle(w, call)
	})
}

func readCall(req *http.Request) (Call, error) {
	body, err := io.ReadAll(req.Body)
	return Call{
		Method: req.Method, Path: req.URL.RequestURI(), Host: req.Host, Header: req.Header, Body: body,
	}, err
}

func (r *rig) record(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	r.received.Add(1)
}

// recorded lists the calls that arrived whole.
func (r *rig) recorded() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// connect makes the pusher and the message for a provider at endpoint.
func (r *rig) connect(endpoint string) {
	r.t.Helper()
	r.pusher = r.subject.newPusher(r.t, endpoint)
	r.message = r.subject.compile(r.t, endpoint)
}

func (s Subject) newPusher(t *testing.T, endpoint string) dispatch.Pusher {
	t.Helper()
	p, err := s.Adapter.New(s.Settings(endpoint))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	idle, ok := p.(interface{ CloseIdleConnections() })
	if !ok {
		t.Fatalf("%T has no CloseIdleConnections method: a pusher that keeps connections must be able to drop them", p)
	}
	t.Cleanup(idle.CloseIdleConnections)
	return p
}

func (s Subject) compile(t *testing.T, endpoint string) *dispatch.Message {
	t.Helper()
	m, problems := s.Adapter.Compile(s.Request(endpoint))
	if len(problems) > 0 || m == nil {
		t.Fatalf("Compile of the sample request: %v, message %v", problems, m)
	}
	return m
}

// next returns a push like the sample, with ids and keys of its own.
func (r *rig) next() *dispatch.Push {
	n := r.pushes.Add(1)
	targets := slices.Clone(r.subject.Targets)
	for i := range targets {
		targets[i].MsgKey += fmt.Sprintf("-%d", n)
	}
	return &dispatch.Push{
		Message: r.message, DeliveryID: fmt.Sprintf("d-%d", n), MsgKey: fmt.Sprintf("k-%d", n),
		Targets: targets,
	}
}

// push makes one push and checks the rules that hold for every outcome.
func (r *rig) push(ctx context.Context) dispatch.Outcome {
	r.t.Helper()
	before := r.received.Load()
	o := r.pusher.Push(ctx, r.next())
	r.subject.checkOutcome(r.t, o)
	if got := r.received.Load() - before; got > 1 {
		r.t.Errorf("one push was received %d times", got)
	}
	return o
}

// want fails the test unless o is of class and, where given, of reason.
func want(t *testing.T, o dispatch.Outcome, class dispatch.Class, reason ...dispatch.Reason) {
	t.Helper()
	if o.Class != class || len(reason) > 0 && !slices.Contains(reason, o.Reason) {
		t.Errorf("got %v %+v, want %v %q", o.Class, o, class, reason)
	}
}

// checkOutcome checks the rules that hold for every outcome.
func (s Subject) checkOutcome(t *testing.T, o dispatch.Outcome) {
	t.Helper()
	if o.Class < dispatch.Accepted || o.Class > dispatch.Unknown {
		t.Errorf("class %d is none", o.Class)
	}
	if (o.Class == dispatch.Accepted) != (o.Reason == dispatch.ReasonNone) {
		t.Errorf("%v with reason %q", o.Class, o.Reason)
	}
	if o.Reason != dispatch.ReasonNone && !slices.Contains(dispatch.Reasons(), o.Reason) {
		t.Errorf("reason %q is not in the list", o.Reason)
	}
	if o.RetryAfter < 0 || o.RetryAfter > 0 && o.Class != dispatch.NotSent {
		t.Errorf("%v with a hint to retry after %v", o.Class, o.RetryAfter)
	}
	if len(o.Message) > dispatch.MaxMessage {
		t.Errorf("the message is %d bytes long", len(o.Message))
	}
	for _, text := range []string{o.Code, o.Message, o.RequestID, o.MessageID} {
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\n\r") {
			t.Errorf("text %q is not fit for a log or a database", text)
		}
	}
	s.checkSecrets(t, fmt.Sprintf("%+v", o))
}

// secrets lists the values that no text may hold.
func (s Subject) secrets() []string {
	found := slices.Clone(s.Secrets)
	options := s.Settings("http://127.0.0.1:1").Options
	for _, o := range s.Adapter.Options() {
		if o.Secret && options[o.Name] != "" {
			found = append(found, options[o.Name])
		}
	}
	return found
}

func (s Subject) checkSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range s.secrets() {
		if strings.Contains(text, secret) {
			t.Errorf("a text holds a secret: %s", strings.ReplaceAll(text, secret, "<SECRET>"))
		}
	}
}

func (a Answer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.Header)
	w.WriteHeader(a.status())
	_, _ = w.Write(a.Body)
}

func (a Answer) status() int {
	if a.Status == 0 {
		return http.StatusOK
	}
	return a.Status
}

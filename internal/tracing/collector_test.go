package tracing_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/internal/tracing"
)

// A receiver is a collector on loopback that keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	names   []string
	headers http.Header
	service map[string]string
}

// receive starts a receiver that gives every export the status.
func receive(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{service: make(map[string]string)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var export collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &export) != nil || q.URL.Path != "/v1/traces" {
			t.Errorf("%s is no export of traces", q.URL)
		}
		if status == http.StatusOK {
			r.keep(q.Header, &export)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) keep(h http.Header, export *collector.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = h
	for _, of := range export.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			r.service[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.names = append(r.names, s.GetName())
			}
		}
	}
}

func newTracer(t *testing.T, url string, log io.Writer) *tracing.Tracer {
	t.Helper()
	tr, err := tracing.New(t.Context(), tracing.Config{
		Endpoint: url + "/v1/traces", Headers: map[string]string{"Authorization": "Bearer s3same"}, SampleRatio: 1, Name: "host/1", Version: "v1",
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestStopSendsWhatWaits(t *testing.T) {
	t.Parallel()
	r := receive(t, http.StatusOK)
	var log bytes.Buffer
	tr := newTracer(t, r.URL, &log)
	tr.Claimed(task(1), engine.Span{From: after(1), To: after(2)})
	tr.Decided(task(1), engine.TracedDecision{Status: "succeeded", At: after(3)})
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff([]string{"claim", "task"}, r.names); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if got := r.headers.Get("Authorization"); got != "Bearer s3same" {
		t.Errorf("Authorization is %q", got)
	}
	if s := r.service; s["service.name"] != "scheduler" || s["service.version"] != "v1" || s["service.instance.id"] != "host/1" {
		t.Errorf("the spans come from %v", s)
	}
	if log.Len() > 0 {
		t.Errorf("logged:\n%s", &log)
	}
}

// TestNobodyListens holds that a daemon without its collector logs so once, and
// neither waits nor shows a header.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	r := receive(t, http.StatusForbidden)
	var log bytes.Buffer
	tr := newTracer(t, r.URL, &log)
	for id := range int64(5000) { // several batches
		tr.Claimed(task(id), engine.Span{From: after(1), To: after(2)})
	}
	if err := tr.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "traces cannot be sent") || strings.Contains(got, "s3same") {
		t.Errorf("logged, want one line without the header:\n%s", got)
	}
}

// TestDeafCollector holds that one which takes exports and never answers holds
// up neither the steps, though far more come than wait in the queue, nor a stop
// beyond its time.
func TestDeafCollector(t *testing.T) {
	t.Parallel()
	deaf := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-deaf }))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(deaf) })
	tr := newTracer(t, s.URL, io.Discard)
	for id := range int64(10_000) {
		tr.Claimed(task(id), engine.Span{From: after(1), To: after(2)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tr.Stop(ctx); err == nil {
		t.Error("Stop says that everything was sent")
	}
}

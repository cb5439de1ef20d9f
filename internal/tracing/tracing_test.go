package tracing_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/internal/tracing"
)

var due = time.Date(2026, 11, 22, 6, 30, 0, 0, time.UTC)

// after is so many milliseconds after the due time.
func after(ms int) time.Time { return due.Add(time.Duration(ms) * time.Millisecond) }

func task(id int64) engine.TracedTask {
	return engine.TracedTask{ID: id, Campaign: 7, DueAt: due, App: 3, Channel: "mpaas.push_simple"}
}

// describe writes spans as lines: name, from and to in ms after the due time,
// attributes, status.
func describe(spans tracetest.SpanStubs) []string {
	var lines []string
	for _, s := range spans {
		line := fmt.Sprintf("%s %d-%d", s.Name, s.StartTime.Sub(due).Milliseconds(), s.EndTime.Sub(due).Milliseconds())
		for _, a := range s.Attributes {
			line += fmt.Sprintf(" %s=%s", strings.TrimPrefix(string(a.Key), "scheduler."), a.Value.String())
		}
		lines = append(lines, strings.TrimSpace(line+" "+s.Status.Description))
	}
	return lines
}

func TestOneTracePerTask(t *testing.T) {
	t.Parallel()
	// Two daemons, which know nothing of each other, share a task.
	spans := tracetest.NewInMemoryExporter()
	one, other := tracing.NewRecording(1, spans), tracing.NewRecording(1, spans)
	one.Claimed(task(1), engine.Span{From: after(2), To: after(5)})
	one.Called(task(1), engine.TracedCall{
		Span: engine.Span{From: after(6), To: after(36)}, Slice: 1, Attempt: 1, Targets: 10, Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled,
		Code: "Throttling", RequestID: "req-1",
	})
	other.Called(task(1), engine.TracedCall{
		Span: engine.Span{From: after(1000), To: after(1030)}, Slice: 1, Attempt: 2, Targets: 10, Class: dispatch.Accepted, RequestID: "req-2", MessageID: "m",
	})
	other.Recorded(task(1), engine.Span{From: after(1031), To: after(1034)})
	other.Decided(task(1), engine.TracedDecision{Status: "succeeded", Reason: "none", Sent: after(6), At: after(1034), Targets: 10})
	got := spans.GetSpans()
	want := []string{
		"claim 2-5 campaign=7 task=1",
		"call 6-36 campaign=7 task=1 channel=mpaas.push_simple slice=1 attempt=1 targets=10 class=not_sent reason=throttled provider.code=Throttling provider.request_id=req-1 throttled",
		"call 1000-1030 campaign=7 task=1 channel=mpaas.push_simple slice=1 attempt=2 targets=10 class=accepted provider.request_id=req-2 provider.message_id=m",
		"record 1031-1034 campaign=7 task=1",
		"task 0-1034 campaign=7 task=1 app_no=3 channel=mpaas.push_simple status=succeeded reason=none targets=10 lateness_ms=6",
	}
	if diff := cmp.Diff(want, describe(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	root := got[len(got)-1]
	if root.Parent.IsValid() {
		t.Errorf("the root has a parent: %+v", root.Parent)
	}
	for _, s := range got[:len(got)-1] {
		if s.SpanContext.TraceID() != root.SpanContext.TraceID() || s.Parent.SpanID() != root.SpanContext.SpanID() {
			t.Errorf("%s is not below the root: %v below %v, want %v", s.Name, s.SpanContext.TraceID(), s.Parent.SpanID(), root.SpanContext.SpanID())
		}
	}
}

func TestTasksHaveTracesOfTheirOwn(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	tr := tracing.NewRecording(1, spans)
	elsewhere, later := task(1), task(1)
	elsewhere.Campaign, later.DueAt = 8, after(1)
	of := []engine.TracedTask{task(1), task(2), elsewhere, later}
	for _, each := range of {
		tr.Decided(each, engine.TracedDecision{Status: "missed", Reason: "quota", At: after(2)})
	}
	var ids []string
	for _, s := range spans.GetSpans() {
		ids = append(ids, s.SpanContext.TraceID().String())
		if s.Status.Description != "quota" {
			t.Errorf("status %+v, want an error with its reason", s.Status)
		}
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != len(of) {
		t.Errorf("%d traces of %d tasks", n, len(of))
	}
}

// Whether a task is traced depends on the task alone: a trace is whole or not
// there, whichever daemons had a part in it.
func TestSamplingKeepsTracesWhole(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	one, other := tracing.NewRecording(0.5, spans), tracing.NewRecording(0.5, spans)
	const tasks = 1000
	for id := range int64(tasks) {
		one.Called(task(id), engine.TracedCall{Span: engine.Span{From: after(1), To: after(2)}, Class: dispatch.Accepted})
		other.Decided(task(id), engine.TracedDecision{Status: "succeeded", At: after(3)})
	}
	count := make(map[string]int)
	for _, s := range spans.GetSpans() {
		count[s.SpanContext.TraceID().String()]++
	}
	for id, n := range count {
		if n != 2 {
			t.Errorf("trace %s has %d spans of 2", id, n)
		}
	}
	if n := len(count); n < tasks/3 || n > tasks*2/3 {
		t.Errorf("%d tasks of %d are traced, want about half", n, tasks)
	}
}

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

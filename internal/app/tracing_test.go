package app_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestStopSendsTheTraces runs a daemon with a collector: when it has stopped,
// the collector has the whole trace of each task, and in it neither a target nor
// a secret.
func TestStopSendsTheTraces(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var everything strings.Builder
	traces := make(map[string][]string)
	c := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		var export collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &export) != nil {
			t.Errorf("no export of traces: %d bytes, %v", len(body), err)
		}
		mu.Lock()
		defer mu.Unlock()
		everything.Write(body)
		for _, of := range export.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					traces[fmt.Sprintf("%x", s.GetTraceId())] = append(traces[fmt.Sprintf("%x", s.GetTraceId())], s.GetName())
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	api := pushAPI(t, "key-1", "secret-1")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, "secret-1")
	d := startOn(t, appYAML(api.URL(), "key-1", secret)+fmt.Sprintf("tracing: {endpoint: %q}\n", c.URL))
	d.push(t, "one")
	d.push(t, "two")
	until(t, "the decisions", func() bool { return get[int](t, d, `SELECT count(*) FROM scheduler.decided_tasks`) == 2 })
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(traces) != 2 {
		t.Errorf("%d traces of 2 tasks", len(traces))
	}
	for id, names := range traces {
		slices.Sort(names)
		if diff := cmp.Diff([]string{"call", "claim", "record", "task"}, names); diff != "" {
			t.Errorf("trace %s (-want +got):\n%s", id, diff)
		}
	}
	for _, private := range []string{"secret-1", "key-1", "user-1", "Li Lei"} {
		if strings.Contains(everything.String(), private) {
			t.Errorf("the traces hold %q", private)
		}
	}
}

package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/campaign-scheduler/scheduler/internal/engine"
	"github.com/campaign-scheduler/scheduler/store"
)

// A lister is a Registerer that notes what it is given.
type lister struct{ collectors []prometheus.Collector }

func (l *lister) Register(c prometheus.Collector) error {
	l.collectors = append(l.collectors, c)
	return nil
}

func (l *lister) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = l.Register(c)
	}
}

func (l *lister) Unregister(prometheus.Collector) bool { return false }

var describes = regexp.MustCompile(`fqName: "([a-z_]+)".*variableLabels: \{([a-z_,]*)\}`)

// metrics are the names that the daemon's metrics have, with their labels.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: "postgres://nobody@127.0.0.1:1/none"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	l := &lister{}
	m := engine.NewMetrics(l)
	l.MustRegister(engine.NewUsage(s, slog.New(slog.DiscardHandler)), engine.NewOwnApps(s, nil))
	histograms := []prometheus.Collector{m.Lateness, m.PushSeconds, m.ClaimSeconds, m.PlanSeconds}
	out := make(map[string][]string)
	for _, c := range l.collectors {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			parts := describes.FindStringSubmatch(d.String())
			if parts == nil {
				t.Fatalf("cannot read %s", d)
			}
			labels := strings.Split(parts[2], ",")
			out[parts[1]] = labels
			if slices.Contains(histograms, c) {
				out[parts[1]+"_bucket"], out[parts[1]+"_count"], out[parts[1]+"_sum"] = append(labels, "le"), labels, labels
			}
		}
	}
	return out
}

var (
	named    = regexp.MustCompile(`scheduler_[a-z_]+`)
	selected = regexp.MustCompile(`(scheduler_[a-z_]+)\{([^}]*)\}`)
	grouped  = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
)

// check holds an expression to the metrics and labels that exist, and returns
// the metrics it names.
func check(t *testing.T, where, expr string, known map[string][]string) []string {
	t.Helper()
	names := named.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	labels := []string{"instance", "job"}
	for _, name := range names {
		if _, ok := known[name]; !ok {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		labels = append(labels, known[name]...)
	}
	for _, group := range grouped.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			if !slices.Contains(labels, strings.TrimSpace(label)) {
				t.Errorf("%s: no metric of it has the label %s", where, label)
			}
		}
	}
	for _, s := range selected.FindAllStringSubmatch(expr, -1) {
		for matcher := range strings.SplitSeq(s[2], ",") {
			label := strings.TrimRight(matcher[:strings.IndexAny(matcher, "=!")], " ")
			if !slices.Contains(known[s[1]], label) {
				t.Errorf("%s: %s has no label %s", where, s[1], label)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: parentheses do not match in %s", where, expr)
	}
	return names
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	known, seen := metrics(t), map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			check(t, r.Alert, r.Expr, known)
			if seen[r.Alert] {
				t.Errorf("%s is there twice", r.Alert)
			}
			seen[r.Alert] = true
			if !slices.Contains([]string{"page", "ticket", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("%s: severity, summary or action is missing", r.Alert)
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d alerts were read", len(seen))
	}
}

// TestDashboard holds the dashboard to the metrics, and shows every one of them.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			GridPos struct{ W, H, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../../deploy/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	known, shown := metrics(t), map[string]bool{}
	for _, p := range board.Panels {
		if p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("%s: at %+v with %d targets", p.Title, p.GridPos, len(p.Targets))
		}
		for _, target := range p.Targets {
			for _, name := range check(t, p.Title, target.Expr, known) {
				shown[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !shown[name] && !shown[name+"_bucket"] && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !strings.HasSuffix(name, "_bucket") {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

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

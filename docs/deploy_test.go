package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/certtest"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// A tree is any YAML mapping.
type tree = map[string]any

// decode reads YAML strictly: a key that stands twice is an error.
func decode(t *testing.T, path string) tree {
	t.Helper()
	var out tree
	if err := yaml.UnmarshalWithOptions([]byte(read(t, path)), &out, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// at walks down a tree: names of keys, and numbers for places in a list.
func at(t *testing.T, from any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, ok := from.(tree)
			if !ok || m[s] == nil {
				t.Fatalf("%v: there is no %q", path, s)
			}
			from = m[s]
		case int:
			l, ok := from.([]any)
			if !ok || len(l) <= s {
				t.Fatalf("%v: there is no entry %d", path, s)
			}
			from = l[s]
		}
	}
	return from
}

// loadSettings has the program read a configuration in a folder that has the
// secrets it names; a mistake or an unknown variable fails the test.
func loadSettings(t *testing.T, text string, environ ...string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	text = strings.ReplaceAll(text, "/run/secrets/scheduler/", dir+"/")
	contents := map[string]string{"database_url": "postgres://pusher@db/push"}
	contents["console_certificate"], contents["console_key"] = certtest.PEM(t, certtest.SelfSigned(t, "console"))
	for _, name := range regexp.MustCompile(regexp.QuoteMeta(dir)+`/(\w+)`).FindAllStringSubmatch(text, -1) {
		content, ok := contents[name[1]]
		if !ok {
			content = "a-secret"
		}
		write(t, filepath.Join(dir, name[1]), content)
	}
	file := filepath.Join(dir, "scheduler.yaml")
	write(t, file, text)
	environ = append(environ, "SCHEDULER_DATA_DIR=/var/lib/scheduler") // as the image and the unit have it
	c, err := config.Load(file, environ, []config.Provider{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	return c
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	services := at(t, decode(t, "../compose.yaml"), "services")
	for _, name := range []string{"daemon-a", "daemon-b"} {
		service := at(t, services, name).(tree)
		var environ []string
		for key, value := range at(t, service, "environment").(tree) {
			if key != "SCHEDULER_CONFIG" {
				environ = append(environ, key+"="+value.(string))
			}
		}
		c := loadSettings(t, read(t, "../deploy/compose/scheduler.yaml"), environ...)
		if c.Database.URL == "" {
			t.Errorf("%s has no database", name)
		}
		if got := at(t, service, "stop_grace_period"); got != "45s" || c.Dispatch.GracePeriod.Seconds() >= 45 {
			t.Errorf("%s is killed after %v, before dispatch.grace_period of %v", name, got, c.Dispatch.GracePeriod)
		}
	}
	for _, volume := range regexp.MustCompile(`\./(deploy/[\w./-]+):`).FindAllStringSubmatch(read(t, "../compose.yaml"), -1) {
		if _, err := os.Stat("../" + volume[1]); err != nil {
			t.Error(err)
		}
	}
}

// TestImagesArePinned: a manifest that names no tag, or latest, is another
// installation tomorrow. The name that kustomize replaces has its tag there.
func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	images := regexp.MustCompile(`(?m)^\s*(?:- )?image: *(?:\$\{\w+:-)?([^\s}]+)`).FindAllStringSubmatch(read(t, "../compose.yaml"), -1)
	tag := regexp.MustCompile(`(?m)^\s*newTag: *(\S+)`).FindStringSubmatch(read(t, "../deploy/kubernetes/kustomization.yaml"))
	if len(images) == 0 || tag == nil {
		t.Fatal("no image is named")
	}
	for _, image := range append(images, []string{"", "kubernetes:" + tag[1]}) {
		if _, tag, tagged := strings.Cut(image[1], ":"); !tagged || !regexp.MustCompile(`^v?\d+\.\d|^trial$`).MatchString(tag) {
			t.Errorf("image %s is not pinned", image[1])
		}
	}
}

func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	kinds := map[string]tree{}
	for _, name := range at(t, decode(t, "../deploy/kubernetes/kustomization.yaml"), "resources").([]any) {
		doc := decode(t, "../deploy/kubernetes/"+name.(string))
		kinds[doc["kind"].(string)] = doc
	}
	c := loadSettings(t, at(t, kinds["ConfigMap"], "data", "scheduler.yaml").(string))

	deployment := at(t, kinds["Deployment"], "spec").(tree)
	pod := at(t, deployment, "template", "spec").(tree)
	container := at(t, pod, "containers", 0).(tree)
	if got := at(t, deployment, "replicas"); got != uint64(2) {
		t.Errorf("%v daemons, want 2", got)
	}
	if grace := at(t, pod, "terminationGracePeriodSeconds").(uint64); float64(grace) <= c.Dispatch.GracePeriod.Seconds() {
		t.Errorf("pods are killed after %d s, before dispatch.grace_period of %v", grace, c.Dispatch.GracePeriod)
	}
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if got := at(t, container, probe, "httpGet", "path"); got != path {
			t.Errorf("%s asks %v, want %s", probe, got, path)
		}
	}
	if port := at(t, container, "ports", 0, "containerPort").(uint64); c.Admin.Listen != "0.0.0.0:8080" || port != 8080 {
		t.Errorf("the probes ask port %d, the daemon listens on %s", port, c.Admin.Listen)
	}
	labels := at(t, deployment, "template", "metadata", "labels", "app.kubernetes.io/name")
	for kind, path := range map[string][]any{
		"Deployment":          {"spec", "selector", "matchLabels", "app.kubernetes.io/name"},
		"PodDisruptionBudget": {"spec", "selector", "matchLabels", "app.kubernetes.io/name"},
	} {
		if got := at(t, kinds[kind], path...); got != labels {
			t.Errorf("%s selects %v, the pods are %v", kind, got, labels)
		}
	}
	// A secret's files are root's: only the pod's group may let us read them.
	for _, kind := range []string{"Deployment", "Job"} {
		for i := range at(t, kinds[kind], "spec", "template", "spec", "volumes").([]any) {
			volume := at(t, kinds[kind], "spec", "template", "spec", "volumes", i).(tree)
			if volume["secret"] == nil {
				continue
			}
			security := at(t, kinds[kind], "spec", "template", "spec", "securityContext").(tree)
			if group := at(t, security, "runAsGroup"); security["fsGroup"] != group {
				t.Errorf("%s: fsGroup is %v, and the files of %s are for group %v", kind, security["fsGroup"], volume["name"], group)
			}
		}
	}
	// The migration's variable is one that the program knows.
	migrate := at(t, kinds["Job"], "spec", "template", "spec", "containers", 0)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "database_url"), "postgres://olga@db/push")
	c = loadSettings(t, "log: {level: info}\n", at(t, migrate, "env", 0, "name").(string)+"="+filepath.Join(dir, "database_url"))
	if c.Database.URL.Reveal() != "postgres://olga@db/push" {
		t.Error("the migration does not get its database")
	}
}

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	unit := read(t, "../deploy/systemd/scheduler.service")
	for _, line := range []string{
		"ExecStart=/usr/local/bin/scheduler serve --config /etc/scheduler/scheduler.yaml", "NoNewPrivileges=yes",
		"ProtectSystem=strict", "CapabilityBoundingSet=", "TimeoutStopSec=45",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllStringSubmatch(unit, -1) {
		loadSettings(t, "log: {level: info}\n", m[1])
	}
}

// TestEveryAlertIsExplained compares the rules with the table in operations.md.
func TestEveryAlertIsExplained(t *testing.T) {
	t.Parallel()
	rules, told := map[string]bool{}, map[string]bool{}
	for _, rule := range at(t, decode(t, "../deploy/prometheus/alerts.yaml"), "groups", 0, "rules").([]any) {
		rules[at(t, rule, "alert").(string)] = true
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Scheduler\\w+)` \\|").FindAllStringSubmatch(read(t, "operations.md"), -1) {
		told[m[1]] = true
	}
	if diff := cmp.Diff(sorted(rules), sorted(told)); diff != "" {
		t.Errorf("alerts of deploy/prometheus and of operations.md (-rules +documents):\n%s", diff)
	}
}

package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestProblems holds what the user reads when a file is wrong. Every secret in
// the cases is called hunter2, so that one look for it covers them all.
func TestProblems(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "problems.txtar")
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{}
	for _, f := range archive.Files {
		wants[f.Name] = string(f.Data)
	}
	updated := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		name, isCase := strings.CutSuffix(f.Name, ".yaml")
		if !isCase {
			continue
		}
		got := problemsOf(t, string(f.Data))
		if diff := cmp.Diff(wants[name+".want"], got); diff != "" && !*update {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.Contains(got, "hunter") {
			t.Errorf("%s: a secret is shown:\n%s", name, got)
		}
		updated.Files = append(updated.Files, f, txtar.File{Name: name + ".want", Data: []byte(got)})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(updated), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// problemsOf loads the text and returns the error with the folder's name, which
// differs from run to run, taken out.
func problemsOf(t *testing.T, text string) string {
	t.Helper()
	path := write(t, text, "empty", "\n", "token", "hunter2")
	_, err := config.Load(path, home, providers())
	if _, ok := errors.AsType[config.Problems](err); !ok {
		t.Fatalf("Load says %v, want Problems of\n%s", err, text)
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "") + "\n"
}

func TestProblemsOfTheEnvironmentNameTheVariable(t *testing.T) {
	t.Parallel()
	path := write(t, "apps:\n  - {app_id: a, provider: alipay, endpoint: 'https://a', private_key: k}\n")
	for _, c := range []struct{ variable, want string }{
		{"SCHEDULER_DATABASE_MAX_CONNECTIONS=many", `SCHEDULER_DATABASE_MAX_CONNECTIONS: must be a whole number, not "many"`},
		{"SCHEDULER_LOG_FORMAT=xml", `SCHEDULER_LOG_FORMAT: must be one of text, json, not "xml"`},
		{"SCHEDULER_APPS_0_PENDING_LIMIT=0", "SCHEDULER_APPS_0_PENDING_LIMIT: must be at least 1, not 0"},
		{"SCHEDULER_APPS_0_PRIVATE_KEY_FILE=/absent", "SCHEDULER_APPS_0_PRIVATE_KEY_FILE: cannot read /absent: no such file or directory"},
		{"SCHEDULER_APPS_0_PROVIDER=nobody", `SCHEDULER_APPS_0_PROVIDER: must be one of mpaas, alipay, not "nobody"`},
		{"SCHEDULER_APPS_0_WEEKLY_QUOTA=alipay.send", `SCHEDULER_APPS_0_WEEKLY_QUOTA: must be a whole number, 0 for no quota, not ""`},
	} {
		_, err := config.Load(path, append([]string{c.variable}, home...), providers())
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: Load says %v\nwant %s", c.variable, err, c.want)
		}
	}
}

func TestAFileThatCannotBeReadIsAProblem(t *testing.T) {
	t.Parallel()
	_, err := config.Load("/absent/scheduler.yaml", home, providers())
	const want = "/absent/scheduler.yaml: cannot be read: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("Load says %v, want %s", err, want)
	}
}

// FuzzLoad holds that no text makes Load panic, and that what it refuses it
// refuses with Problems.
func FuzzLoad(f *testing.F) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "problems.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(file.Data)
	}
	f.Add([]byte("a: |\n  b\n? c\n- !!x &y *z\n%YAML 1.2\n--- {a: [b, {c"))
	path := filepath.Join(f.TempDir(), "scheduler.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path, home, providers())
		problems, ok := errors.AsType[config.Problems](err)
		if err != nil && (!ok || len(problems) == 0 || c != nil) {
			t.Errorf("Load says %#v with a configuration of %v", err, c)
		}
	})
}

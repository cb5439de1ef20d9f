//go:build unix

package embedpg_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

func TestStartKeepsDataAndPort(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t), Database: "campaigns"}
	first := start(t, cfg)
	if !first.Created() {
		t.Error("the first start does not say that it created the cluster")
	}
	makeKept(t, first.URL(cfg.Database))
	stop(t, first)

	second := start(t, cfg)
	if second.Created() {
		t.Error("the second start says that it created the cluster")
	}
	if second.Port() != first.Port() {
		t.Errorf("port %d, then %d", first.Port(), second.Port())
	}
	for _, url := range []string{second.URL(cfg.Database), second.TCPURL()} {
		checkKept(t, url)
	}
	if got := query(t, second.URL("postgres"), "SELECT current_database()"); got != "postgres" {
		t.Errorf("URL(postgres) connects to %s", got)
	}
	if got := query(t, second.URL("postgres"), "SHOW timezone"); got != "Etc/UTC" && got != "UTC" {
		t.Errorf("time zone %s", got)
	}
}

func TestLoopbackAsksForThePassword(t *testing.T) {
	t.Parallel()
	s := start(t, embedpg.Config{Dir: serverDir(t)})
	wrong := strings.Replace(s.TCPURL(), "passfile=", "password=guess&passfile=", 1)
	conn, err := pgx.Connect(t.Context(), wrong)
	if err == nil {
		_ = conn.Close(t.Context())
		t.Error("a wrong password was let in")
	}
}

func TestPasswordFileRemoved(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t)}
	stop(t, start(t, cfg))
	if err := os.Remove(filepath.Join(cfg.Dir, "pgpass")); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	if got := query(t, s.TCPURL(), "SELECT 'in'"); got != "in" {
		t.Errorf("got %q", got)
	}
}

func TestNothingIsOpenToOthers(t *testing.T) {
	t.Parallel()
	s := start(t, embedpg.Config{Dir: serverDir(t)})
	dir := filepath.Dir(s.LogFile())
	enter := os.FileMode(0o700)
	if os.Geteuid() == 0 { // the server's account must pass through
		enter = 0o711
	}
	for path, want := range map[string]os.FileMode{
		s.Sockets():                  0o700,
		dir:                          enter,
		filepath.Join(dir, "lock"):   0o600,
		filepath.Join(dir, "port"):   0o600,
		filepath.Join(dir, "data"):   0o700,
		filepath.Join(dir, "pgpass"): 0o600,
		s.LogFile():                  0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %#o, want %#o", path, got, want)
		}
	}
}

func TestPSQLCanBePasted(t *testing.T) {
	t.Parallel()
	s := start(t, embedpg.Config{Dir: serverDir(t) + " it's", Database: "campaigns"})
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", s.PSQL()+" -Atc 'SELECT current_database()'").CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "campaigns" {
		t.Errorf("%s: %v\n%s", s.PSQL(), err, got)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		arrange func(t *testing.T, cfg *embedpg.Config)
		want    error    // nil: any
		text    []string // parts of the error
	}{
		{
			name: "data of another major version",
			arrange: func(t *testing.T, cfg *embedpg.Config) {
				t.Helper()
				stop(t, start(t, *cfg))
				write(t, filepath.Join(cfg.Dir, "data", "PG_VERSION"), "9\n")
			},
			want: embedpg.ErrVersionMismatch,
			text: []string{"made by 9", "installed: ", "pg_upgrade"},
		},
		{
			name: "a directory of something else",
			arrange: func(t *testing.T, cfg *embedpg.Config) {
				t.Helper()
				write(t, filepath.Join(cfg.Dir, "data", "thesis.txt"), "precious")
			},
			text: []string{"not a PostgreSQL data directory", "move it away"},
		},
		{
			name:    "a directory in use",
			arrange: func(t *testing.T, cfg *embedpg.Config) { t.Helper(); start(t, *cfg) },
			want:    embedpg.ErrInUse,
			text:    []string{"process "},
		},
		{
			name:    "no binaries",
			arrange: func(t *testing.T, cfg *embedpg.Config) { t.Helper(); cfg.BinDir = t.TempDir() },
			want:    embedpg.ErrNoBinaries,
			text:    []string{"Install PostgreSQL"},
		},
		{
			name: "a bad setting",
			arrange: func(t *testing.T, cfg *embedpg.Config) {
				t.Helper()
				cfg.Settings = map[string]string{"max_connections": "many"}
			},
			text: []string{"ended while starting", `invalid value for parameter "max_connections"`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := embedpg.Config{Dir: serverDir(t)}
			tc.arrange(t, &cfg)
			before := listing(t, filepath.Join(cfg.Dir, "data"))
			s, err := embedpg.Start(t.Context(), cfg)
			if err == nil {
				stop(t, s)
				t.Fatal("started")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			for _, part := range tc.text {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
			if after := listing(t, filepath.Join(cfg.Dir, "data")); len(after) < len(before) {
				t.Errorf("files went away: before %v, after %v", before, after)
			}
		})
	}
}

func TestUnfinishedClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t)}
	write(t, filepath.Join(cfg.Dir, "data.new", "PG_VERSION"), "")
	s := start(t, cfg)
	if got := query(t, s.URL("postgres"), "SELECT 'up'"); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestServerDoesNotRunAsRoot(t *testing.T) {
	t.Parallel()
	s := start(t, embedpg.Config{Dir: serverDir(t), Ephemeral: true})
	info, err := os.Stat(filepath.Join(filepath.Dir(s.LogFile()), "data"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the data belong to root")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestRunning(t *testing.T) {
	t.Parallel()
	cfg := embedpg.Config{Dir: serverDir(t), Database: "campaigns"}
	if url, ok := embedpg.Running(cfg.Dir, cfg.Database); ok {
		t.Errorf("before the start: %s", url)
	}
	s := start(t, cfg)
	url, ok := embedpg.Running(cfg.Dir, cfg.Database)
	if !ok || url != s.URL(cfg.Database) {
		t.Errorf("got %q %t, want %q", url, ok, s.URL(cfg.Database))
	}
	if got := query(t, url, "SELECT current_database()"); got != cfg.Database {
		t.Errorf("connects to %s", got)
	}
	stop(t, s)
	if url, ok := embedpg.Running(cfg.Dir, cfg.Database); ok {
		t.Errorf("after the stop: %s", url)
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"/var/lib/scheduler": "/var/lib/scheduler",
		"":                   "''",
		"my data":            "'my data'",
		"it's":               `'it'\''s'`,
		"$(id)":              "'$(id)'",
	} {
		if got := embedpg.ShellQuote(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}

func TestChooseInstallation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		found map[string]int
		major int
		want  string
		err   error
	}{
		{"the newest", map[string]int{"/a": 15, "/b": 17, "/c": 16}, 0, "/b", nil},
		{"the one that fits the data", map[string]int{"/a": 15, "/b": 17}, 15, "/a", nil},
		{"none fits the data", map[string]int{"/a": 15}, 16, "", embedpg.ErrVersionMismatch},
		{"only too old ones", map[string]int{"/a": 13}, 0, "", embedpg.ErrNoBinaries},
		{"data too old, and its binaries too", map[string]int{"/a": 13}, 13, "", embedpg.ErrVersionMismatch},
		{"none", nil, 15, "", embedpg.ErrNoBinaries},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := embedpg.Choose(tc.found, tc.major)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestClosedParentIsNamed(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	inside := filepath.Join(closed, "inside")
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	err := embedpg.CanReach(inside)
	if err == nil || !strings.Contains(err.Error(), "stranger, who may not enter "+inside) {
		t.Errorf("got %v", err)
	}
}

func TestLongDirectoryGetsShortSocket(t *testing.T) {
	t.Parallel()
	got, err := embedpg.SocketDir("/"+strings.Repeat("long/", 30), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(got) })
	if len(got) > 80 {
		t.Errorf("%s has %d characters", got, len(got))
	}
}

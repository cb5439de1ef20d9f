//go:build unix

package embedpg_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// parentEnv turns the test binary into a parent process that starts a server
// with the Config in the variable, says where it is, and waits to be killed.
const parentEnv = "EMBEDPG_TEST_PARENT"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(parentEnv); cfg != "" {
		beParent(cfg)
	}
	goleak.VerifyTestMain(m)
}

type parentReport struct {
	PID int
	URL string
}

func beParent(config string) {
	var cfg embedpg.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		fail(err)
	}
	s, err := embedpg.Start(context.Background(), cfg)
	if err != nil {
		fail(err)
	}
	report, _ := json.Marshal(parentReport{PID: s.PID(), URL: s.URL(cmp.Or(cfg.Database, "postgres"))})
	fmt.Println(string(report))
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go, or kills us
	if err := s.Stop(); err != nil {
		fail(err)
	}
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A parent is another process that owns a server.
type parent struct {
	parentReport
	cmd   *exec.Cmd
	stdin io.Closer
}

// startParent runs exe, this test binary or a copy of it, as a parent.
func startParent(t *testing.T, exe string, cfg embedpg.Config, as *syscall.Credential) *parent {
	t.Helper()
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), parentEnv+"="+string(config))
	cmd.Stderr, cmd.Dir = os.Stderr, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &parent{cmd: cmd, stdin: stdin}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("parent process: %v", err)
	}
	if err := json.Unmarshal(line, &p.parentReport); err != nil {
		t.Fatalf("parent process said %q: %v", line, err)
	}
	t.Cleanup(func() { // before the server's directory is removed, into which it writes as it ends
		p.kill()
		eventually(t, "the server has ended", func() bool { return gone(p.PID) })
	})
	return p
}

// kill is kill -9; the second call does nothing.
func (p *parent) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// serverDir is a temporary directory that another account may enter: as root
// the server runs as one.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(pgtest.TempDir(), "embedpg-test-") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

// start starts a server that ends with the test.
func start(t *testing.T, cfg embedpg.Config) *embedpg.Server {
	t.Helper()
	s, err := embedpg.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *embedpg.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// query runs one statement on a connection of its own and returns its first value as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// makeKept leaves a table of one row to be found again by checkKept.
func makeKept(t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 1"); err != nil {
		t.Fatal(err)
	}
}

// checkKept says when that row is lost.
func checkKept(t *testing.T, url string) {
	t.Helper()
	if got := query(t, url, "SELECT count(*)::text FROM kept"); got != "1" {
		t.Errorf("%s rows are left, want 1", got)
	}
}

// eventually polls until ok; it watches processes that cannot be waited for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never so: %s", what)
		}
	}
}

// gone reports that no such process is left, or only its zombie.
func gone(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output() //nolint:noctx // ends at once
	return err != nil || len(out) == 0 || out[0] == 'Z'
}

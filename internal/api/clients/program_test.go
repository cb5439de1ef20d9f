package clients_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A program is `scheduler serve` with the embedded database, the sandbox and a
// trial key.
type program struct {
	host, keyID, secret string
	sandbox             string
}

const (
	appID     = "sandbox-mpaas"
	workspace = "default"
)

var (
	build   sync.Once
	binary  string
	failure error
)

// TestMain removes what start built.
func TestMain(m *testing.M) {
	code := m.Run()
	if binary != "" {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func start(t *testing.T) *program {
	t.Helper()
	build.Do(func() {
		dir, err := os.MkdirTemp("", "scheduler") //nolint:usetesting // all tests share the program
		if err != nil {
			failure = err
			return
		}
		binary = filepath.Join(dir, "scheduler")
		cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/scheduler")
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			failure = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if failure != nil {
		t.Fatal(failure)
	}
	data, err := os.MkdirTemp("", "scheduler-data") //nolint:usetesting // as root the server runs as another user, who must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	if err := os.Chmod(data, 0o755); err != nil { // as root the server runs as another user
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "serve")
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "SCHEDULER_DATA_DIR="+data, "SCHEDULER_ADMIN_LISTEN=127.0.0.1:0", "SCHEDULER_SANDBOX_LISTEN=127.0.0.1:0",
		"SCHEDULER_API_LISTEN=127.0.0.1:0", "SCHEDULER_DISPATCH_GRACE_PERIOD=1s")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the program: %v\n%s", err, log.String())
		}
	})
	p := &program{}
	sandbox := regexp.MustCompile(`sandbox +(http://\S+),`)
	key := regexp.MustCompile(`endpoint http://(\S+) +access key id (\S+) +secret (\S+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := sandbox.FindStringSubmatch(lines.Text()); m != nil {
			p.sandbox = m[1]
		}
		if m := key.FindStringSubmatch(lines.Text()); m != nil {
			p.host, p.keyID, p.secret = m[1], m[2], m[3]
		}
		if strings.Contains(lines.Text(), "Ctrl-C") {
			break
		}
	}
	if p.host == "" || p.sandbox == "" {
		t.Fatal("the program did not tell of its API")
	}
	go func() {
		for lines.Scan() { // so that it never waits for its reader
		}
	}()
	return p
}

// A journalLine is a call that the push API got.
type journalLine struct {
	ReceivedAt time.Time `json:"received_at"`
	API        string    `json:"api"`
	Outcome    string    `json:"outcome"`
	MsgKeys    []string  `json:"msg_keys"`
	TaskName   string    `json:"task_name"`
}

// pushed waits for the push of a task's name and returns when it came.
func (p *program) pushed(t *testing.T, name string) journalLine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.sandbox+"/_sandbox/journal?since=0&follow", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line journalLine
		if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.TaskName == name {
			return line
		}
	}
	t.Fatalf("%s was never pushed: %v", name, lines.Err())
	return journalLine{}
}

// sample is the documents' StrategyContent, with its dates moved to now: every key
// is there, those of the other strategy too.
func sample(now, fixed time.Time) string {
	return fmt.Sprintf(`{"fixedTime":%d,"startTime":%d,"endTime":%d,"circleType":1,"circleValue":[1,7],"time":"13:45:11"}`,
		fixed.UnixMilli(), now.UnixMilli(), now.AddDate(0, 0, 30).UnixMilli())
}

// weekly is a loop on two days of the week.
func weekly(now time.Time) string {
	return fmt.Sprintf(`{"startTime":%d,"endTime":%d,"circleType":2,"circleValue":[1,4],"time":"13:45:11"}`,
		now.AddDate(0, 0, 1).UnixMilli(), now.AddDate(0, 0, 28).UnixMilli())
}

// onTime holds that a push came at its second, or in the few after it where the
// machine is busy; never before it.
func onTime(t *testing.T, due time.Time, line journalLine) {
	t.Helper()
	if line.Outcome != "accepted" || line.ReceivedAt.Before(due) {
		t.Errorf("due %s: %+v", due, line)
	}
	t.Logf("due %s, pushed %s later", due.Format(time.TimeOnly), line.ReceivedAt.Sub(due))
}

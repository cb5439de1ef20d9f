//go:build linux

package api_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/api"
)

// The daemon is killed between the COMMIT and its answer. The client, who knows
// nothing, calls again with its token, and another daemon tells it the first
// one's id.
func TestKilledBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	in := install(t)
	call := multipleCall(3).with("ClientToken", "order-1", "StrategyType", "1",
		"StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, time.Now().Add(time.Hour).UnixMilli()))
	first := serve(t, in.binary, in.file, "CHAOS_FAILPOINT=api.stored:1:kill")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, signAt(first, "crm", "PushMultiple", call), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the killed daemon answered HTTP %d", resp.StatusCode)
	}
	<-first.ended
	id := get[int64](t, in.rig, `SELECT id FROM scheduler.campaigns`)

	a := in.callAt(t, serve(t, in.binary, in.file), "crm", "PushMultiple", call)
	if a.PushResult.Data != api.IDOf(id) {
		t.Errorf("the second call: %s, want the id %s", a.body, api.IDOf(id))
	}
	if n := get[int](t, in.rig, `SELECT (SELECT count(*) FROM scheduler.campaigns) * 100 + (SELECT count(*) FROM scheduler.campaign_targets)`); n != 103 {
		t.Errorf("%d, want one campaign with three targets", n)
	}
}

// A daemon is the program, running.
type daemon struct {
	*exec.Cmd
	api, admin string        // its listeners: a URL, and host:port
	ended      chan struct{} // closed when it has ended
	log        *syncedBuffer
}

// syncedBuffer is a buffer that may be read while the program writes to it.
type syncedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var listeners = regexp.MustCompile(`(admin|mPaaS API) +http://(\S+)`)

// serve runs a daemon until the test ends.
func serve(t *testing.T, binary, file string, env ...string) *daemon {
	t.Helper()
	d := &daemon{ended: make(chan struct{}), log: &syncedBuffer{}}
	d.Cmd = exec.Command(binary, "serve", "--config", file) //nolint:noctx // it is to outlive nothing: the clean-up kills it
	d.Env = append(os.Environ(), env...)
	out, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.Stderr = d.log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{})
	go func() {
		defer close(d.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch m := listeners.FindStringSubmatch(lines.Text()); {
			case m != nil && m[1] == "admin":
				d.admin, _, _ = strings.Cut(m[2], "/")
			case m != nil:
				d.api = "http://" + m[2]
			case strings.Contains(lines.Text(), "Ctrl-C"):
				close(running)
			}
		}
		_ = d.Wait()
	}()
	t.Cleanup(func() { _ = d.Process.Kill(); <-d.ended })
	select {
	case <-running:
	case <-d.ended:
		t.Fatalf("the daemon ended: %s", d.log.String())
	}
	return d
}

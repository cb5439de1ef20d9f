package sandbox_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

const childEnv = "SANDBOX_TEST_JOURNAL"

// child is this test binary as a sandbox of its own process, until its standard
// input ends.
func child(journal string) int {
	sb, err := sandbox.New(sandbox.Config{Apps: testKeys(), JournalPath: journal})
	if err == nil {
		err = sb.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(sb.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// A push that its client saw accepted is in the journal, though the sandbox is
// killed at any moment; and no kill leaves a journal that cannot go on.
func TestKilledSandboxForgetsNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	var mu sync.Mutex
	accepted := map[string]bool{}
	const kills, callers, before = 4, 8, 150
	for round := range kills {
		url, kill := startChild(t, path)
		transport := &http.Transport{MaxIdleConnsPerHost: callers}
		sb := &bundle{client: &http.Client{Transport: transport}}
		var calls sync.WaitGroup
		for caller := range callers {
			calls.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("key-%d-%d-%d", round, caller, i)
					form := with(multiple(100), "TargetMsg.1.MsgKey", key)
					r, err := sb.do(t, acs{id: testKeyID, secret: testSecret}.request(t, url, "PushMultiple", form))
					if err != nil {
						return
					}
					mu.Lock()
					accepted[key] = strings.Contains(r.body, `"ResultCode":"OK"`)
					enough := len(accepted) >= (round+1)*before
					mu.Unlock()
					if enough {
						kill()
					}
				}
			})
		}
		calls.Wait()
		transport.CloseIdleConnections()
	}
	k, err := sandbox.CheckJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for key, ok := range accepted {
		if !ok || len(k.Arrivals(key)) != 1 {
			t.Errorf("%s: accepted %v, in the journal %d times", key, ok, len(k.Arrivals(key)))
		}
	}
	if k.Accepted < kills*before {
		t.Errorf("only %d calls in the journal", k.Accepted)
	}
}

func startChild(t *testing.T, journal string) (url string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+journal)
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe() // ends with this process
	stdout, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	})
	t.Cleanup(kill)
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url), kill
}

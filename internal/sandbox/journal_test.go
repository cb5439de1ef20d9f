package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func journalFile(path string, more ...func(*sandbox.Config)) func(*sandbox.Config) {
	return func(c *sandbox.Config) {
		c.JournalPath = path
		for _, m := range more {
			m(c)
		}
	}
}

// When the answer arrives, the line is in the file: another process reading it
// at that moment finds the push.
func TestLineIsInTheFileBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	sb := setup(t, journalFile(path))
	var callers sync.WaitGroup
	for worker := range 8 {
		callers.Go(func() {
			for i := range 25 {
				key := fmt.Sprintf("key-%d-%d", worker, i)
				req := sb.mpaas(t, "PushMultiple", with(multiple(1), "TargetMsg.1.MsgKey", key))
				if _, err := sb.do(t, req); err != nil {
					t.Error(err)
					return
				}
				text, err := os.ReadFile(path)
				if err != nil || !strings.Contains(string(text), `"`+key+`"`) {
					t.Errorf("%s was accepted and is not in the file (%v)", key, err)
				}
			}
		})
	}
	callers.Wait()
	k, err := sandbox.CheckJournal(path)
	if err != nil || k.Accepted != 200 || len(k.Duplicates()) > 0 || len(k.MsgKeys()) != 200 || k.ByAPI["mpaas.push_multiple"] != 200 {
		t.Errorf("checker: %v, %+v", err, k)
	}
}

// A push whose line cannot be written is not answered.
func TestNoAnswerWithoutJournal(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal("this test writes to /dev/full, which fails every write")
	}
	sb := setup(t, journalFile("/dev/full"))
	if r, err := sb.do(t, sb.mpaas(t, "PushMultiple", multiple(1))); err == nil {
		t.Errorf("HTTP %d %s", r.status, r.body)
	}
	if s := sb.Stats(); s.Accepted != 0 {
		t.Errorf("%d accepted", s.Accepted)
	}
}

// TestJournalIsItsOwnersOnly: it names those who were pushed to. A file that an
// earlier version left open to all is closed.
func TestJournalIsItsOwnersOnly(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]os.FileMode{"new": 0, "left open": 0o644} {
		path := filepath.Join(t.TempDir(), "journal")
		if before != 0 {
			if err := os.WriteFile(path, nil, before); err != nil {
				t.Fatal(err)
			}
		}
		setup(t, journalFile(path))
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestJournalGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	one := setup(t, journalFile(path))
	one.must(t, one.mpaas(t, "PushMultiple", multiple(1)))
	one.must(t, one.mpaas(t, "PushSimple", simple()))
	if err := one.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"seq":3,"received_at":"20`); err != nil { // torn by a kill
		t.Fatal(err)
	}
	file.Close()
	if k, err := sandbox.CheckJournal(path); err != nil || k.Calls != 2 {
		t.Errorf("checker over a torn line: %v, %+v", err, k)
	}

	two := setup(t, journalFile(path))
	two.must(t, two.mpaas(t, "PushMultiple", multiple(1)))
	calls, err := two.Calls(0)
	if err != nil {
		t.Fatal(err)
	}
	var apis []string
	for i, c := range calls {
		apis = append(apis, c.API)
		if c.Seq != uint64(i+1) {
			t.Errorf("call %d has sequence number %d", i+1, c.Seq)
		}
	}
	if diff := cmp.Diff([]string{"mpaas.push_multiple", "mpaas.push_simple", "mpaas.push_multiple"}, apis); diff != "" {
		t.Error(diff)
	}
	k, err := sandbox.CheckJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := k.Duplicates(); len(d) != 1 || d[0].MsgKey != "key-1" || len(d[0].Arrivals) != 2 {
		t.Errorf("duplicates: %v", d)
	}
}

func TestJournalDetail(t *testing.T) {
	t.Parallel()
	for detail, want := range map[sandbox.Detail]struct{ keys, task bool }{
		sandbox.Full: {true, true}, sandbox.Brief: {true, false}, sandbox.Off: {},
	} {
		sb := setup(t, func(c *sandbox.Config) { c.JournalDetail = detail })
		sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
		calls, err := sb.Calls(0)
		if err != nil || (len(calls) > 0) != want.keys {
			t.Fatalf("%s: %d calls, %v", detail, len(calls), err)
		}
		if len(calls) > 0 && ((calls[0].MsgKeys != nil) != want.keys || (calls[0].TaskName != "") != want.task) {
			t.Errorf("%s: %+v", detail, calls[0])
		}
		if sb.Stats().Accepted != 1 {
			t.Errorf("%s: %+v", detail, sb.Stats())
		}
	}
	if _, err := sandbox.New(sandbox.Config{JournalDetail: "some"}); err == nil {
		t.Error("an unknown detail passed")
	}
}

// What fell out of memory comes from the file; without a file it is gone.
func TestJournalBeyondMemory(t *testing.T) {
	t.Parallel()
	small := func(c *sandbox.Config) { c.Ring = 2 }
	filed := setup(t, journalFile(filepath.Join(t.TempDir(), "journal"), small))
	memory := setup(t, small)
	for range 5 {
		filed.must(t, filed.mpaas(t, "PushMultiple", multiple(1)))
		memory.must(t, memory.mpaas(t, "PushMultiple", multiple(1)))
	}
	for since := range uint64(7) {
		calls, err := filed.Calls(since)
		if err != nil || len(calls) != int(5-min(since, 5)) {
			t.Errorf("since %d: %d calls, %v", since, len(calls), err)
		}
	}
	if calls, err := memory.Calls(3); err != nil || len(calls) != 2 {
		t.Errorf("from memory: %d calls, %v", len(calls), err)
	}
	if _, err := memory.Calls(2); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("from memory: %v, want ErrGone", err)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan uint64)
	go func() {
		defer close(seen)
		for c, err := range sb.Follow(ctx, 1) {
			if err != nil {
				t.Error(err)
				return
			}
			seen <- c.Seq
		}
	}()
	for range 3 {
		sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
	}
	if a, b := <-seen, <-seen; a != 2 || b != 3 {
		t.Errorf("saw %d and %d, want 2 and 3", a, b)
	}
	cancel()
	if seq, more := <-seen; more {
		t.Errorf("saw %d after the end", seq)
	}
}

func TestJournalStream(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
	sb.must(t, sb.alipay(t, labelPath, goodLabel))
	if r := sb.get(t, "/_sandbox/journal?since=1"); strings.Count(r.body, "\n") != 1 || !strings.Contains(r.body, "alipay.label_send") {
		t.Errorf("since 1: %s", r.body)
	}
	if r := sb.get(t, "/_sandbox/journal?since=x"); r.status != http.StatusBadRequest {
		t.Errorf("since x: HTTP %d", r.status)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sb.URL()+"/_sandbox/journal?follow", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := sb.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		if i == 2 {
			sb.must(t, sb.hook(t, `{}`))
		}
		var c sandbox.Call
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &c) != nil || c.Seq != uint64(i+1) {
			t.Fatalf("line %d: %q, %v", i+1, lines.Text(), lines.Err())
		}
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	sb.must(t, sb.mpaas(t, "PushMultiple", multiple(3)))
	sb.must(t, sb.mpaas(t, "PushMultiple", multiple(0)))
	sb.must(t, acs{id: "x", secret: "x"}.request(t, sb.URL(), "PushSimple", simple()))
	r := sb.get(t, "/_sandbox/stats")
	for path, want := range map[string]any{
		"calls": 3.0, "accepted": 1.0, "refused": 2.0, "bad_signatures": 1.0, "targets": 3.0, "last_seq": 3.0, "in_flight": 0.0,
		"max_in_flight": 1.0, "apis.mpaas.push_multiple": map[string]any{"accepted": 1.0, "refused": 1.0},
	} {
		keys := strings.SplitN(path, ".", 2)
		if got := r.field(keys...); !cmp.Equal(got, want) {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func TestChecker(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k := sandbox.NewChecker()
	k.Add(sandbox.Call{Outcome: sandbox.Accepted, Signature: "ok", MsgKeys: []string{"a", "b"}, ReceivedAt: at.Add(time.Second), TargetCount: 2})
	k.Add(sandbox.Call{Outcome: sandbox.Accepted, Signature: "ok", MsgKeys: []string{"c", "c"}, ReceivedAt: at.Add(3 * time.Second)})
	k.Add(sandbox.Call{Outcome: sandbox.Refused, Signature: "bad", MsgKeys: []string{"a"}})
	late, absent := k.Lateness(map[string]time.Time{"a": at, "b": at, "c": at, "d": at})
	if diff := cmp.Diff([]time.Duration{time.Second, time.Second, 3 * time.Second}, late); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"d"}, absent); diff != "" {
		t.Error(diff)
	}
	if d := k.Duplicates(); len(d) != 1 || d[0].MsgKey != "c" {
		t.Errorf("duplicates: %v", d)
	}
	if k.Silent != 2 || k.Refused != 1 || k.BadSignatures["bad"] != 1 || k.Targets != 2 {
		t.Errorf("%+v", k)
	}
	for p, want := range map[float64]time.Duration{0: time.Second, 0.5: time.Second, 0.99: 3 * time.Second, 1: 3 * time.Second} {
		if got := sandbox.Percentile(late, p); got != want {
			t.Errorf("percentile %v is %v, want %v", p, got, want)
		}
	}
}

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

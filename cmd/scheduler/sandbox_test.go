package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// The command answers as soon as it has said where, leaves a configuration that
// a daemon can load, and ends with its context.
func TestSandboxCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	defer out.Close()
	var complaints bytes.Buffer
	p := &program{stdout: in, stderr: &complaints, now: time.Now}
	status := make(chan int, 1)
	go func() {
		status <- p.run(ctx, []string{"sandbox", "--listen", "127.0.0.1:0", "--data-dir", dir, "--faults", "refuse=1", "--output", "json"})
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var running runningSandbox
	if err != nil || json.Unmarshal(line, &running) != nil || len(running.Apps) != 3 {
		t.Fatalf("%v: %s%s", err, line, complaints.String())
	}
	if text := get(t, running.URL+"/_sandbox/faults"); !strings.Contains(text, `"refuse"`) {
		t.Errorf("faults: %s", text)
	}
	loaded, err := config.Load(running.Config, []string{"HOME=" + dir}, providers())
	if err != nil || len(loaded.Apps) != 3 {
		t.Errorf("its configuration: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "journal.ndjson")); err != nil {
		t.Error(err)
	}
	cancel()
	if got := <-status; got != exitOK {
		t.Errorf("exit status %d: %s", got, complaints.String())
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSandboxCommandRefusesBadFaults(t *testing.T) {
	t.Parallel()
	var complaints bytes.Buffer
	p := &program{stdout: io.Discard, stderr: &complaints, now: time.Now}
	if got := p.run(t.Context(), []string{"sandbox", "--faults", "refuse=2"}); got != exitUsage {
		t.Errorf("exit status %d: %s", got, complaints.String())
	}
}

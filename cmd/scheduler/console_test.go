package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
)

// The console alone, with a login that acts for people: it needs no other one, and
// SIGHUP takes over whom it lets in.
func TestConsoleCommandReloads(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	mei, li := db.Role(t, "mei", `IN ROLE scheduler_reader`), db.Role(t, "li", `IN ROLE scheduler_reader`)
	desk := db.Role(t, "desk", `LOGIN PASSWORD 'secret' NOINHERIT IN ROLE scheduler_front, `+mei+`, `+li)
	dir := t.TempDir()
	file := filepath.Join(dir, "scheduler.yaml")
	configure := func(role string) {
		t.Helper()
		text := fmt.Sprintf("console:\n  sign_in: proxy\n  database_url: %q\n  proxy: {header: X-Forwarded-User, from: [127.0.0.1]}\n  roles: [{value: somebody, role: %s}]\n",
			db.URLAs(t, desk, "secret"), role)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(mei)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	defer out.Close()
	var complaints bytes.Buffer
	p := &program{stdout: in, stderr: &complaints, now: time.Now, environ: []string{"HOME=" + dir}}
	status := make(chan int, 1)
	go func() {
		status <- p.run(ctx, []string{"console", "--config", file, "--listen", "127.0.0.1:0"})
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	address := strings.TrimSpace(strings.TrimPrefix(line, "The console is at "))
	if err != nil || !strings.HasPrefix(address, "http://127.0.0.1:") {
		t.Fatalf("%v: %s%s", err, line, complaints.String())
	}
	page := func() string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/tasks", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-User", "somebody")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
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
	if got := page(); !strings.Contains(got, mei) {
		t.Errorf("somebody is not mei:\n%s", got)
	}
	configure(li)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(page(), li); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("SIGHUP did not change whom the console lets in")
		}
	}
	cancel()
	if got := <-status; got != exitOK {
		t.Errorf("exit status %d: %s", got, complaints.String())
	}
}

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
	var base string
	if err := db.QueryRow(t.Context(), `SELECT current_database()`).Scan(&base); err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, name := range []string{"_desk", "_mei", "_li"} {
		exec(`CREATE ROLE ` + base + name)
		t.Cleanup(func() { exec(`DROP OWNED BY ` + base + name + `; DROP ROLE ` + base + name) })
	}
	exec(fmt.Sprintf(`ALTER ROLE %[1]s_desk LOGIN PASSWORD 'secret' NOINHERIT; GRANT scheduler_front, %[1]s_mei, %[1]s_li TO %[1]s_desk; GRANT scheduler_reader TO %[1]s_mei, %[1]s_li`, base))
	dir := t.TempDir()
	file := filepath.Join(dir, "scheduler.yaml")
	configure := func(role string) {
		t.Helper()
		text := fmt.Sprintf("console:\n  sign_in: proxy\n  database_url: %q\n  proxy: {header: X-Forwarded-User, from: [127.0.0.1]}\n  roles: [{value: somebody, role: %s%s}]\n",
			db.URLAs(t, base+"_desk", "secret"), base, role)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("_mei")
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
	if got := page(); !strings.Contains(got, base+"_mei") {
		t.Errorf("somebody is not mei:\n%s", got)
	}
	configure("_li")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(page(), base+"_li"); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("SIGHUP did not change whom the console lets in")
		}
	}
	cancel()
	if got := <-status; got != exitOK {
		t.Errorf("exit status %d: %s", got, complaints.String())
	}
}

package pgtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pooler runs PgBouncer before the database, with its own defaults but for the
// pool mode, and returns the URL through it. It ends with the test. Where
// PgBouncer is not installed the test fails and says what to install.
func (db *DB) Pooler(tb testing.TB, mode string) (through string) {
	tb.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		tb.Fatal("pgtest: PgBouncer is not installed: install the package pgbouncer (make test does it on Debian as root)")
	}
	c, err := pgx.ParseConfig(db.URL)
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgtest-pooler-") // not the test's own, which another account may not enter
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := freePort(tb)
	password := ""
	if c.Password != "" {
		password = " password='" + strings.ReplaceAll(c.Password, "'", "''") + "'"
	}
	settings := fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = 40
`, c.Database, c.Host, c.Port, c.User, password, port, mode)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // another account has to enter
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil { //nolint:gosec // and to read it
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "-q", file) //nolint:noctx // it ends with the test, in order
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // which it refuses to be; the account is that of the server's socket
		var at syscall.Stat_t
		if err := syscall.Stat(c.Host, &at); err == nil && at.Uid != 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: at.Uid, Gid: at.Gid}
		} else {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		}
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitPort(tb, port)
	u := url.URL{Scheme: "postgres", User: url.User(c.User), Host: fmt.Sprintf("127.0.0.1:%d", port), Path: "/" + c.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func awaitPort(tb testing.TB, port int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("pgtest: PgBouncer does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

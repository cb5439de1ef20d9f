//go:build unix

package embedpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// clusterMajor is the major version that made the cluster, 0 when there is no
// cluster yet. A directory that holds something else is an error: it is not
// ours to touch.
func clusterMajor(data string) (int, error) {
	version, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil {
		return strconv.Atoi(strings.TrimSpace(string(version)))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if len(entries) > 0 {
		return 0, fmt.Errorf("%s is not empty and not a PostgreSQL data directory; move it away", data)
	}
	return 0, nil
}

// createCluster fills data.new and renames it when all is done.
func (s *Server) createCluster(ctx context.Context) error {
	unfinished := s.data + ".new"
	if err := os.RemoveAll(unfinished); err != nil { // only ever our own attempt: we hold the lock
		return err
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return err
	}
	if err := s.account.own(unfinished); err != nil {
		return err
	}
	if err := s.initdb(ctx, unfinished); err != nil {
		return err
	}
	if s.cfg.Database != "" {
		if err := s.single(ctx, unfinished, "CREATE DATABASE "+quoteIdent(s.cfg.Database)); err != nil {
			return err
		}
	}
	if err := os.Remove(s.data); err != nil && !errors.Is(err, fs.ErrNotExist) { // only ever empty: clusterMajor saw it
		return err
	}
	return os.Rename(unfinished, s.data)
}

func (s *Server) initdb(ctx context.Context, data string) error {
	args := []string{
		"-D", data, "-U", superuser, "--encoding=UTF8", "--no-locale",
		// The socket lies in a directory that only the owner and root may enter;
		// the loopback interface is open to every account of the machine.
		"--auth-local=trust", "--auth-host=scram-sha-256",
	}
	if s.cfg.Ephemeral {
		args = append(args, "--no-sync")
	}
	if out, err := s.command(ctx, "initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// ensurePassword sets the superuser's password and keeps it in the password
// file, when that file is missing: at first, or because someone removed it.
func (s *Server) ensurePassword(ctx context.Context) error {
	if s.cfg.Ephemeral { // not on TCP, so there is nothing to guard
		return nil
	}
	if _, err := os.Stat(s.passFile()); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	password := rand.Text()
	if err := s.single(ctx, s.data, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", superuser, password)); err != nil {
		return err
	}
	unfinished := s.passFile() + ".new"
	if err := os.WriteFile(unfinished, []byte("*:*:*:"+superuser+":"+password+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, s.passFile())
}

// passFile has the format of libpq's ~/.pgpass, so that a connection URL can
// name it and need not hold the password.
func (s *Server) passFile() string { return filepath.Join(s.cfg.Dir, "pgpass") }

// single runs one statement in PostgreSQL's single-user mode: no server, no
// client, no port. The statement goes in by a pipe, so that a password in it is
// seen in no process list.
func (s *Server) single(ctx context.Context, data, statement string) error {
	args := []string{"--single", "-D", data, "-c", "log_statement=none", "-c", "log_min_messages=error"}
	if s.cfg.Ephemeral {
		args = append(args, "-F")
	}
	cmd := s.command(ctx, "postgres", append(args, "postgres")...)
	cmd.Stdin = strings.NewReader(statement + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR:") { // its exit status is 0 even then
		verb, _, _ := strings.Cut(statement, " ")
		return fmt.Errorf("postgres --single, %s: %w\n%s", verb, errors.Join(err), firstError(out))
	}
	return nil
}

// firstError picks the error line out of the output, leaving out the STATEMENT
// line, which would show a password.
func firstError(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "ERROR:") || strings.Contains(line, "FATAL:") {
			return strings.TrimSpace(line)
		}
	}
	return "no reason given"
}

// command prepares one of PostgreSQL's programs, run as the server's account.
// It gets none of our environment, which may hold secrets, but what a dynamic
// linker or a wrapper script needs.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin.dir, name), args...)
	cmd.Dir = "/" // our own directory may be closed to the other account
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	for _, key := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"} {
		if value := os.Getenv(key); value != "" {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
	}
	cmd.SysProcAttr = childAttr(s.account)
	return cmd
}

func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

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
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// clusterMajor is the major version that made the cluster, 0 when there is no
// cluster yet. A directory that holds something else is an error, since it is
// not ours.
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
// Of our environment, which may hold secrets, it gets only the variables that a
// dynamic linker or a wrapper script needs.
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

// An account is the user as which the server runs when this process is root. A
// nil account means this process's own user.
type account struct {
	name     string
	uid, gid int
}

// pickAccount returns nil when we are not root. PostgreSQL refuses to run as
// root, and initdb needs an account with a passwd entry. Existing data keep
// their owner.
func pickAccount(data string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil // the account "ourselves"
	}
	info, err := os.Stat(data)
	switch {
	case err == nil:
		return ownerOf(data, info)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody; " +
		"start this as an ordinary user")
}

func ownerOf(data string, info fs.FileInfo) (*account, error) {
	uid, _ := owner(info)
	if uid == 0 {
		return nil, fmt.Errorf("%s belongs to root, and PostgreSQL refuses to run as root; give it to another account: chown -R postgres %s", data, data)
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil, fmt.Errorf("owner of %s: %w", data, err)
	}
	return newAccount(u)
}

func newAccount(u *user.User) (*account, error) {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("account %s: %w", u.Username, err)
	}
	return &account{name: u.Username, uid: uid, gid: gid}, nil
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// credential returns the credential with which a child process runs as the account.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// canReach names the directory on the way to dir that the account may not
// enter, such as /root: initdb would only say "permission denied".
func (a *account) canReach(dir string) error {
	if a == nil {
		return nil
	}
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !a.canEnter(info) {
			return fmt.Errorf("as root the server runs as %s, who may not enter %s (mode %#o); choose a data directory elsewhere, such as /var/lib/scheduler",
				a.name, dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func (a *account) canEnter(info fs.FileInfo) bool {
	uid, gid := owner(info)
	switch {
	case uid == a.uid:
		return info.Mode()&0o100 != 0
	case gid == a.gid:
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

func owner(info fs.FileInfo) (uid, gid int) {
	st := info.Sys().(*syscall.Stat_t) // always so on unix
	return int(st.Uid), int(st.Gid)
}

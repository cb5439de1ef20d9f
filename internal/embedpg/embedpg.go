//go:build unix

// Package embedpg runs a private PostgreSQL server from the binaries that are
// already on the machine. It needs the standard library only.
//
// What it promises:
//
//   - A data directory is never deleted (but for an Ephemeral one, in tests).
//   - initdb fills a directory of another name, which is then renamed: a crash
//     half-way leaves no half cluster.
//   - It works as root, although PostgreSQL refuses to: the server then runs as
//     the owner of the data, else as postgres, else as nobody.
//   - The server ends with its parent, however that ends, SIGKILL included; what
//     was left behind all the same is taken over by the next Start.
//   - It listens on a unix socket in a directory of mode 0700, and on 127.0.0.1
//     with a generated password that is kept in a file of mode 0600.
//   - Data of another major version are refused, with the versions named.
package embedpg

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// superuser is the role made by initdb. The daemon and psql use it: the whole
// server belongs to them.
const superuser = "postgres"

// defaultStartTimeout leaves room for a crash recovery.
const defaultStartTimeout = 60 * time.Second

// Config says where and how a server runs. Only Dir is required.
type Config struct {
	// Dir holds the cluster in data/, the socket, the server's log, the password
	// file and a lock. It is created when it does not exist.
	Dir string
	// BinDir holds postgres and initdb. Empty: the newest installation found, or
	// the one that fits the data.
	BinDir string
	// Port on 127.0.0.1. Zero: the port of the last run when it is still free,
	// else any free one. An Ephemeral server does not listen on TCP.
	Port int
	// Database is created with the cluster. Empty: only "postgres" is there.
	Database string
	// Settings are server parameters that win over the built-in ones.
	Settings map[string]string
	// Ephemeral is for tests: nothing is synced to disk, and Dir is removed when
	// the server has ended, even when its parent was killed.
	Ephemeral bool
	// StartTimeout bounds Start, including crash recovery; zero means a minute.
	StartTimeout time.Duration
}

// A Server is a running PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	data    string // the cluster
	sockets string // the directory of the unix socket
	port    int
	bin     installation
	account *account // nil: the server runs as this process's user
	created bool
	lock    *os.File
	process *process
}

// Start makes the cluster when there is none, takes over a server left behind
// by a killed parent, and returns when the server accepts connections. Errors
// that callers may want to tell apart: ErrNoBinaries, ErrInUse,
// ErrVersionMismatch.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.StartTimeout, defaultStartTimeout))
	defer cancel()
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	s := &Server{cfg: cfg, data: filepath.Join(cfg.Dir, "data")}
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	// Nobody else may enter. Where root's server runs as another account, which
	// must reach its own files, others may pass through but not list anything.
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(s.cfg.Dir, mode); err != nil {
		return err
	}
	if err := os.Chmod(s.cfg.Dir, mode); err != nil { // of an earlier version
		return err
	}
	var err error
	if s.lock, err = takeLock(filepath.Join(s.cfg.Dir, "lock")); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if s.process, err = s.run(); err != nil {
		return err
	}
	if err := s.process.waitReady(ctx, s.data); err != nil {
		_ = s.process.stop()
		return fmt.Errorf("%w; the end of %s:\n%s", err, s.LogFile(), tail(s.LogFile(), 15))
	}
	return nil
}

// prepare makes everything that a server needs: an account, the right binaries,
// a socket directory, the lock on the data, and a cluster.
func (s *Server) prepare(ctx context.Context) error {
	major, err := clusterMajor(s.data)
	if err != nil {
		return err
	}
	if s.account, err = pickAccount(s.data); err != nil {
		return err
	}
	if err := s.account.canReach(s.cfg.Dir); err != nil {
		return err
	}
	if s.bin, err = find(s.cfg.BinDir, major); err != nil {
		return explain(err, s.data)
	}
	if s.sockets, err = socketDir(s.cfg.Dir, s.account); err != nil {
		return err
	}
	if err := evict(ctx, s.data, s.sockets); err != nil {
		return err
	}
	if major == 0 {
		s.created = true
		if err := s.createCluster(ctx); err != nil {
			return err
		}
	}
	if err := s.ensurePassword(ctx); err != nil {
		return err
	}
	s.port, err = s.choosePort(ctx)
	return err
}

// Stop asks for a fast shutdown, then for an immediate one, then kills. It
// returns when the server has ended, and may be called more than once.
func (s *Server) Stop() error {
	defer s.release()
	err := s.process.stop()
	if filepath.Dir(s.sockets) != s.cfg.Dir {
		_ = os.Remove(s.sockets) // a short one under /tmp; the next start makes it anew
	}
	if s.cfg.Ephemeral && err == nil {
		err = os.RemoveAll(s.cfg.Dir)
	}
	return err
}

// Done is closed when the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.process.exited }

// PID is the postmaster's process id.
func (s *Server) PID() int { return s.process.pid }

// Created reports whether this Start made the cluster.
func (s *Server) Created() bool { return s.created }

// Port is the TCP port on 127.0.0.1. An Ephemeral server only uses it to name
// its socket.
func (s *Server) Port() int { return s.port }

// BinDir is where the server's binaries are.
func (s *Server) BinDir() string { return s.bin.dir }

// Version is the server's major version.
func (s *Server) Version() int { return s.bin.major }

// LogFile is the path of the server's own log.
func (s *Server) LogFile() string { return filepath.Join(s.cfg.Dir, "log") }

func (s *Server) release() {
	if s.lock != nil {
		dropLock(s.lock)
	}
}

// dropLock drops an flock of takeLock. Closing the file is not enough: a process that
// is being started also has the file, and so the flock, from its fork to its exec.
func dropLock(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	_ = f.Close()
}

// ErrInUse says that another live process owns the directory.
var ErrInUse = errors.New("the data directory is in use by another process")

// takeLock holds an flock for the life of this process. The kernel drops the
// flock on SIGKILL, so that it cannot go stale as a pid file can.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s (process %s)", ErrInUse, filepath.Dir(path), holder)
	}
	_ = f.Truncate(0)
	_, _ = fmt.Fprint(f, os.Getpid())
	return f, nil
}

// Running returns the URL of a database of the server that runs on dir now, and
// false when none does. It is for other processes of the same user, or of root:
// the connection goes through the unix socket, and needs no password. It starts
// and changes nothing.
func Running(dir, database string) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	// The lines of postmaster.pid: pid, data, start time, port, socket directory,
	// listen address, shared memory, status.
	data := filepath.Join(dir, "data")
	lines := pidFile(data)
	if len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return "", false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || !servesData(pid, data) {
		return "", false
	}
	query := url.Values{"host": {strings.TrimSpace(lines[4])}, "port": {strings.TrimSpace(lines[3])}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String(), true
}

// maxSocketDir leaves room for "/.s.PGSQL.65535" within the 104 bytes that the
// smallest sun_path has (108 on Linux).
const maxSocketDir = 80

// socketDir makes the private directory of the unix socket: inside dir, or with
// a short name under the temporary directory when that path would be too long.
func socketDir(dir string, a *account) (string, error) {
	path := filepath.Join(dir, "sock")
	if len(path) > maxSocketDir {
		sum := sha256.Sum256([]byte(dir))
		path = filepath.Join(os.TempDir(), fmt.Sprintf("embedpg-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:5])))
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(path) // not Stat: under /tmp another user could have made a link
	if err != nil {
		return "", err
	}
	uid, _ := owner(info)
	if ours := uid == os.Geteuid() || (a != nil && uid == a.uid); !info.IsDir() || !ours {
		return "", fmt.Errorf("socket directory %s belongs to someone else; remove it", path)
	}
	if err := a.own(path); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o700)
}

// choosePort keeps the port of the last run while it is free, so that what
// people saved in their tools goes on working.
func (s *Server) choosePort(ctx context.Context) (int, error) {
	if s.cfg.Ephemeral {
		return 5432, nil // only part of the socket's name
	}
	if s.cfg.Port != 0 {
		return s.cfg.Port, nil // when it is taken, the server's own message says so
	}
	file := filepath.Join(s.cfg.Dir, "port")
	content, _ := os.ReadFile(file)
	last, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	for _, port := range []int{last, 0} {
		if free, err := freePort(ctx, port); err == nil {
			return free, os.WriteFile(file, []byte(strconv.Itoa(free)+"\n"), 0o600)
		}
	}
	return 0, errors.New("no free TCP port on 127.0.0.1")
}

// freePort tries one port of 127.0.0.1; zero means any.
func freePort(ctx context.Context, port int) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil // a TCP listener has no other
}

// URL returns a URL that connects to a database through the unix socket. It
// needs no password, since only the server's owner and root may enter the
// socket's directory.
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.sockets}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL returns a URL that connects through 127.0.0.1. It names the password
// file instead of holding the password, so it may be printed. libpq and pgx
// both read that file.
func (s *Server) TCPURL() string {
	query := url.Values{"passfile": {s.passFile()}, "sslmode": {"disable"}}
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path: "/" + s.database(), RawQuery: query.Encode(),
	}
	return u.String()
}

// PSQL returns a command line for a shell of the same user, or of root. It
// holds no secret.
func (s *Server) PSQL() string {
	psql := "psql"
	if _, err := exec.LookPath(psql); err != nil {
		psql = filepath.Join(s.bin.dir, "psql")
	}
	words := []string{psql, "-h", s.sockets, "-p", strconv.Itoa(s.port), "-U", superuser, "-d", s.database()}
	for i, word := range words {
		words[i] = shellQuote(word)
	}
	return strings.Join(words, " ")
}

func (s *Server) database() string {
	if s.cfg.Database == "" {
		return "postgres"
	}
	return s.cfg.Database
}

// shellQuote leaves plain words as they are, for the sake of the reader.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("/._-+:@", r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

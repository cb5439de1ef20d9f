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
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// StartTimeout bounds Start; zero means a minute. Crash recovery counts.
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
	// Nobody else may enter. Only where root's server runs as another account,
	// which must reach its own, may others pass through, and list nothing.
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

// prepare does all that must be so before a server can run: an account, the
// right binaries, a socket directory, nobody else on the data, and a cluster.
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
		_ = s.lock.Close() // which drops the flock
	}
}

// ErrInUse says that another live process owns the directory.
var ErrInUse = errors.New("the data directory is in use by another process")

// takeLock holds an flock for the life of this process. The kernel drops it on
// SIGKILL, so that it cannot go stale as a pid file can.
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

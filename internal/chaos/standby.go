//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/internal/badnet"
	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// A node is one PostgreSQL server of a pair: a primary, or a standby that
// streams from one over a connection that can be cut.
type node struct {
	dir  string
	bin  string
	port string
	cmd  *exec.Cmd
	done chan struct{}
	wire *badnet.Proxy // of a standby, to its primary
}

// credential returns the user as which the servers run. It is not root, which
// PostgreSQL refuses.
func credential() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, errors.Join(err1, err2)
}

// newNode makes a directory and a port for a server.
func newNode(dir string) (*node, error) {
	bin, _, err := embedpg.Find()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	attr, err := credential()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if attr.Credential != nil {
		err = os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid))
	}
	return &node{dir: dir, bin: bin, port: addr[len("127.0.0.1:"):]}, err
}

// tool runs one of PostgreSQL's programs to its end.
func (n *node) tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(n.bin, name), args...)
	attr, err := credential()
	if err != nil {
		return err
	}
	cmd.SysProcAttr, cmd.Dir = attr, n.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// initialise makes a new cluster.
func (n *node) initialise(ctx context.Context) error {
	if err := n.tool(ctx, "initdb", "-D", n.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"); err != nil {
		return err
	}
	settings := "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 80\nshared_buffers = 32MB\nwal_level = replica\n" +
		"max_wal_senders = 10\nhot_standby = on\nwal_keep_size = 256MB\nmax_wal_size = 1GB\nfull_page_writes = on\n"
	f, err := os.OpenFile(filepath.Join(n.dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(settings)
	return errors.Join(err, f.Close())
}

// follow makes a standby of a primary.
func (n *node) follow(ctx context.Context, primary *node) error {
	wire, err := badnet.NewProxy(primary.addr)
	if err != nil {
		return err
	}
	n.wire = wire
	if err := n.tool(ctx, "pg_basebackup", "-D", n.dir, "-h", "127.0.0.1", "-p", primary.port, "-U", "postgres", "-X", "stream", "-c", "fast", "-N"); err != nil {
		return err
	}
	return n.stream()
}

// stream writes that the node is a standby, and from where it streams.
func (n *node) stream() error {
	_, port, err := net.SplitHostPort(n.wire.Addr())
	if err != nil {
		return err
	}
	auto := fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%s user=postgres application_name=standby'\n", port)
	return errors.Join(
		os.WriteFile(filepath.Join(n.dir, "postgresql.auto.conf"), []byte(auto), 0o600), n.own("postgresql.auto.conf"),
		os.WriteFile(filepath.Join(n.dir, "standby.signal"), nil, 0o600), n.own("standby.signal"))
}

func (n *node) own(name string) error {
	attr, err := credential()
	if err != nil || attr.Credential == nil {
		return err
	}
	return os.Chown(filepath.Join(n.dir, name), int(attr.Credential.Uid), int(attr.Credential.Gid))
}

func (n *node) addr() string { return "127.0.0.1:" + n.port }

func (n *node) url(database string) string {
	return "postgres://postgres@" + n.addr() + "/" + database + "?sslmode=disable"
}

// start runs the server and waits until it answers. After a crash the server
// may refuse to start at first, while a process of the last one still has the
// shared memory.
func (n *node) start(ctx context.Context) error {
	var err error
	for range 50 {
		if err = n.launch(ctx); err != nil {
			return err
		}
		if err = n.await(ctx, `SELECT true`); err == nil || !errors.Is(err, errEnded) {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
	}
	return err
}

// errEnded says that the server has ended instead of answering.
var errEnded = errors.New("the server has ended")

func (n *node) launch(ctx context.Context) error {
	attr, err := credential()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	attr.Setpgid = true
	n.cmd = exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(n.bin, "postgres"), "-D", n.dir, "-p", n.port)
	n.cmd.SysProcAttr, n.cmd.Stdout, n.cmd.Stderr = attr, log, log
	n.done = make(chan struct{})
	if err := n.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = n.cmd.Wait()
		close(n.done)
	}()
	return nil
}

// await waits until the server answers the question with true.
func (n *node) await(ctx context.Context, question string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		var yes bool
		conn, err := pgx.Connect(ctx, n.url("postgres"))
		if err == nil {
			err = conn.QueryRow(ctx, question).Scan(&yes)
			_ = conn.Close(ctx)
		}
		if err == nil && yes {
			return nil
		}
		last = err
		select {
		case <-n.done:
			return fmt.Errorf("%s: %w", n.dir, errEnded)
		default:
			sleep(ctx, 30*time.Millisecond)
		}
	}
	return fmt.Errorf("%s: %w: %w", n.dir, ctx.Err(), last)
}

// run executes statements on the server's maintenance database.
func (n *node) run(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, n.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// crash kills the server and all its processes.
func (n *node) crash() {
	if n.cmd == nil {
		return
	}
	pids := children(n.cmd.Process.Pid)
	_ = n.cmd.Process.Kill()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-n.done
}

// remove ends the server and takes its data away.
func (n *node) remove() {
	n.crash()
	if n.wire != nil {
		_ = n.wire.Close()
	}
	_ = os.RemoveAll(n.dir)
}

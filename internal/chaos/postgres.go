//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

// daemonRole is the role as which the daemons connect. It is no superuser, so
// that the harness still gets a connection when the daemons have used up all
// others.
const daemonRole = "chaos"

// A database is the server under test. It keeps its data through every fault.
type database struct {
	dir   string
	clock *clock
	bin   string // its programs
	disk  *disk  // nil: the disk cannot be full

	power sync.Mutex // held while the server is off on purpose

	mu     sync.Mutex
	server *embedpg.Server
	pool   *pgxpool.Pool // the harness's own connections, without a proxy
}

// openDatabase starts PostgreSQL with a durable cluster in dir, with room for a run
// of that length.
func openDatabase(ctx context.Context, dir string, ahead, duration time.Duration) (*database, error) {
	d := &database{dir: dir, clock: newClock(filepath.Dir(dir))}
	programs, _, err := embedpg.Find()
	if err != nil {
		return nil, err
	}
	if d.disk, err = mountDisk(dir, diskSize(duration)); err != nil {
		return nil, err
	}
	if err := d.clock.set(ahead); err != nil {
		return nil, err
	}
	if d.bin, err = d.clock.wrap(filepath.Join(filepath.Dir(dir), "programs"), programs); err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	return d, d.connect(ctx, 30*time.Second)
}

func (d *database) start(ctx context.Context) error {
	s, err := embedpg.Start(ctx, embedpg.Config{
		Dir: d.dir, BinDir: d.bin, Database: "scheduler", StartTimeout: time.Minute, Settings: map[string]string{
			"max_connections": "60", "shared_buffers": "64MB", "log_checkpoints": "off",
			"max_wal_size": "256MB", // the disk is for the record
			// Sessions must end when their clients were cut off.
			"tcp_keepalives_idle": "5",
		},
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server = s
	return nil
}

// connect opens the harness's own connections, on which a statement may take that long.
func (d *database) connect(ctx context.Context, statement time.Duration) error {
	cfg, err := pgxpool.ParseConfig(d.server.URL("scheduler"))
	if err != nil {
		return err
	}
	cfg.MaxConns = 6
	cfg.ConnConfig.ConnectTimeout = 2 * time.Second
	// The harness can write even when the fault is that nobody can.
	cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off"
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(statement.Milliseconds(), 10)
	cfg.ConnConfig.RuntimeParams["application_name"] = "chaos"
	d.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// readAll prepares for statements that read everything a run has stored.
func (d *database) readAll(ctx context.Context) error {
	d.pool.Close()
	return d.connect(ctx, 10*time.Minute)
}

// admit makes the daemons' role, after the schema was migrated.
func (d *database) admit(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, `CREATE ROLE `+daemonRole+` LOGIN PASSWORD '`+daemonRole+`' IN ROLE scheduler_daemon`)
	if err != nil {
		return fmt.Errorf("admit the daemons: %w", err)
	}
	return nil
}

// daemonURL returns the connection string through a proxy.
func daemonURL(addr string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(daemonRole, daemonRole), Host: addr, Path: "/scheduler", RawQuery: "sslmode=disable",
	}
	return u.String()
}

// tcpAddr returns the address at which the server listens for the proxies.
func (d *database) tcpAddr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprintf("127.0.0.1:%d", d.server.Port())
}

// restart stops the server, cleanly or with a crash, and starts it on the same
// data after the pause.
func (d *database) restart(ctx context.Context, crash bool, pause time.Duration) error {
	d.power.Lock()
	defer d.power.Unlock()
	if crash && d.running() {
		_ = syscall.Kill(d.server.PID(), syscall.SIGKILL)
		<-d.server.Done()
	}
	if err := d.server.Stop(); err != nil {
		return err
	}
	sleep(ctx, pause)
	return d.start(ctx)
}

// hang stops the server's processes for a while. Connections are still
// accepted, since the kernel does that, and nothing is answered.
func (d *database) hang(ctx context.Context, pause time.Duration) {
	d.power.Lock()
	defer d.power.Unlock()
	if !d.running() {
		return
	}
	pids := append(children(d.server.PID()), d.server.PID())
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	sleep(ctx, pause)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// readOnly makes the server refuse writes, as a demoted primary does.
func (d *database) readOnly(ctx context.Context, pause time.Duration) error {
	set := func(ctx context.Context, value string) error {
		if _, err := d.pool.Exec(ctx, `ALTER SYSTEM SET default_transaction_read_only = `+value); err != nil {
			return err
		}
		_, err := d.pool.Exec(ctx, `SELECT pg_reload_conf()`)
		return err
	}
	err := set(ctx, "on")
	sleep(ctx, pause)
	return errors.Join(err, set(context.WithoutCancel(ctx), "off"))
}

// exhaust takes every free connection, and every connection that the daemons lose.
func (d *database) exhaust(ctx context.Context, pause time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	cfg, err := pgx.ParseConfig(daemonURL(d.tcpAddr()))
	if err != nil {
		return err
	}
	var held []*pgx.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	cfg.RuntimeParams["application_name"] = "chaos hog"
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			held = append(held, conn)
			continue
		}
		// All connections are in use: end some of the daemons'.
		_, _ = d.pool.Exec(ctx, `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			 WHERE usename = $1 AND application_name <> 'chaos hog' ORDER BY random() LIMIT 3`, daemonRole)
		sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

// fill leaves no room on the disk for a while. The server may end because there
// is no room for its log. It is then started again once there is room.
func (d *database) fill(ctx context.Context, pause time.Duration) error {
	err := d.disk.fill()
	if err == nil {
		sleep(ctx, pause)
	}
	return errors.Join(err, d.disk.clear())
}

// revive starts the server again when it has ended by itself.
func (d *database) revive(ctx context.Context) error {
	d.power.Lock()
	defer d.power.Unlock()
	if d.running() {
		return nil
	}
	_ = d.server.Stop()
	return d.start(ctx)
}

// running says whether the server runs. Its process id is valid only then.
func (d *database) running() bool {
	select {
	case <-d.server.Done():
		return false
	default:
		return true
	}
}

func (d *database) close() error {
	if d.pool != nil {
		d.pool.Close()
	}
	err := d.server.Stop()
	if d.disk != nil {
		err = errors.Join(err, d.disk.unmount())
	}
	return err
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// A disk holds the cluster and nothing else, so that it can be full. It lies in
// memory, and takes only as much as the cluster holds.
type disk struct {
	dir  string
	size uint64 // bytes
}

// diskSize bounds what a run of that length may store. A minute stores about 50 MiB
// with its log ahead: one large audience after another, of which each target has
// three rows.
func diskSize(duration time.Duration) uint64 {
	return 1<<30 + uint64(max(duration, 0)/time.Minute)*(128<<20)
}

// mountDisk mounts a disk. It returns nil where the harness has no right to
// mount. The cluster then lies on the machine's own disk, which is never made
// full.
func mountDisk(dir string, size uint64) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &disk{dir: dir, size: size}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		return nil, nil //nolint:nilerr // no right to mount is no error
	}
	return d, nil
}

// fill leaves no room: it makes the disk as small as its content.
func (d *disk) fill() error {
	for {
		used, err := d.used()
		if err != nil {
			return err
		}
		// EINVAL: the content has grown since.
		if err := d.resize(used); !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
}

// clear gives the disk its size again.
func (d *disk) clear() error { return d.resize(d.size) }

func (d *disk) resize(size uint64) error {
	return syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
}

// used returns how many bytes the disk holds.
func (d *disk) used() (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		return 0, err
	}
	return (s.Blocks - s.Bfree) * uint64(s.Bsize), nil
}

func (d *disk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }

//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// sandboxEnv makes this program be the sandbox, with its files in the directory
// it names.
const sandboxEnv = "BENCH_SANDBOX_DIR"

// serveSandbox is the sandbox's process. It says its URL and ends with its
// standard input, so that it never outlives the suite.
func serveSandbox(dir string) error {
	credentials, err := sandbox.DefaultApps(dir)
	if err != nil {
		return err
	}
	credentials.ForAnyApp()
	s, err := sandbox.New(sandbox.Config{Apps: credentials.Apps, JournalPath: journalPath(dir), JournalDetail: sandbox.Brief})
	if err != nil {
		return err
	}
	signal.Ignore(os.Interrupt) // the suite ends first
	if err := s.Start(context.Background()); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, s.URL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Stop(ctx) // calls cut off by the end of a run are no failure
	return nil
}

func journalPath(dir string) string { return filepath.Join(dir, "journal.ndjson") }

// A box is the sandbox as its clients see it.
type box struct {
	dir, url string
	options  map[string]string
	cmd      *exec.Cmd
	leash    io.Closer
}

func startSandbox(ctx context.Context, dir string) (*box, error) {
	x := &box{dir: filepath.Join(dir, "sandbox")}
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return nil, err
	}
	credentials, err := sandbox.DefaultApps(x.dir)
	if err != nil {
		return nil, err
	}
	x.options = credentials.Settings[0].Options // the first is mPaaS's
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	x.cmd = exec.CommandContext(ctx, self)
	x.cmd.Env, x.cmd.Stderr = append(os.Environ(), sandboxEnv+"="+x.dir), os.Stderr
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if x.leash, err = x.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := x.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := x.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	x.url = strings.TrimSpace(line)
	return x, err
}

func (x *box) stop() {
	_ = x.leash.Close()
	_ = x.cmd.Wait()
}

// settings are those of an mPaaS app of the sandbox, which takes any app.
func (x *box) settings(appID string) dispatch.Settings {
	return dispatch.Settings{AppID: appID, WorkspaceID: workspace, Endpoint: x.url, Options: x.options}
}

// mark is a place in the journal.
func (x *box) mark() int64 {
	info, err := os.Stat(journalPath(x.dir))
	if err != nil {
		return 0
	}
	return info.Size()
}

// An arrival is a request that the sandbox took.
type arrival struct {
	due, at time.Time
}

// arrivals reads the journal from a mark on. The due time is part of the
// message's key.
func (x *box) arrivals(from int64) ([]arrival, error) {
	f, err := os.Open(journalPath(x.dir))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	lines, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var out []arrival
	for line := range bytes.Lines(lines) {
		var c struct {
			ReceivedAt time.Time `json:"received_at"`
			Outcome    string    `json:"outcome"`
			MsgKeys    []string  `json:"msg_keys"`
		}
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		if c.Outcome != string(sandbox.Accepted) || len(c.MsgKeys) == 0 {
			return nil, fmt.Errorf("the sandbox refused a call: %s", line)
		}
		due, err := dueOf(c.MsgKeys[0])
		if err != nil {
			return nil, err
		}
		out = append(out, arrival{due, c.ReceivedAt})
	}
	return out, nil
}

// dueOf reads the occurrence from a key as engine.Keys writes it.
func dueOf(key string) (time.Time, error) {
	fields := strings.Split(key, "-")
	if len(fields) < 2 {
		return time.Time{}, errors.New("message key without an occurrence: " + key)
	}
	micro, err := strconv.ParseInt(fields[1], 36, 64)
	return time.UnixMicro(micro), err
}

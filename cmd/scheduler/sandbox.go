package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

const sandboxHelp = `Answers as mPaaS, Alipay and a webhook receiver do, on loopback: it verifies every
signature, enforces the documented limits, and writes down each call as one JSON
line, which an accepted push's answer waits for. Nothing is really pushed.

It has one app of each provider. With --data-dir their keys are kept there, beside
scheduler.yaml, a configuration that makes a daemon push to this sandbox.

--faults makes calls go wrong. Faults are separated by commas:
  throttle=0.1               refuse one call in ten for being too many
  refuse=0.1                 a permanent business error
  error=0.05                 the provider's own system error
  html=0.01                  200 with a page, as a proxy may (webhook: 502)
  status=503:0.1             a bare HTTP status
  hang=0.01 hang_after=0.01  no answer; the latter has accepted the push
  cut_before=1 cut_after=1   the connection is reset; the latter has accepted
  unsigned=1 forged=1        accepted, the answer badly signed (Alipay)
  delay=50ms delay=1s:0.1    held back before being accepted
A fault may end after N calls, "cut_after=1*3", and be for one API, provider or app:
"hang=1@alipay.label_send", "throttle=1@mpaas", "refuse=1@app:sandbox-mpaas".

While it runs, GET URL/_sandbox/ says how to read the counters and the journal and
how to change the faults.`

const sandboxExample = `  # On a free port, in memory; Ctrl-C ends it
  scheduler sandbox --listen 127.0.0.1:0

  # A daemon that pushes to it
  scheduler sandbox --data-dir /tmp/sandbox &
  scheduler serve --config /tmp/sandbox/scheduler.yaml

  # One answer in a hundred is lost after the push was accepted, repeatably
  scheduler sandbox --journal calls.ndjson --faults cut_after=0.01,delay=20ms --seed 7

  # What it has seen
  curl -s http://127.0.0.1:8090/_sandbox/stats`

// sandboxStopTimeout bounds how long a stop waits for calls in flight.
const sandboxStopTimeout = 5 * time.Second

type sandboxFlags struct {
	listen, journal, detail, faults, dataDir string

	seed   uint64
	anyApp bool
	quota  int
}

func newSandboxCommand(p *program) *cobra.Command {
	var flags sandboxFlags
	c := &cobra.Command{
		Use:     "sandbox",
		Short:   "Stand in for the push APIs on loopback",
		Long:    sandboxHelp,
		Example: sandboxExample,
		Args:    cobra.NoArgs,
	}
	set := c.Flags()
	detail := &choice{value: "full", allowed: []string{"full", "brief", "off"}}
	set.StringVar(&flags.listen, "listen", "127.0.0.1:8090", "`ADDRESS` to answer on; port 0 is any free one")
	set.StringVar(&flags.journal, "journal", "", "append calls to `FILE` (default journal.ndjson in --data-dir, else memory only)")
	set.Var(detail, "journal-detail", "how much of each call is written")
	set.StringVar(&flags.faults, "faults", "", "`FAULTS` in force from the start")
	set.Uint64Var(&flags.seed, "seed", 0, "`N` that makes the faults repeatable")
	set.StringVar(&flags.dataDir, "data-dir", "", "keep the keys in `DIR` (default: new keys at each start)")
	set.BoolVar(&flags.anyApp, "any-app", false, "let the keys be good for every app id")
	set.IntVar(&flags.quota, "weekly-quota", 5, "let an app make `N` label, total and group sends each in 7 days; -1 is any number")
	_ = c.MarkFlagDirname("data-dir")
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		flags.detail = detail.value
		return p.sandbox(c.Context(), flags, output.json())
	}
	return c
}

// sandbox runs until ctx ends or a signal asks it to stop.
func (p *program) sandbox(ctx context.Context, flags sandboxFlags, asJSON bool) error {
	faults, err := sandbox.ParseFaults(flags.faults)
	if err != nil {
		return usageError(err.Error())
	}
	credentials, err := sandbox.DefaultApps(flags.dataDir)
	if err != nil {
		return err
	}
	if flags.anyApp {
		credentials.ForAnyApp()
	}
	if flags.journal == "" && flags.dataDir != "" {
		flags.journal = filepath.Join(flags.dataDir, "journal.ndjson")
	}
	sb, err := sandbox.New(sandbox.Config{
		Listen: flags.listen, Apps: credentials.Apps, JournalPath: flags.journal, JournalDetail: sandbox.Detail(flags.detail),
		Faults: faults, Seed: flags.seed, WeeklyQuota: flags.quota, Now: p.now,
		Logger: slog.New(slog.NewTextHandler(p.stderr, nil)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	err = p.runSandbox(ctx, sb, credentials, flags, asJSON)
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), sandboxStopTimeout)
	defer cancelStop()
	if stopErr := sb.Stop(stopping); err == nil {
		err = stopErr
	}
	return err
}

func (p *program) runSandbox(
	ctx context.Context, sb *sandbox.Sandbox, credentials *sandbox.Credentials, flags sandboxFlags, asJSON bool,
) error {
	if err := sb.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	config := ""
	if flags.dataDir != "" {
		config = filepath.Join(flags.dataDir, "scheduler.yaml")
		if err := os.WriteFile(config, []byte(credentials.ConfigYAML(sb.URL())), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	if err := p.announceSandbox(sb, credentials, flags.journal, config, asJSON); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// A runningSandbox holds what the command prints when the sandbox accepts calls.
type runningSandbox struct {
	URL     string       `json:"url"`
	Journal string       `json:"journal,omitempty"`
	Config  string       `json:"config,omitempty"`
	Apps    []sandboxApp `json:"apps"`
}

type sandboxApp struct {
	Provider    string `json:"provider"`
	AppID       string `json:"app_id"`
	WorkspaceID string `json:"workspace_id"`
	Endpoint    string `json:"endpoint"`
}

func (p *program) announceSandbox(
	sb *sandbox.Sandbox, credentials *sandbox.Credentials, journal, config string, asJSON bool,
) error {
	running := runningSandbox{URL: sb.URL(), Journal: journal, Config: config}
	apps := table{header: []string{"PROVIDER", "APP_ID", "WORKSPACE_ID", "ENDPOINT"}}
	for _, s := range credentials.For(sb.URL()) {
		running.Apps = append(running.Apps, sandboxApp{s.Provider, s.AppID, s.WorkspaceID, s.Endpoint})
		apps.add(s.Provider, s.AppID, s.WorkspaceID, s.Endpoint)
	}
	if asJSON {
		return p.writeJSON(running)
	}
	text := "The sandbox answers at " + sb.URL() + " until Ctrl-C.\n"
	if journal != "" {
		text += "Journal: " + journal + "\n"
	}
	if config != "" {
		text += "Push to it: scheduler serve --config " + config + "\n"
	}
	if err := p.print(text + "\n"); err != nil {
		return err
	}
	return apps.write(p)
}

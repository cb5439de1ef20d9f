// Command scheduler pushes campaigns, which are inserted by SQL, at their second
// through mPaaS, Alipay and webhooks.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a machine without zone files knows every zone too

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

func main() {
	p := &program{environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, now: time.Now}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}

// A program is one run of the command line: its inputs, and the state that all
// commands share. It uses no other state of the process, so tests can run several at
// once.
type program struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time

	configPath string // --config, else SCHEDULER_CONFIG
	running    bool   // a command's own code has begun
}

// run runs the command line and returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	root := newRootCommand(p)
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	return p.report(root.ExecuteContext(ctx))
}

// loadConfig reads the configuration that --config names, or none.
func (p *program) loadConfig() (*config.Config, error) {
	return config.Load(p.configPath, p.environ, providers())
}

// getenv returns the last value of the variable, as os.Getenv would.
func (p *program) getenv(name string) string {
	for _, pair := range slices.Backward(p.environ) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

const rootHelp = `scheduler pushes campaigns at their second. Campaigns are rows of the table
scheduler.campaigns in PostgreSQL: insert one with any SQL client, and a running
"scheduler serve" plans its occurrences, pushes them through mPaaS or Alipay, and
records for each exactly one decision.

Configuration comes from the file that --config or SCHEDULER_CONFIG names, and
from the environment, which wins. Both may be missing.

Exit status:
  0  done
  1  it failed, or it found problems
  2  the command line is wrong`

const rootExample = `  scheduler serve
  scheduler preview --strategy-type 1 --strategy-content '{"fixedTime":'$(date -d '+1 hour' +%s)000'}'
  scheduler migrate up --database-url postgres://localhost/push`

func newRootCommand(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:           "scheduler",
		Short:         "Push campaigns at their second",
		Long:          rootHelp,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&p.configPath, "config", p.getenv("SCHEDULER_CONFIG"), "configuration `FILE` (default $SCHEDULER_CONFIG)")
	root.PersistentFlags().Lookup("config").DefValue = ""
	_ = root.MarkPersistentFlagFilename("config", "yaml", "yml")
	root.AddCommand(commands(p)...)
	p.watch(root)
	return root
}

// commands lists the program's commands. Each lives in the file of its name.
func commands(p *program) []*cobra.Command {
	return []*cobra.Command{
		newAPICommand(p),
		newCalendarsCommand(p),
		newCampaignsCommand(p),
		newConsoleCommand(p),
		newDoctorCommand(p),
		newForecastCommand(p),
		newHoldCommand(p),
		newMigrateCommand(p),
		newServeCommand(p),
		newPreviewCommand(p),
		newReleaseCommand(p),
		newPruneCommand(p),
		newSandboxCommand(p),
		newTasksCommand(p),
		newValidateCommand(p),
		newVerifyCommand(p),
		newVersionCommand(p),
	}
}

// watch records that a command's own code has started. An error before that is an
// error of the command line; cobra itself does not tell the two apart.
func (p *program) watch(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			p.running = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		p.watch(sub)
	}
}

// chooseSubcommand is the RunE of commands that only group others.
func chooseSubcommand(c *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usageError("say which: " + strings.Join(names, ", "))
}

// The exit statuses, as the root command's help documents them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// errReported ends a command with exitFailed. The command has already written the
// reason to standard output.
var errReported = errors.New("problems were found")

// A usageError is an error in the command line, such as an unknown flag.
type usageError string

func (e usageError) Error() string { return string(e) }

// report prints the error once, to standard error, and returns the exit status.
func (p *program) report(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errReported) {
		return exitFailed
	}
	if _, usage := errors.AsType[usageError](err); usage || !p.running {
		p.complain(err.Error() + "\nRun with --help to see what is possible.")
		return exitUsage
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		p.complain(fmt.Sprintf("the configuration has %s:\n%s", count(len(problems), "problem"), problems))
		return exitFailed
	}
	if store.IsDenied(err) {
		p.complain(err.Error() + "\nThe database login has not the right: an operator's is in scheduler_admin, a daemon's in scheduler_daemon.")
		return exitFailed
	}
	p.complain(err.Error())
	return exitFailed
}

func (p *program) complain(text string) {
	text = strings.ReplaceAll(text, "\t", "  ") // the driver lists the hosts that it tried
	_, _ = fmt.Fprintln(p.stderr, "scheduler: "+plain.Text(strings.TrimSpace(text)))
}

// count writes a number with its noun: "1 problem", "2 problems".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// version is set by the linker for releases. Other builds have the version that the
// Go tool records.
var version string

// A build describes the sources from which this binary was built.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Time     string `json:"time"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	if version != "" {
		b.Version = version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String writes the build on one line.
func (b build) String() string {
	parts := []string{"scheduler " + b.Version}
	if b.Revision != "" {
		parts = append(parts, "revision "+b.Revision)
	}
	if b.Time != "" {
		parts = append(parts, "of "+b.Time)
	}
	if b.Modified {
		parts = append(parts, "with local changes")
	}
	return strings.Join(append(parts, fmt.Sprintf("(%s, %s)", b.Go, b.Platform)), " ")
}

func newVersionCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print what this binary was built from",
		Example: "  scheduler version --output json",
		Args:    cobra.NoArgs,
	}
	output := addOutputFlag(c)
	c.RunE = func(*cobra.Command, []string) error {
		if output.json() {
			return p.writeJSON(readBuild())
		}
		return p.print(readBuild().String() + "\n")
	}
	return c
}

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/internal/plain"
)

const validateHelp = `Judges campaigns as the database and the daemon would, without storing or
sending anything: the strategy's rules, and the request by the rules of its push
API. Every problem is shown, not the first.

FILE holds one JSON object per campaign, one below the other, with the columns of
scheduler.campaigns as keys; "-" is standard input. "stored_targets": true says
that the targets will stand in scheduler.campaign_targets. With --config, the
app must be one of the file's, and its zone and rules count.

Exit status 1 means that a campaign would be refused.`

const validateExample = `  scheduler validate campaign.json
  echo '{"name":"spring","app_id":"2021000000000001","channel":"alipay.label_send","request":{}}' |
    scheduler validate - --output json`

func newValidateCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "validate FILE",
		Short:   "Judge campaigns without inserting them",
		Long:    validateHelp,
		Example: validateExample,
		Args:    cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		return p.validate(args[0], output.json())
	}
	return c
}

// A verdict holds what validate prints about one campaign. The form of its JSON is a
// promise to other programs.
type verdict struct {
	Line     int       `json:"line"` // where the campaign begins, from 1
	Name     string    `json:"name"`
	Problems []problem `json:"problems"`
	Warnings []string  `json:"warnings"`
}

func (p *program) validate(file string, asJSON bool) error {
	text, err := p.readInput(file)
	if err != nil {
		return err
	}
	apps, err := p.knownApps()
	if err != nil {
		return err
	}
	verdicts := []verdict{}
	for at, raw := range judge.Split(text) {
		verdicts = append(verdicts, p.judge(at, raw, apps))
	}
	if len(verdicts) == 0 {
		return errors.New("there is no campaign in " + file)
	}
	return p.printVerdicts(verdicts, asJSON)
}

// maxInput bounds the input of validate, in bytes: about ten thousand campaigns.
const maxInput = 64 << 20

func (p *program) readInput(file string) ([]byte, error) {
	in := p.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(bufio.NewReader(in), maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("%s is larger than %d bytes; give it in parts", file, maxInput)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// knownApps returns the apps of the configuration. It returns nil when there is no
// configuration or it names no apps; every app is then assumed to exist.
func (p *program) knownApps() ([]config.App, error) {
	if p.configPath == "" {
		return nil, nil
	}
	c, err := p.loadConfig()
	if err != nil {
		return nil, err
	}
	return c.Apps, nil
}

// judge applies the rules of the INSERT, and then those of the daemon, to one
// campaign.
func (p *program) judge(at int, raw []byte, apps []config.App) verdict {
	c, problems := judge.Read(raw)
	v := verdict{Line: at, Problems: problems, Warnings: []string{}}
	if c == nil {
		return v
	}
	v.Name = c.Name
	app, found := c.AppAmong(apps)
	problems = append(problems, found...)
	said := judge.Judge{Adapters: adapters()}.Campaign(c, app, p.now())
	v.Warnings = said.Warnings
	v.Problems = judge.OnePerField(append(problems, said.Problems...))
	return v
}

func (p *program) printVerdicts(verdicts []verdict, asJSON bool) error {
	bad := 0
	var b strings.Builder
	for _, v := range verdicts {
		if len(v.Problems) > 0 {
			bad++
		}
		fmt.Fprintf(&b, "line %d, %s: ", v.Line, cmp.Or(plain.Line(v.Name), "(no name)"))
		if len(v.Problems) == 0 {
			b.WriteString("ok\n")
		} else {
			fmt.Fprintf(&b, "%s\n%s\n", count(len(v.Problems), "problem"), list(v.Problems, "  "))
		}
		for _, w := range v.Warnings {
			b.WriteString("  warning: " + plain.Line(w) + "\n")
		}
	}
	var err error
	if asJSON {
		err = p.writeJSON(map[string][]verdict{"campaigns": verdicts})
	} else {
		err = p.print(b.String())
	}
	if err == nil && bad > 0 {
		err = errReported
	}
	return err
}

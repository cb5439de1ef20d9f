package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/app"
	"github.com/campaign-scheduler/scheduler/internal/doctor"
	"github.com/campaign-scheduler/scheduler/internal/plain"
)

const doctorHelp = `Examines the installation and says what to do: the configuration, the database
and its schema, the difference of the clocks, each app's credentials and the way
to its push API (a connection only, nothing is sent), apps with campaigns but no
credentials, a hold of the restore guard, tasks of unknown outcome, and with
console.sign_in: oidc or proxy the ways into the console.

` + databaseHelp + `

Exit status 1 means that something is wrong; what only wants attention is 0.`

func newDoctorCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Examine the installation and say what to do",
		Long:    doctorHelp,
		Example: "  scheduler doctor\n  scheduler --config /etc/scheduler.yaml doctor --output json",
		Args:    cobra.NoArgs,
	}
	database, output := addDatabaseFlag(c), addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return p.doctor(c.Context(), database, output.json())
	}
	return c
}

func (p *program) doctor(ctx context.Context, database *databaseFlag, asJSON bool) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err // with every problem and its line
	}
	url, err := database.find(cfg)
	if err != nil && !errors.Is(err, app.ErrNoDatabase) {
		return err
	}
	checks := doctor.Examine(ctx, doctor.Options{Config: cfg, Adapters: adapters(), DatabaseURL: url, Now: p.now})
	if asJSON {
		err = p.writeJSON(map[string][]doctor.Check{"checks": checks})
	} else {
		err = p.printChecks(checks)
	}
	for _, c := range checks {
		if c.Grade == doctor.Wrong && err == nil {
			err = errReported
		}
	}
	return err
}

func (p *program) printChecks(checks []doctor.Check) error {
	var b strings.Builder
	for _, c := range checks {
		grade := fmt.Sprintf("%-9s", c.Grade)
		if c.Grade != doctor.OK {
			grade = p.bold(grade)
		}
		b.WriteString(grade + "  " + plain.Line(c.Name) + ": " + plain.Line(c.Found) + "\n")
		if c.ToDo != "" {
			b.WriteString("           → " + plain.Line(c.ToDo) + "\n")
		}
	}
	return p.printStyled(b.String())
}

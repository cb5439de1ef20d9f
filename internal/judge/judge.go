// Package judge checks a campaign before it is stored, by the same rules as the
// database and the daemon: the strategy's rules, and the rules that the push API has
// for the request. It reads no clock and no database, and changes nothing.
package judge

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A Problem is one reason why a campaign would be refused. The JSON is a
// promise to other programs.
type Problem struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// A Verdict holds the problems of a campaign and its schedule. Schedule is the zero
// Schedule if one of the problems is in the strategy.
type Verdict struct {
	Problems []Problem
	Warnings []string
	Spec     strategy.Spec
	Schedule strategy.Schedule
	Spread   time.Duration // of a task's deliveries; zero: none, or a problem
}

// A Judge knows the adapters whose rules count. It is safe for concurrent use.
type Judge struct{ Adapters []dispatch.Adapter }

// Campaign judges a campaign that is written at the given instant for an app.
// Pass the app's settings; its zero Provider fits every channel.
func (j Judge) Campaign(c *Campaign, app config.App, now time.Time) Verdict {
	spec, problems := c.spec(app, now)
	schedule, warnings, err := strategy.Parse(spec)
	spread, ofSpread := Spread(c.Spread, spec.CatchUpWindow)
	v := Verdict{Spec: spec, Schedule: schedule, Spread: spread, Problems: slices.Concat(problems, OfStrategy(err), ofSpread), Warnings: []string{}}
	for _, w := range warnings {
		v.Warnings = append(v.Warnings, w.String())
	}
	if c.Calendar != "" && c.Closed == nil && spec.Type != strategy.Now {
		v.Warnings = append(v.Warnings, "calendar is not asked here: only the database knows which days it closes")
	}
	v.Problems = append(v.Problems, j.request(c, app)...)
	return v
}

// OfStrategy turns the error of strategy.Parse into problems; nil gives none.
func OfStrategy(err error) []Problem {
	if err == nil {
		return nil
	}
	found, ok := errors.AsType[strategy.Problems](err)
	if !ok {
		return []Problem{{"strategy_content", err.Error()}}
	}
	problems := make([]Problem, 0, len(found))
	for _, f := range found {
		message := f.Message
		if f.Value != "" {
			message += "; it is " + f.Value
		}
		if f.Hint != "" {
			message += "; " + f.Hint
		}
		problems = append(problems, Problem{Field: f.Field, Message: message})
	}
	return problems
}

// Channel returns the adapter of a channel, or nil when there is none. names are the
// names of all channels, for the message.
func (j Judge) Channel(name string) (adapter dispatch.Adapter, names []string) {
	for _, a := range j.Adapters {
		for _, c := range a.Channels() {
			if c.Name == name {
				adapter = a
			}
			names = append(names, c.Name)
		}
	}
	return adapter, names
}

// request lets the adapter of the campaign's channel judge its request.
func (j Judge) request(c *Campaign, app config.App) []Problem {
	adapter, channels := j.Channel(c.Channel)
	if adapter == nil {
		return []Problem{{"channel", fmt.Sprintf("must be one of %s, not %q", strings.Join(channels, ", "), c.Channel)}}
	}
	var problems []Problem
	if app.Provider != "" && app.Provider != adapter.Provider() {
		problems = append(problems, Problem{"channel", fmt.Sprintf("%s does not fit the app's provider, %s", c.Channel, app.Provider)})
	}
	_, found := adapter.Compile(dispatch.Request{
		Channel: c.Channel, TaskName: c.Name, Body: c.Request, StrategyType: c.StrategyType,
		StoredTargets: c.StoredTargets || c.AudienceView != "", AllowAudienceSchedules: app.AllowAudienceSchedules, Region: app.Region(),
	})
	for _, f := range found {
		problems = append(problems, Problem{cmp.Or(f.Field, "request"), f.Text})
	}
	return problems
}

// OnePerField keeps the first problem of each column, and every problem of the
// request. Later problems of a column often follow from the first: a window that is
// not an interval need not be reported as too short.
func OnePerField(problems []Problem) []Problem {
	columns := map[string]bool{}
	return slices.DeleteFunc(append([]Problem{}, problems...), func(p Problem) bool {
		isColumn := slices.Contains(keys, p.Field) && p.Field != "request"
		again := columns[p.Field] && isColumn
		columns[p.Field] = true
		return again
	})
}

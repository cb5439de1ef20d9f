package judge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// A Campaign is a row of scheduler.campaigns as a JSON object, with the
// defaults of the table.
type Campaign struct {
	Name            string          `json:"name"`
	AppID           string          `json:"app_id"`
	WorkspaceID     string          `json:"workspace_id"`
	Channel         string          `json:"channel"`
	StrategyType    int             `json:"strategy_type"`
	StrategyContent json.RawMessage `json:"strategy_content"`
	Request         json.RawMessage `json:"request"`
	TimeZone        string          `json:"time_zone"`
	MisfirePolicy   string          `json:"misfire_policy"`
	CatchUpWindow   string          `json:"catch_up_window"`
	Spread          string          `json:"spread"`
	ShortMonth      string          `json:"short_month_policy"`
	DSTGap          string          `json:"dst_gap_policy"`
	Times           []string        `json:"times"`
	Calendar        string          `json:"calendar"`
	CalendarPolicy  string          `json:"calendar_policy"`
	QuietPolicy     string          `json:"quiet_policy"`
	ResendUnknown   bool            `json:"resend_unknown"`
	AudienceView    string          `json:"audience_view"`
	StoredTargets   bool            `json:"stored_targets"`
	Status          string          `json:"status"`

	// Closed is when the calendar is closed, in the form of strategy.Spec; nil: not
	// known, and the strategy is judged without the calendar.
	Closed []time.Time
}

// keys are the keys that a campaign may have.
var keys = func() []string {
	var names []string
	for field := range reflect.TypeFor[Campaign]().Fields() {
		if key := field.Tag.Get("json"); key != "" {
			names = append(names, key)
		}
	}
	return names
}()

// Split yields the JSON values of a text, each with the number of its first line,
// from 1. The text after a syntax error is yielded as one more value. Read reports
// that value as a problem.
func Split(text []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		for {
			var raw json.RawMessage
			start := decoder.InputOffset()
			err := decoder.Decode(&raw)
			if errors.Is(err, io.EOF) {
				return
			}
			start += int64(len(text[start:]) - len(bytes.TrimLeft(text[start:], " \t\r\n")))
			if err != nil {
				raw = text[start:]
			}
			if !yield(1+bytes.Count(text[:start], []byte("\n")), raw) || err != nil {
				return
			}
		}
	}
}

// Read reads one object. The campaign is nil when the text is not an object. A value
// of the wrong type and an unknown key are problems of that key; the other keys are
// still read.
func Read(raw []byte) (*Campaign, []Problem) {
	c := &Campaign{
		Request:       json.RawMessage("{}"),
		MisfirePolicy: "latest", CatchUpWindow: "1 hour", Status: "active",
		ShortMonth: string(strategy.ShortMonthSkip), DSTGap: string(strategy.DSTGapShift),
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil || given == nil {
		return nil, []Problem{{"campaign", "must be a JSON object with the columns of scheduler.campaigns as keys"}}
	}
	var problems []Problem
	for i, field := range fields(c) {
		value, ok := given[keys[i]]
		delete(given, keys[i])
		if !ok || string(value) == "null" {
			continue
		}
		if err := json.Unmarshal(value, field.Addr().Interface()); err != nil {
			problems = append(problems, Problem{keys[i], "must be " + kinds[field.Kind()]})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		problems = append(problems, Problem{key, "is no column of scheduler.campaigns; the columns are " + strings.Join(keys, ", ")})
	}
	return c, append(problems, c.columns()...)
}

// kinds names the values that a column takes.
var kinds = map[reflect.Kind]string{
	reflect.String: "a string", reflect.Int: "a whole number", reflect.Bool: "true or false", reflect.Slice: "an array of strings",
}

// fields yields the fields that keys names, in that order.
func fields(c *Campaign) iter.Seq2[int, reflect.Value] {
	return func(yield func(int, reflect.Value) bool) {
		for i := range keys {
			if !yield(i, reflect.ValueOf(c).Elem().Field(i)) {
				return
			}
		}
	}
}

// columns checks the rules that the constraints of the table check.
func (c *Campaign) columns() []Problem {
	var problems []Problem
	for _, required := range []struct{ field, value string }{{"name", c.Name}, {"app_id", c.AppID}, {"channel", c.Channel}} {
		if required.value == "" {
			problems = append(problems, Problem{required.field, "is required"})
		}
	}
	if words := []string{"latest", "all", "skip"}; !slices.Contains(words, c.MisfirePolicy) {
		problems = append(problems, Problem{"misfire_policy", fmt.Sprintf("must be latest, all or skip, not %q", c.MisfirePolicy)})
	}
	if words := []string{"", "hold", "skip", "ignore"}; !slices.Contains(words, c.QuietPolicy) {
		problems = append(problems, Problem{"quiet_policy", fmt.Sprintf("must be hold, skip or ignore, not %q", c.QuietPolicy)})
	}
	if words := []string{"active", "paused", "cancelled", "finished", "rejected"}; !slices.Contains(words, c.Status) {
		problems = append(problems, Problem{"status", fmt.Sprintf("must be one of %s, not %q", strings.Join(words, ", "), c.Status)})
	}
	return problems
}

// AppAmong returns the campaign's app. If apps is empty, the app is assumed to exist
// and to have the defaults.
func (c *Campaign) AppAmong(apps []config.App) (config.App, []Problem) {
	for _, app := range apps {
		if app.AppID == c.AppID && app.WorkspaceID == c.WorkspaceID {
			return app, nil
		}
	}
	app := config.App{TimeZone: "Asia/Shanghai"}
	if len(apps) == 0 {
		return app, nil
	}
	return app, []Problem{{"app_id", fmt.Sprintf("%q with the workspace_id %q is no app of the configuration", c.AppID, c.WorkspaceID)}}
}

// spec returns the campaign's strategy as if it were written now.
func (c *Campaign) spec(app config.App, now time.Time) (strategy.Spec, []Problem) {
	spec := strategy.Spec{
		Type: strategy.Type(c.StrategyType), Content: c.StrategyContent, Zone: c.TimeZone, CatchUpWindow: time.Hour,
		ShortMonth: strategy.ShortMonthPolicy(c.ShortMonth), DSTGap: strategy.DSTGapPolicy(c.DSTGap), Times: c.Times, WrittenAt: now,
		Calendar: c.Calendar, CalendarPolicy: strategy.CalendarPolicy(c.CalendarPolicy), Closed: c.Closed,
	}
	if spec.Zone == "" {
		spec.Zone = app.TimeZone
	}
	window, err := Interval(c.CatchUpWindow)
	if err != nil {
		return spec, []Problem{{"catch_up_window", err.Error()}}
	}
	spec.CatchUpWindow = window
	return spec, nil
}

// The shortest and the longest spread of a task's deliveries.
const (
	MinSpread = time.Second
	MaxSpread = 24 * time.Hour
)

// Spread reads a campaign's spread and judges it beside its catch-up window, by the
// rules of the database. An empty text means no spread, which is zero.
func Spread(text string, window time.Duration) (time.Duration, []Problem) {
	if text == "" {
		return 0, nil
	}
	spread, err := Interval(text)
	switch {
	case err != nil:
		return 0, []Problem{{"spread", err.Error()}}
	case spread < MinSpread || spread > MaxSpread:
		return 0, []Problem{{"spread", "must be from 1 second to 24 hours; write an interval such as '30 minutes', or none for all deliveries at once"}}
	case spread > window:
		return 0, []Problem{{"spread", "must not be longer than catch_up_window; deliveries after the end of the window would be missed: make the spread shorter or catch_up_window longer"}}
	}
	return spread, nil
}

// units are the units of an interval as psql prints and reads them. Months are left
// out, since a month has no fixed length.
var units = map[string]time.Duration{
	"second": time.Second, "sec": time.Second,
	"minute": time.Minute, "min": time.Minute,
	"hour": time.Hour,
	"day":  24 * time.Hour,
	"week": 7 * 24 * time.Hour,
}

// Interval reads a duration as Go writes it (1h30m) or as SQL does: 1 hour
// 30 minutes, 2 days, 01:30:00.
func Interval(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	var total time.Duration
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		if d, ok := clock(words[i]); ok {
			total += d
			continue
		}
		n, err := strconv.ParseUint(words[i], 10, 15)
		if err != nil || i+1 == len(words) {
			return 0, errNotInterval(text)
		}
		i++
		unit, ok := units[strings.TrimSuffix(words[i], "s")]
		if !ok {
			return 0, errNotInterval(text)
		}
		if n > uint64(strategy.MaxCatchUpWindow/unit) || total > strategy.MaxCatchUpWindow {
			return strategy.MaxCatchUpWindow + 1, nil // longer than any bound, and soon too long for an int64
		}
		total += time.Duration(n) * unit
	}
	if len(words) == 0 {
		return 0, errNotInterval(text)
	}
	return total, nil
}

// clock reads HH:MM:SS, the form that SQL prints hours in.
func clock(word string) (time.Duration, bool) {
	parts := strings.Split(word, ":")
	if len(parts) != 3 {
		return 0, false
	}
	var total time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * unit
	}
	return total, true
}

func errNotInterval(text string) error {
	return fmt.Errorf("must be an interval such as 1h30m or '1 hour', not %q", text)
}

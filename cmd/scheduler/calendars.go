package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/ics"
	"github.com/campaign-scheduler/scheduler/internal/plain"
	"github.com/campaign-scheduler/scheduler/store"
)

const calendarsHelp = `A calendar says which days are open: by the weekday, and for single days. A
campaign that names one leaves out what falls on a closed day, or moves it to the
nearest open one (columns calendar and calendar_policy). Calendars are rows of
scheduler.calendars and scheduler.calendar_days; SQL writes them, too.`

const calendarsExample = `  scheduler calendars list
  scheduler calendars show china --year 2027
  scheduler calendars import china holidays-2027.ics --dry-run`

func newCalendarsCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use:     "calendars",
		Short:   "Look at calendars of open and closed days, and import them",
		Long:    calendarsHelp + "\n\n" + databaseHelp,
		Example: calendarsExample,
		Args:    cobra.NoArgs,
		RunE:    chooseSubcommand,
	}
	database := addDatabaseFlag(c)
	c.AddCommand(newCalendarsListCommand(p, database), newCalendarsShowCommand(p, database), newCalendarsImportCommand(p, database))
	return c
}

// calendarJSON is a calendar for programs. Its form is a promise.
type calendarJSON struct {
	Name         string            `json:"name"`
	TimeZone     string            `json:"time_zone"`
	OpenWeekdays []int16           `json:"open_weekdays"`
	UpdatedBy    string            `json:"updated_by"`
	UpdatedAt    string            `json:"updated_at"`
	Campaigns    int64             `json:"campaigns"` // campaigns that name it and are not cancelled
	Days         []calendarDayJSON `json:"days,omitempty"`
}

type calendarDayJSON struct {
	Day  string `json:"day"`
	Open bool   `json:"open"`
	Why  string `json:"why"`
}

func asCalendar(c store.Calendar) calendarJSON {
	return calendarJSON{Name: c.Name, TimeZone: c.TimeZone, OpenWeekdays: c.OpenWeekdays, UpdatedBy: c.UpdatedBy, UpdatedAt: c.UpdatedAt.UTC().Format(time.RFC3339Nano), Campaigns: c.Campaigns}
}

func asCalendarDays(days []store.CalendarDay) []calendarDayJSON {
	out := make([]calendarDayJSON, len(days))
	for i, d := range days {
		out[i] = calendarDayJSON{d.Day.Format(time.DateOnly), d.Open, d.Why}
	}
	return out
}

func newCalendarsListCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the calendars", Args: cobra.NoArgs}
	output := addOutputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			all, err := s.Calendars(c.Context())
			if err != nil {
				return err
			}
			if output.json() {
				list := []calendarJSON{}
				for _, k := range all {
					list = append(list, asCalendar(k))
				}
				return p.writeJSON(map[string][]calendarJSON{"calendars": list})
			}
			return p.printCalendars(all)
		})
	}
	return c
}

func (p *program) printCalendars(all []store.Calendar) error {
	if len(all) == 0 {
		return p.print("no calendars\n")
	}
	t := table{header: []string{"NAME", "ZONE", "OPEN", "DAYS", "LAST DAY", "CAMPAIGNS", "CHANGED BY"}}
	for _, k := range all {
		last := ""
		if !k.LastDay.IsZero() {
			last = k.LastDay.Format(time.DateOnly)
		}
		t.add(k.Name, k.TimeZone, weekdays(k.OpenWeekdays), number(k.Days), last, number(k.Campaigns), k.UpdatedBy)
	}
	return t.write(p)
}

// weekdays names days of the week, 1 Monday to 7 Sunday.
func weekdays(days []int16) string {
	if len(days) == 0 {
		return "no weekday"
	}
	names := make([]string, len(days))
	for i, d := range days {
		names[i] = time.Weekday(d % 7).String()[:3]
	}
	return strings.Join(names, " ")
}

func newCalendarsShowCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Short: "Show a calendar and its days that are not as their weekday says",
		Example: "  scheduler calendars show china --year 2027", Args: cobra.ExactArgs(1),
	}
	output := addOutputFlag(c)
	year := c.Flags().Int("year", 0, "only the days of this `YEAR` (default all)")
	c.RunE = func(c *cobra.Command, args []string) error {
		from, until := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 12, 31, 0, 0, 0, 0, time.UTC)
		if c.Flags().Changed("year") {
			if *year < from.Year() || *year > until.Year() {
				return usageError(fmt.Sprintf("--year must be from 1970 to 2200, not %d", *year))
			}
			from, until = time.Date(*year, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(*year, 12, 31, 0, 0, 0, 0, time.UTC)
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			k, days, err := s.Calendar(c.Context(), args[0], from, until)
			if err != nil {
				return err
			}
			if output.json() {
				out := asCalendar(k)
				out.Days = asCalendarDays(days)
				return p.writeJSON(out)
			}
			return p.printCalendarDays(k, days)
		})
	}
	return c
}

func (p *program) printCalendarDays(k store.Calendar, days []store.CalendarDay) error {
	f := &facts{}
	f.add("calendar", k.Name)
	f.add("zone", k.TimeZone)
	f.add("open", weekdays(k.OpenWeekdays))
	f.add("campaigns", fmt.Sprint(k.Campaigns))
	f.add("changed", dueIn(k.UpdatedAt, k.TimeZone)+" by "+k.UpdatedBy)
	if err := f.write(p); err != nil || len(days) == 0 {
		return err
	}
	t := table{header: []string{"DAY", "", "IS", "WHY"}}
	for _, d := range days {
		t.add(d.Day.Format(time.DateOnly), d.Day.Format("Mon"), openOrClosed(d.Open), d.Why)
	}
	if err := p.print("\n"); err != nil {
		return err
	}
	return t.write(p)
}

func openOrClosed(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

const importHelp = `Reads an iCalendar file (RFC 5545): each day of an all-day event becomes a closed
day of the calendar, with the event's SUMMARY as the word why. With --open they are
open days, such as make-up workdays; with --open-if those are whose SUMMARY contains
a text. Events at a time of day and cancelled ones are left out; events that recur
are followed to --until.

The calendar is made where there is none. Days that are not in the file stay as they
are. All is done in one transaction, with what it changes for campaigns; --dry-run
only says what that would be. The file has at most 1 MiB, 5,000 events and 5,000
days. "-" reads the standard input.`

type importFlags struct {
	open, dryRun, asJSON bool
	openIf, until, zone  string
	weekdays             []int
}

func newCalendarsImportCommand(p *program, database *databaseFlag) *cobra.Command {
	c := &cobra.Command{
		Use:     "import NAME FILE.ics",
		Short:   "Take the days of an iCalendar file into a calendar",
		Long:    importHelp,
		Example: "  scheduler calendars import china holidays.ics\n  scheduler calendars import china workdays.ics --open\n  scheduler calendars import china both.ics --open-if 班",
		Args:    cobra.ExactArgs(2),
	}
	var f importFlags
	set := c.Flags()
	set.BoolVar(&f.open, "open", false, "the file's days are open, not closed")
	set.StringVar(&f.openIf, "open-if", "", "days of events whose SUMMARY contains this `TEXT` are open")
	set.StringVar(&f.until, "until", "", "follow events that recur to this `DATE` (default the end of the year after the next)")
	set.StringVar(&f.zone, "time-zone", "", "the IANA `ZONE` of a calendar that is made (default Asia/Shanghai)")
	set.IntSliceVar(&f.weekdays, "open-weekdays", nil, "the open `DAYS` of a calendar that is made, 1 Monday to 7 Sunday (default 1,2,3,4,5)")
	set.BoolVar(&f.dryRun, "dry-run", false, "say what would change, and change nothing")
	output := addOutputFlag(c)
	c.MarkFlagsMutuallyExclusive("open", "open-if")
	c.RunE = func(c *cobra.Command, args []string) error {
		f.asJSON = output.json()
		read, err := p.readCalendar(args[1], f)
		if err != nil {
			return err
		}
		return p.withStore(c.Context(), database, func(s *store.Store, _ *config.Config) error {
			return p.importCalendar(c.Context(), s, args[0], read, f)
		})
	}
	return c
}

// readCalendar reads the file.
func (p *program) readCalendar(file string, f importFlags) (ics.Result, error) {
	until := time.Date(p.now().Year()+2, 12, 31, 0, 0, 0, 0, time.UTC)
	if f.until != "" {
		var err error
		if until, err = time.Parse(time.DateOnly, f.until); err != nil {
			return ics.Result{}, usageError(fmt.Sprintf("--until takes a date such as 2028-12-31, not %q", f.until))
		}
	}
	text, err := p.readInput(file)
	if err != nil {
		return ics.Result{}, err
	}
	read, err := ics.Read(text, ics.Options{Open: f.open, OpenIf: f.openIf, Until: until})
	if err != nil {
		return ics.Result{}, fmt.Errorf("%s: %w", file, err)
	}
	if len(read.Days) == 0 {
		return ics.Result{}, fmt.Errorf("%s: there is no all-day event in it", file)
	}
	return read, nil
}

func (p *program) importCalendar(ctx context.Context, s *store.Store, name string, read ics.Result, f importFlags) error {
	days := make([]store.CalendarDay, len(read.Days))
	for i, d := range read.Days {
		days[i] = store.CalendarDay{Day: d.Date, Open: d.Open, Why: d.Word}
	}
	var open []int16
	for _, d := range f.weekdays {
		if d < 1 || d > 7 {
			return usageError(fmt.Sprintf("--open-weekdays takes days from 1 (Monday) to 7 (Sunday), not %d", d))
		}
		open = append(open, int16(d))
	}
	made, err := s.WriteCalendarDays(ctx, name, f.zone, open, days, f.dryRun)
	if refused, ok := errors.AsType[store.Refusal](err); ok && refused.Hint != "" {
		return fmt.Errorf("%w\n%s", err, refused.Hint)
	} else if err != nil {
		return err
	}
	if f.asJSON {
		return p.writeJSON(struct {
			Calendar  string            `json:"calendar"`
			Created   bool              `json:"created"`
			Added     []calendarDayJSON `json:"added"`
			Changed   []calendarDayJSON `json:"changed"`
			Unchanged int               `json:"unchanged"`
			LeftOut   int               `json:"left_out"`
			Campaigns int64             `json:"campaigns"`
			DryRun    bool              `json:"dry_run"`
		}{name, made.Created, asCalendarDays(made.Added), asCalendarDays(made.Changed), len(made.Unchanged), read.Timed + read.Cancelled, made.Replanned, f.dryRun})
	}
	return p.printImport(name, made, read, f.dryRun)
}

func (p *program) printImport(name string, made store.CalendarChange, read ics.Result, dry bool) error {
	var b strings.Builder
	for _, list := range []struct {
		sign string
		days []store.CalendarDay
	}{{"+", made.Added}, {"~", made.Changed}} {
		for _, d := range list.days {
			b.WriteString(strings.TrimRight(fmt.Sprintf("%s %s %s %-6s %s", list.sign, d.Day.Format(time.DateOnly), d.Day.Format("Mon"), openOrClosed(d.Open), plain.Line(d.Why)), " ") + "\n")
		}
	}
	what := "calendar " + strconv.Quote(name)
	if made.Created {
		what = "new " + what + " (" + weekdays(made.OpenWeekdays) + ", " + made.TimeZone + ")"
	}
	fmt.Fprintf(&b, "%s: %d added, %d changed, %d as they were", what, len(made.Added), len(made.Changed), len(made.Unchanged))
	if n := read.Timed + read.Cancelled; n > 0 {
		fmt.Fprintf(&b, ", %s left out", count(n, "event"))
	}
	b.WriteString("; " + count(int(made.Replanned), "campaign") + " planned anew")
	if dry {
		b.WriteString("; nothing is written (--dry-run)")
	}
	return p.print(b.String() + "\n")
}

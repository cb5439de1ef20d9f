package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
	"github.com/campaign-scheduler/scheduler/strategy/strategytest"
)

// Quiet hours in the database: the two functions that say when they are, and what
// claims, changes and verify make of them.

// quietSQL asks the database for the end of quiet hours and where a window counts from.
func quietSQL(t tester, db *pgtest.DB, from, until, zones []string, at []time.Time, windows []time.Duration) (ends, windowFrom []time.Time) {
	t.Helper()
	rows, _ := db.Query(t.Context(), `
		SELECT scheduler.quiet_end(u.f, u.u, u.z, u.at), scheduler.quiet_window_from(u.f, u.u, u.z, u.at, u.w)
		  FROM unnest($1::text[]::time[], $2::text[]::time[], $3::text[], $4::timestamptz[], $5::interval[]) WITH ORDINALITY AS u (f, u, z, at, w, n) ORDER BY u.n`,
		from, until, zones, at, windows)
	var end *time.Time
	var window time.Time
	if _, err := pgx.ForEachRow(rows, []any{&end, &window}, func() error {
		if end == nil {
			end = new(time.Time)
		}
		ends, windowFrom = append(ends, *end), append(windowFrom, window)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ends, windowFrom
}

func TestQuietCasesInSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, c := range strategytest.QuietCases {
		ends, windows := quietSQL(t, db, []string{c.From}, []string{c.Until}, []string{c.Zone}, []time.Time{strategytest.Moment(c.At)}, []time.Duration{c.Window})
		if want := strategytest.Moment(c.End); !ends[0].Equal(want) {
			t.Errorf("%s: they end at %v, want %v", c.Name, ends[0], want)
		}
		if want := strategytest.Moment(c.WindowFrom); !windows[0].Equal(want) {
			t.Errorf("%s: the window counts from %v, want %v", c.Name, windows[0], want)
		}
	}
}

// The database and package strategy agree on quiet hours, over zones and clock changes.
func TestQuietSQLAgreesWithGo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	type draw struct {
		from, until time.Duration
		zone        string
		at          time.Time
		window      time.Duration
	}
	one := rapid.Custom(func(t *rapid.T) draw {
		second := rapid.IntRange(0, 24*3600-1)
		d := draw{
			from: time.Duration(second.Draw(t, "from")) * time.Second, until: time.Duration(second.Draw(t, "until")) * time.Second,
			zone: rapid.SampledFrom(strategytest.Zones).Draw(t, "zone"), window: time.Duration(rapid.IntRange(1, 100*3600).Draw(t, "window")) * time.Second,
			at: time.Unix(rapid.Int64Range(1577836800, 1893456000).Draw(t, "at"), 0).UTC(),
		}
		if d.from == d.until {
			d.until = (d.from + time.Second) % (24 * time.Hour)
		}
		if zone, err := time.LoadLocation(d.zone); err == nil && rapid.Bool().Draw(t, "near a change") {
			if _, end := d.at.In(zone).ZoneBounds(); !end.IsZero() {
				d.at = end.UTC().Add(time.Duration(rapid.IntRange(-48*3600, 48*3600).Draw(t, "off")) * time.Second)
			}
		}
		return d
	})
	many := rapid.SliceOfN(one, 100, 100)
	rapid.Check(t, func(t *rapid.T) {
		var from, until, zones []string
		var at []time.Time
		var windows []time.Duration
		draws := slices.DeleteFunc(many.Draw(t, "draws"), func(d draw) bool { return strategy.NewQuietHours(d.from, d.until, d.zone).None() })
		for _, d := range draws {
			clock := func(d time.Duration) string { return time.Time{}.Add(d).Format(time.TimeOnly) }
			from, until, zones, at, windows = append(from, clock(d.from)), append(until, clock(d.until)), append(zones, d.zone), append(at, d.at), append(windows, d.window)
		}
		ends, starts := quietSQL(t, db, from, until, zones, at, windows)
		for i, d := range draws {
			q := strategy.NewQuietHours(d.from, d.until, d.zone)
			if got, want := ends[i], q.End(d.at); !got.Equal(want) {
				t.Fatalf("%+v: in SQL they end at %v, in Go at %v", d, got, want)
			}
			if got, want := starts[i], q.WindowFrom(d.at, d.window); !got.Equal(want) {
				t.Fatalf("%+v: in SQL the window counts from %v, in Go from %v", d, got, want)
			}
		}
	})
}

func TestQuietHoursThatAreNone(t *testing.T) {
	t.Parallel()
	db := surface(t)
	for _, c := range []struct{ set, message, hint string }{
		{`quiet_from = '22:00'`, "quiet_from and quiet_until: both are required, or neither", "quiet_until = '08:00'"},
		{`quiet_until = '08:00'`, "both are required", "NULL for both"},
		{`quiet_from = '08:00', quiet_until = '08:00'`, "quiet_until: must differ from quiet_from", "pause the campaigns"},
		{`quiet_from = '22:00', quiet_until = '24:00'`, "must be times of day from 00:00:00 to 23:59:59", "'00:00'"},
		{`quiet_from = '22:00', quiet_until = '23:59:59.9'`, "must be times of day", "'00:00'"},
		{`quiet_from = '22:00', quiet_until = '08:00', time_zone = 'EST'`, "time_zone: must be an IANA time zone", "Area/Location"},
	} {
		got := refused(t, db, `UPDATE scheduler.apps SET `+c.set+` WHERE app_id = 'hook'`)
		if !strings.Contains(got.Message, c.message) || !strings.Contains(got.Hint, c.hint) {
			t.Errorf("%s: got %s; %s", c.set, got.Message, got.Hint)
		}
	}
	run(t, db, `UPDATE scheduler.apps SET quiet_from = '22:00', quiet_until = '08:00' WHERE app_id = 'hook'`)
	if got := refused(t, db, `UPDATE scheduler.apps SET time_zone = 'Mars/Olympus' WHERE app_id = 'hook'`); !strings.Contains(got.Message, "time_zone") {
		t.Errorf("refused with %q", got.Message)
	}
}

// quiet gives the webhook app quiet hours that began an hour ago and end in one.
func quiet(t *testing.T, db *pgtest.DB) {
	t.Helper()
	run(t, db, `UPDATE scheduler.apps SET quiet_from = ((now() - interval '1 hour') AT TIME ZONE 'UTC')::time, quiet_until = ((now() + interval '1 hour') AT TIME ZONE 'UTC')::time WHERE app_id = 'hook'`)
}

func TestQuietPolicyAtTheInsert(t *testing.T) {
	t.Parallel()
	db := surface(t)
	insert := func(name, channel, policy string) string {
		return fmt.Sprintf(`INSERT INTO scheduler.campaigns (name, app_id, channel, quiet_policy) VALUES ('%s', 'hook', '%s', '%s')`, name, channel, policy)
	}
	got := refused(t, db, insert("n", "webhook", "later"))
	if !strings.Contains(got.Message, "quiet_policy: must be hold, skip or ignore") {
		t.Error(got.Message)
	}
	got = refused(t, db, insert("code", "webhook", "ignore"))
	if want := "quiet_policy: ignore has to be allowed by an admin for the campaign's channel or name"; got.Message != want {
		t.Errorf("got %s, want %s", got.Message, want)
	}
	if want := "grant_quiet_exemption('hook', '', channel => 'webhook', name => 'code')"; !strings.Contains(got.Hint, want) {
		t.Errorf("the hint is %s, want %s in it", got.Hint, want)
	}
	run(t, db, insert("held", "webhook", "hold"))
	run(t, db, insert("left out", "webhook", "skip"))
	id := one[int64](t, db, `SELECT scheduler.grant_quiet_exemption('hook', '', name => 'code', note => 'one-time codes')`)
	run(t, db, insert("code", "webhook", "ignore"))
	if got := refused(t, db, insert("codes", "webhook", "ignore")); !strings.Contains(got.Message, "quiet_policy") {
		t.Errorf("refused with %q", got.Message)
	}
	if got := refused(t, db, `UPDATE scheduler.campaigns SET quiet_policy = 'ignore' WHERE name = 'held'`); !strings.Contains(got.Message, "quiet_policy") {
		t.Errorf("refused with %q", got.Message)
	}
	if !one[bool](t, db, `SELECT scheduler.revoke_quiet_exemption($1, 'over')`, id) || one[bool](t, db, `SELECT scheduler.revoke_quiet_exemption($1)`, id) {
		t.Error("an exemption is taken back once")
	}
	// What relied on it stays as it is, can be paused and cancelled, and is judged anew
	// when it is renamed.
	run(t, db, `UPDATE scheduler.campaigns SET status = 'paused' WHERE name = 'code'`)
	if got := refused(t, db, `UPDATE scheduler.campaigns SET name = 'code 2' WHERE name = 'code'`); !strings.Contains(got.Message, "quiet_policy") {
		t.Errorf("refused with %q", got.Message)
	}
	if one[bool](t, db, `SELECT scheduler.ignores_quiet_hours(id) FROM scheduler.campaigns WHERE name = 'code'`) {
		t.Error("it still ignores quiet hours")
	}
	one[int64](t, db, `SELECT scheduler.grant_quiet_exemption('hook', '', channel => 'webhook')`)
	run(t, db, insert("anything", "webhook", "ignore"))
}

func TestExemptionsThatAreNone(t *testing.T) {
	t.Parallel()
	db := surface(t)
	for args, want := range map[string]string{
		`'nobody', '', name => 'n'`:            "app_id: there is no app 'nobody'",
		`'hook', ''`:                           "channel and name: one of them is required",
		`'hook', '', name => ''`:               "one of them is required",
		`'hook', '', channel => 'mpaas'`:       "is none of the app's provider, webhook",
		`'shop', 'test', channel => 'webhook'`: "is none of the app's provider, mpaas",
	} {
		if _, err := db.Exec(t.Context(), `SELECT scheduler.grant_quiet_exemption(`+args+`)`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

// No statement that begins something begins it within quiet hours that hold it,
// whatever whoever asks believes.
func TestClaimsWithinQuietHours(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	held, exempt := campaign(t, db), campaign(t, db)
	one[int64](t, db, `SELECT scheduler.grant_quiet_exemption('hook', '', name => 'exempt')`)
	run(t, db, `UPDATE scheduler.campaigns SET name = 'exempt', quiet_policy = 'ignore' WHERE id = $1`, exempt)
	due := time.Now().Add(-time.Minute)
	for i, id := range []int64{held, exempt} {
		pend(t, db, id, i+1, due)
		sliced(t, db, id, due.Add(-time.Second), "waiting")
	}
	deliveries := readyNow(t, s)
	quiet(t, db)
	var ids []int64
	for _, id := range []int64{held, exempt} {
		ids = append(ids, one[int64](t, db, `SELECT id FROM scheduler.pending_tasks WHERE campaign_id = $1`, id))
	}
	app := one[int32](t, db, `SELECT app_no FROM scheduler.apps WHERE app_id = 'hook'`)
	for name, claim := range map[string]func() (int64, []store.ClaimedTask, error){
		"of its app": func() (int64, []store.ClaimedTask, error) {
			return s.Claim(t.Context(), daemon, time.Time{}, ids[:1], app)
		},
		"of any app": func() (int64, []store.ClaimedTask, error) {
			return s.ClaimListed(t.Context(), daemon, time.Time{}, ids[:1])
		},
	} {
		if _, tasks, err := claim(); err != nil || len(tasks) != 0 {
			t.Errorf("%s: claimed %v, %v; want nothing", name, tasks, err)
		}
	}
	started, err := s.StartTask(t.Context(), daemon, time.Time{}, store.Start{TaskID: ids[0], Revision: 1})
	if err != nil || started.Begun {
		t.Errorf("started %+v, %v; want nothing", started, err)
	}
	apps, err := s.WaitingApps(t.Context(), time.Time{})
	if err != nil || len(apps) != 1 || time.Until(apps[0].QuietUntil) < 50*time.Minute {
		t.Fatalf("the waiting apps are %v, %v", apps, err)
	}
	list, err := s.WaitingDeliveries(t.Context(), time.Time{}, []store.Reading{{AppNo: app, Limit: 10, QuietUntil: apps[0].QuietUntil}}, nil)
	if err != nil || len(list) != 1 || list[0].CampaignID != exempt {
		t.Errorf("read %v, %v; want the exempt one's", list, err)
	}
	begun, err := s.ClaimDeliveries(t.Context(), daemon, time.Time{}, deliveries)
	if err != nil || len(deliveries) != 2 || len(begun) != 1 || begun[0].CampaignID != exempt {
		t.Errorf("of the deliveries %v claimed %v, %v; want the exempt one's", deliveries, begun, err)
	}
	if _, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, ids, app); err != nil || len(tasks) != 1 || tasks[0].ID != ids[1] {
		t.Errorf("claimed %v, %v; want the exempt one's", tasks, err)
	}
	// What is held is put off to their end, and let go when they change.
	got, err := s.HoldTasks(t.Context(), ids)
	if diff := cmp.Diff(ids[:1], got); err != nil || diff != "" {
		t.Errorf("held %v (-want +got):\n%s", err, diff)
	}
	state := func() string {
		return one[string](t, db, `SELECT concat_ws(' ', round(extract(epoch FROM ready_at - now()) / 3600), waits_for, window_from IS NULL) FROM scheduler.pending_tasks WHERE id = $1`, ids[0])
	}
	if got, want := state(), "1 the end of quiet hours t"; got != want {
		t.Errorf("the held task: %s, want %s", got, want)
	}
	if got := one[string](t, db, `SELECT reason FROM scheduler.tasks WHERE id = $1`, ids[0]); got != "waits for the end of quiet hours" {
		t.Errorf("people read %q", got)
	}
	run(t, db, `UPDATE scheduler.apps SET quiet_from = NULL, quiet_until = NULL WHERE app_id = 'hook'`)
	if got, want := state(), "0 f"; got != want {
		t.Errorf("after the change: %s, want %s", got, want)
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.running_tasks WHERE window_from > now() - interval '1 minute' AND campaign_id = $1`, held); n != 1 {
		t.Errorf("the windows of %d running tasks count from the change, want 1", n)
	}
	if _, tasks, err := s.Claim(t.Context(), daemon, time.Time{}, ids[:1]); err != nil || len(tasks) != 1 {
		t.Errorf("claimed %v, %v; want the task", tasks, err)
	}
	if diff := cmp.Diff([]string{"t", "f"}, column[string](t, db, `SELECT left((quiet_from IS NOT NULL)::text, 1) FROM scheduler.quiet_changes ORDER BY id`)); diff != "" {
		t.Errorf("what is kept of the quiet hours (-want +got):\n%s", diff)
	}
}

// column returns the values of a query with one column.
func column[T any](t *testing.T, db *pgtest.DB, sql string, args ...any) []T {
	t.Helper()
	rows, _ := db.Query(t.Context(), sql, args...)
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A window that quiet hours meet counts from their end, for all who ask.
func TestWindowsOfWhatIsHeld(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	id := campaign(t, db)
	run(t, db, `UPDATE scheduler.campaigns SET catch_up_window = '10 minutes'`)
	sliced(t, db, id, time.Now().Add(-30*time.Minute), "waiting") // due within them
	sliced(t, db, id, time.Now().Add(-65*time.Minute), "waiting") // they began while it was open
	sliced(t, db, id, time.Now().Add(-75*time.Minute), "waiting") // closed before
	quiet(t, db)
	place(t, s)
	if diff := cmp.Diff([]string{"waiting", "waiting", "missed"}, column[string](t, db, `SELECT status::text FROM scheduler.slices ORDER BY id`)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// An hour and a bit from now they are over, and the windows still open.
	later := time.Now().Add(65 * time.Minute)
	var want []store.WaitingDelivery
	for _, d := range column[int64](t, db, `SELECT id FROM scheduler.slices WHERE status = 'waiting' ORDER BY id`) {
		want = append(want, store.WaitingDelivery{ID: d, Revision: one[int32](t, db, `SELECT revision FROM scheduler.campaigns`), AppNo: one[int32](t, db, `SELECT app_no FROM scheduler.campaigns`)})
	}
	if begun, err := s.ClaimDeliveries(t.Context(), daemon, later.Add(10*time.Minute), want); err != nil || len(begun) != 0 {
		t.Errorf("after the windows: claimed %v, %v", begun, err)
	}
	if begun, err := s.ClaimDeliveries(t.Context(), daemon, later, want); err != nil || len(begun) != 2 {
		t.Errorf("after the quiet hours: claimed %v, %v; want both", begun, err)
	}
}

// An occurrence is missed for quiet hours only while they and the policy say so.
func TestMissedForQuietHoursIsAskedAgain(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	daemon := enlisted(t, s)
	id := campaign(t, db)
	run(t, db, `UPDATE scheduler.campaigns SET quiet_policy = 'skip'`)
	pend(t, db, id, 1, time.Now().Add(-time.Minute))
	miss := []store.Decision{{TaskID: one[int64](t, db, `SELECT id FROM scheduler.pending_tasks`), Revision: 2, Reason: store.QuietReason}}
	run(t, db, `UPDATE scheduler.pending_tasks SET revision = 2`)
	if done, err := s.Missed(t.Context(), daemon, miss); err != nil || len(done) != 0 {
		t.Errorf("without quiet hours: %v, %v", done, err)
	}
	quiet(t, db)
	if done, err := s.Missed(t.Context(), daemon, miss); err != nil || len(done) != 1 {
		t.Errorf("within them: %v, %v; want one missed", done, err)
	}
}

// Verify finds a call that began within quiet hours, as all of it stood then.
func TestVerifyQuietHours(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage string
		want   int64
	}{
		"as they stood":                    {`SELECT`, 1},
		"not yet":                          {`UPDATE scheduler.quiet_changes SET since = '2027-01-10 09:00:05Z'`, 0},
		"not any more":                     {`INSERT INTO scheduler.quiet_changes (app_no, since, time_zone, changed_by) VALUES (1, '2027-01-10 08:59Z', 'UTC', 'me')`, 0},
		"they began after the claim":       {`UPDATE scheduler.quiet_changes SET quiet_from = '08:59:55'`, 0},
		"over before":                      {`UPDATE scheduler.quiet_changes SET quiet_until = '09:00:00'`, 0},
		"ignored without an exemption":     {`UPDATE scheduler.campaigns SET quiet_policy = 'ignore'`, 1},
		"exempt":                           {`UPDATE scheduler.campaigns SET quiet_policy = 'ignore'; INSERT INTO scheduler.quiet_exemptions (app_no, name, created_by, created_at) VALUES (1, 'campaign 1', 'me', '2027-01-01Z')`, 0},
		"exempt by another name":           {`UPDATE scheduler.campaigns SET quiet_policy = 'ignore'; INSERT INTO scheduler.quiet_exemptions (app_no, name, created_by, created_at) VALUES (1, 'campaign', 'me', '2027-01-01Z')`, 1},
		"exempt until before":              {`UPDATE scheduler.campaigns SET quiet_policy = 'ignore'; INSERT INTO scheduler.quiet_exemptions (app_no, name, created_by, created_at, revoked_at) VALUES (1, 'campaign 1', 'me', '2027-01-01Z', '2027-01-10 08:00Z')`, 1},
		"exempt later than the call began": {`UPDATE scheduler.campaigns SET quiet_policy = 'ignore'; INSERT INTO scheduler.quiet_exemptions (app_no, name, created_by, created_at) VALUES (1, 'campaign 1', 'me', '2027-01-11Z')`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecord(t)
			r.exec(`INSERT INTO scheduler.quiet_changes (app_no, since, quiet_from, quiet_until, time_zone, changed_by) VALUES (1, '2027-01-10 00:00Z', '08:30', '09:30', 'UTC', 'me')`)
			r.exec(`UPDATE scheduler.decided_tasks SET sent_at = CASE WHEN due_at = '2027-01-10 09:00Z' AND campaign_id = 1 THEN due_at + interval '1 second' END`)
			for sql := range strings.SplitSeq(c.damage, "; ") {
				r.exec(sql)
			}
			v, err := opened(t, r.db.URL).Verify(t.Context(), store.VerifyOptions{Now: noon, Grace: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Counts[store.FindingQuiet]; got != c.want {
				t.Errorf("%d findings, want %d: %v", got, c.want, v.Findings)
			}
		})
	}
}

// The configuration's quiet hours are written; without them what an admin wrote stays.
func TestRegisterQuietHours(t *testing.T) {
	t.Parallel()
	db := surface(t)
	s := opened(t, db.URL)
	for _, c := range []struct{ from, until, want string }{
		{"", "", "none"},
		{"22:00", "08:00:30", "22:00:00–08:00:30 (UTC)"},
		{"", "", "22:00:00–08:00:30 (UTC)"},
		{"21:00:00", "07:00", "21:00:00–07:00:00 (UTC)"},
	} {
		spec := store.AppSpec{AppID: "hook", Provider: "webhook", QuietFrom: c.from, QuietUntil: c.until}
		if err := s.Register(t.Context(), nil, []store.AppSpec{spec}); err != nil {
			t.Fatal(err)
		}
		apps, err := s.Apps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		for _, a := range apps {
			if a.AppID == "hook" && a.Quiet != (store.QuietHours{}) {
				got = a.Quiet.String()
			}
		}
		if got != c.want {
			t.Errorf("after %q–%q: %s, want %s", c.from, c.until, got, c.want)
		}
	}
	if n := one[int](t, db, `SELECT count(*) FROM scheduler.quiet_changes`); n != 2 {
		t.Errorf("%d changes are kept, want 2", n)
	}
}

// Exemptions are an admin's: an author reads those of his apps and relies on them.
func TestQuietHoursByRole(t *testing.T) {
	t.Parallel()
	p := newPeople(t)
	admin, author, daemon := p.connect(t, "admin"), p.connect(t, "author"), p.connect(t, "daemon")
	try := func(conn *pgx.Conn, sql, want string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		var code string
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			code = pg.Code
		}
		if code != want {
			t.Errorf("%s: got %v, want SQLSTATE %q", sql, err, want)
		}
	}
	const insert = `INSERT INTO scheduler.campaigns (name, app_id, channel, quiet_policy) VALUES ('code', 'mine', 'webhook', 'ignore')`
	try(author, insert, "23514")
	for _, conn := range []*pgx.Conn{author, daemon} {
		try(conn, `SELECT scheduler.grant_quiet_exemption('mine', '', name => 'code')`, denied)
		try(conn, `SELECT scheduler.revoke_quiet_exemption(1)`, denied)
		try(conn, `INSERT INTO scheduler.quiet_exemptions (app_no, name, created_by) VALUES (1, 'code', 'me')`, denied)
		try(conn, `DELETE FROM scheduler.quiet_changes`, denied)
	}
	try(author, `UPDATE scheduler.apps SET quiet_from = NULL`, denied)
	try(admin, `SELECT scheduler.grant_quiet_exemption('mine', '', name => 'code'), scheduler.grant_quiet_exemption('theirs', '', name => 'code')`, "")
	try(admin, `UPDATE scheduler.apps SET quiet_from = '22:00', quiet_until = '08:00'`, "")
	try(author, insert, "")
	try(author, `UPDATE scheduler.campaigns SET quiet_policy = 'skip' WHERE name = 'code'`, "")
	var seen, of int
	var by string
	if err := author.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT app_no), min(created_by) FROM scheduler.quiet_exemptions`).Scan(&seen, &of, &by); err != nil || seen != 1 || of != 1 || by != p.names["admin"] {
		t.Errorf("the author sees %d exemptions of %d apps, by %s: %v", seen, of, by, err)
	}
	if _, err := opened(t, p.urlOf(t, "daemon")).HoldTasks(t.Context(), []int64{1}); err != nil {
		t.Errorf("the daemon may not hold: %v", err)
	}
}

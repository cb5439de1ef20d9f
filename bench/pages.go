//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/console"
	"github.com/campaign-scheduler/scheduler/internal/judge"
	"github.com/campaign-scheduler/scheduler/store"
)

const (
	pageBound    = 300 // milliseconds
	pageAdmin    = "bench_admin"
	pageAuthor   = "bench_reader" // of one app as most are
	pageLarge    = "bench_large"  // of an app with a fiftieth of all campaigns
	pageClickers = 200
	pagePerson   = "bench_person" // who clicks
	pageFront    = "bench_front"  // the console's login
	consoleConns = 4
	pageThinks   = 7 * time.Second // as TPC-W has it
	pageHistory  = 100_000         // decided tasks of the days before
)

// pages is every page of the console over much that is stored, for an admin, who sees
// all apps, and for authors of one. A page has several addresses: the plain one,
// and filters that choose little or nothing. Its row is the slowest of them, whole,
// as a browser waits for it: that bounds the time of its reads from above.
func pages(ctx context.Context, b *bench) error {
	apps := max(b.campaigns/100, benchApps)
	db, err := b.filledPages(ctx, apps)
	if err != nil {
		return err
	}
	defer db.Close()
	visitors := make(map[string]*visitor)
	for who, role := range map[string]string{"all apps": pageAdmin, "one app": pageAuthor, "a large app": pageLarge} {
		if visitors[who], err = newVisitor(ctx, db.url+separator(db.url)+"role="+role); err != nil {
			return err
		}
		defer visitors[who].close()
	}
	slowest := ""
	var worst sample
	for _, p := range consolePages {
		if p.before != "" {
			if _, err := db.Exec(ctx, p.before); err != nil {
				return err
			}
		}
		what, took, err := b.slowest(ctx, p, visitors)
		if err != nil {
			return err
		}
		b.say("%-14s %s, %s", p.name, took.text(millis), what)
		b.table.hold(fmt.Sprintf("page %s, at its slowest: %s", p.name, what), new(atMost(pageBound)), millis, took)
		if took.median() > worst.median() {
			slowest, worst = p.name, took
		}
	}
	b.table.hold(fmt.Sprintf("the slowest page of the console, %s; %s decided, %s campaigns, %s apps", slowest, thousands(float64(b.decided)),
		thousands(float64(b.campaigns)), thousands(float64(apps))), new(atMost(pageBound)), millis, worst)
	return nil
}

func separator(url string) string {
	if strings.Contains(url, "?") {
		return "&"
	}
	return "?"
}

// A consolePage is one page with what may be asked of it.
type consolePage struct {
	name   string
	paths  []string
	form   url.Values // posted, where there is one
	before string     // SQL that sets the stage
}

// monthsAhead is well before the campaigns of fillPages end, and far from now.
var monthsAhead = time.Now().AddDate(0, 0, 80).Format(time.DateOnly)

var consolePages = []consolePage{
	{name: "overview", paths: []string{"/"}},
	{name: "calendar", paths: []string{"/calendar", "/calendar?view=week", "/calendar?view=day", "/calendar?app=app-7", "/calendar?app=app-9", "/calendar?view=day&app=app-9", "/calendar?view=day&app=nobody", "/calendar?at=2000-01-01"}},
	{name: "calendar, months ahead", paths: []string{"/calendar?at=" + monthsAhead, "/calendar?view=week&at=" + monthsAhead, "/calendar?view=day&at=" + monthsAhead, "/calendar?app=app-7&at=" + monthsAhead}},
	{name: "campaigns", paths: []string{"/campaigns", "/campaigns?q=nothing+like+it", "/campaigns?q=BENCH&app=app-7", "/campaigns?status=paused", "/campaigns?status=cancelled", "/campaigns?status=cancelled&app=app-9", "/campaigns?status=rejected&app=nobody", "/campaigns?before=1000"}},
	{name: "campaign", paths: []string{"/campaigns/7", "/campaigns/7/edit", "/campaigns/7/confirm/cancel"}},
	{name: "new campaign", paths: []string{"/campaigns/new"}},
	{name: "new campaign, judged", paths: []string{"/campaigns"}, form: url.Values{
		"name": {"bench"}, "app": {"app-7 bench"}, "channel": {"mpaas.push_multiple"}, "type": {"1"}, "fixed": {time.Now().Add(2 * time.Hour).UTC().Format("2006-01-02T15:04:05")},
		"time_zone": {"UTC"}, "misfire_policy": {"latest"}, "catch_up_window": {"1h"}, "short_month_policy": {"skip"}, "dst_gap_policy": {"shift"}, "targets": {"user-1"},
		"request": {`{"deliveryType": 3, "expiredSeconds": 600, "templateName": "t"}`}, "do": {"preview"},
	}},
	{name: "tasks", paths: []string{
		"/tasks", "/tasks?status=failed", "/tasks?status=cancelled", "/tasks?status=pending", "/tasks?status=pending&app=app-9", "/tasks?app=app-9", "/tasks?status=cancelled&app=app-9",
		"/tasks?status=succeeded&app=app-7", "/tasks?status=missed&app=nobody", "/tasks?status=failed&app=app-7", "/tasks?app=nobody", "/tasks?app=app-7", "/tasks?campaign=7",
		"/tasks?campaign=7&status=unknown", "/tasks?until=2000-01-01",
	}},
	{name: "task", paths: []string{"/tasks/7", "/tasks/7/confirm/revoke"}},
	{name: "task of 10,000 deliveries", paths: []string{"/tasks/1"}},
	{name: "unknown", paths: []string{"/unknown", "/unknown?app=app-7", "/unknown?app=nobody"}},
	{name: "limits", paths: []string{"/limits", "/limits?app=app-7", "/limits?app=app-9"}},
	{name: "lateness", paths: []string{"/lateness", "/lateness?range=7d", "/lateness?range=7d&app=app-7", "/lateness?range=7d&app=app-9", "/lateness?range=7d&app=nobody"}},
	{name: "audit", paths: []string{"/audit", "/audit?who=nobody", "/audit?what=trigger", "/audit?what=finish", "/audit?what=rule", "/audit?who=nobody&what=pause"}},
	{name: "hold, held", paths: []string{"/hold"}, before: `SELECT scheduler.hold_pushes('bench', '')`},
}

// slowest returns the address of a page that took longest, by the median of the
// rounds, and its times.
func (b *bench) slowest(ctx context.Context, p consolePage, visitors map[string]*visitor) (what string, worst sample, err error) {
	for role, v := range visitors {
		for _, path := range p.paths {
			var took sample
			for round := range b.rounds + 1 { // the first one warms up
				d, err := v.open(ctx, path, p.form)
				if err != nil {
					return "", nil, err
				}
				if round > 0 {
					took = append(took, inMillis(d))
				}
			}
			if b.verbose {
				b.say("  %9.1f ms %s %s", took.median(), path, role)
			}
			if took.median() > worst.median() {
				what, worst = path+" by "+role, took
			}
		}
	}
	return what, worst, nil
}

// A visitor is signed in to a console.
type visitor struct {
	url    string
	client *http.Client
	close  func()
}

// newVisitor makes a console for one visitor.
func newVisitor(ctx context.Context, databaseURL string) (*visitor, error) {
	s, err := store.Open(ctx, store.Config{URL: databaseURL, MaxConns: consoleConns})
	if err != nil {
		return nil, err
	}
	c, err := console.New(console.Config{
		Owner: s, Judge: judge.Judge{Adapters: []dispatch.Adapter{mpaas.Adapter{}}}, Log: slog.New(slog.DiscardHandler),
		SignIn: func(context.Context, string, string) (*store.Store, error) { return nil, console.ErrSignIn },
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	server := httptest.NewServer(c.Handler())
	v := &visitor{url: server.URL, close: func() {
		server.Close()
		c.Close()
		s.Close()
	}}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	v.client = &http.Client{Jar: jar}
	_, err = v.open(ctx, c.Link(), url.Values{})
	return v, err
}

// open asks for a page, or posts a form, and says how long the whole answer took.
func (v *visitor) open(ctx context.Context, path string, form url.Values) (time.Duration, error) {
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, v.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	began := time.Now()
	answer, err := v.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	took := time.Since(began)
	switch {
	case err != nil:
		return 0, err
	case answer.StatusCode == http.StatusServiceUnavailable: // it was given up at its time limit, which counts
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusUnprocessableEntity: // of somebody else's app
		return 0, fmt.Errorf("%s: status %d: %s", path, answer.StatusCode, text[:min(len(text), 2000)])
	}
	return took, nil
}

// filledPages returns the database of the pages, which an earlier run may have filled.
func (b *bench) filledPages(ctx context.Context, apps int) (*database, error) {
	if b.filled {
		return b.pg.open(ctx, "bench_pages")
	}
	db, err := b.pg.scheduler(ctx, "bench_pages")
	if err != nil {
		return nil, err
	}
	return db, b.fillPages(ctx, db, apps)
}

// fillPages writes what has come about in sixty days: campaigns of many apps with
// their pending tasks, decisions of every kind, one audience, and the audits.
func (b *bench) fillPages(ctx context.Context, db *database, apps int) error {
	b.say("filling bench_pages: %d decided, %d campaigns, %d apps", b.decided, b.campaigns, apps)
	if err := b.register(ctx, db, 100); err != nil {
		return err
	}
	_, err := db.Exec(ctx, `INSERT INTO scheduler.apps (app_id, workspace_id, provider, time_zone)
		SELECT 'app-' || i, 'bench', 'mpaas', 'Asia/Shanghai' FROM generate_series($1::int + 1, $2::int) i`, benchApps, apps)
	if err != nil {
		return err
	}
	if err := db.fill(ctx, fill{tasks: b.campaigns, due: time.Now().Add(time.Hour), spread: 23 * time.Hour, further: true}); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, sql := range pagesSQL {
			if _, err := tx.Exec(ctx, strings.NewReplacer("$decided", fmt.Sprint(b.decided), "$campaigns", fmt.Sprint(b.campaigns), "$apps", fmt.Sprint(apps)).Replace(sql)); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return db.settle(ctx)
}

// pagesSQL sets the stage past the triggers; task 1 is the large audience.
var pagesSQL = []string{
	`SET LOCAL session_replication_role = replica`,
	`UPDATE scheduler.apps SET pending_limit = 1000000 WHERE app_id = 'app-9'`,
	`UPDATE scheduler.pending_tasks p SET app_no = a.app_no, slot = 1000 + p.campaign_id / 50 FROM scheduler.apps a WHERE a.app_id = 'app-9' AND p.campaign_id % 50 = 0`,
	`UPDATE scheduler.campaign_cursors k SET app_no = a.app_no FROM scheduler.apps a WHERE a.app_id = 'app-9' AND k.campaign_id % 50 = 0`,
	`UPDATE scheduler.campaigns c SET app_no = a.app_no, app_id = a.app_id, workspace_id = a.workspace_id FROM scheduler.apps a WHERE a.app_id = 'app-9' AND c.id % 50 = 0`,
	`INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, started_at, sent_at, decided_at,
	        attempts, slices, accepted, target_count, reason, request_id, message_id, targets)
	 SELECT i, c.app_no, c.id, 1, k.channel_no, 'scheduled', x.status, x.due, x.due, x.due + interval '3 ms', x.due + interval '20 ms',
	        1, 1, CASE WHEN x.status = 'succeeded' THEN 1 ELSE 0 END, 1, CASE WHEN x.status <> 'succeeded' THEN 'bench' END, md5(i::text), md5(i::text), '{user-1}'
	   FROM generate_series(2, $decided) AS i
	   JOIN scheduler.campaigns c ON c.id = 1 + i % $campaigns
	   JOIN scheduler.channels k USING (channel)
	  CROSS JOIN LATERAL (SELECT now() - interval '60 days' + i * (interval '60 days' / $decided) AS due,
	                             (CASE WHEN i % 50 = 0 THEN 'failed' WHEN i % 77 = 0 THEN 'missed' WHEN i % 5003 = 0 THEN 'unknown' ELSE 'succeeded' END)::scheduler.decision AS status) x
	  ORDER BY i`,
	`INSERT INTO scheduler.running_tasks (id, app_no, campaign_id, revision, origin, due_at, started_at, slices, targets)
	 SELECT 1, c.app_no, c.id, 1, 'scheduled', now(), now(), 10000, 1000000 FROM scheduler.campaigns c WHERE c.id = 7`,
	`INSERT INTO scheduler.slices (task_id, slice_no, app_no, campaign_id, status, ready_at, attempts, finished_at)
	 SELECT 1, i, c.app_no, c.id, CASE WHEN i % 2 = 0 THEN 'accepted' ELSE 'waiting' END::scheduler.slice_status, now(), i % 2, CASE WHEN i % 2 = 0 THEN now() END
	   FROM generate_series(1, 10000) AS i, scheduler.campaigns c WHERE c.id = 7`,
	`INSERT INTO scheduler.slice_targets (slice_id, targets) SELECT id, ARRAY(SELECT 'user-' || task_id || '-' || slice_no || '-' || i FROM generate_series(1, 100) i) FROM scheduler.slices WHERE task_id = 1`,
	`INSERT INTO scheduler.campaign_history (campaign_id, app_no, revision, action, strategy_ended, changed_by, changed_at, before)
	 SELECT c.id, c.app_no, 1, CASE WHEN i % 2 = 0 THEN 'pause' ELSE 'resume' END, false, 'bench', now() - interval '60 days' + i * (interval '60 days' / $campaigns), '{}'
	   FROM generate_series(1, $campaigns) AS i JOIN scheduler.campaigns c ON c.id = i ORDER BY i`,
	`UPDATE scheduler.campaigns SET status = 'paused' WHERE id % 1000 = 0`,
	`INSERT INTO scheduler.apps (app_id, workspace_id, provider, time_zone) SELECT 'life-' || i, '', 'alipay', 'Asia/Shanghai' FROM generate_series(1, $apps / 10) i`,
	`INSERT INTO scheduler.quota_uses (app_no, channel, used_at, weekly_quota)
	 SELECT a.app_no, k.channel, now() - n * interval '1 day', 5 FROM scheduler.apps a JOIN scheduler.channels k USING (provider), generate_series(1, 5) n WHERE k.weekly_quota > 0`,
	`DO $$ DECLARE r text[]; BEGIN
	   FOREACH r SLICE 1 IN ARRAY ARRAY[['` + pageAdmin + `', 'scheduler_admin'], ['` + pageAuthor + `', 'scheduler_author'], ['` + pageLarge + `', 'scheduler_author']] LOOP
	     IF to_regrole(r[1]) IS NULL THEN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE %I', r[1], r[2]); END IF;
	   END LOOP;
	 END $$`,
	`SET LOCAL session_replication_role = origin`,
	`SELECT scheduler.grant_app('app-7', 'bench', '` + pageAuthor + `'), scheduler.grant_app('app-9', 'bench', '` + pageLarge + `')`,
}

// clicking is scheduled pushes of the program itself, in a process of its own, with
// and without people who click through the console that it serves. A person looks at a
// page for seven seconds on average, exponentially distributed.
func clicking(ctx context.Context, b *bench) error {
	db, settings, err := b.peopled(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	return b.besideLate(ctx, db, companion{
		what:     fmt.Sprintf("with %d people clicking in the console", pageClickers),
		history:  pageHistory,
		settings: settings,
		begin: func(ctx context.Context, address string) func() (string, error) {
			stop := click(ctx, newClicker(address))
			return func() (string, error) {
				took, err := stop()
				return fmt.Sprintf("%d pages, half of them within %.0f ms", len(took), took.median()), err
			}
		},
	})
}

// peopled returns a database with people who come through a proxy, so that they share
// the connections of console.max_connections, and the settings of a console for them.
func (b *bench) peopled(ctx context.Context) (_ *database, settings func(address string) string, err error) {
	db, err := b.pg.scheduler(ctx, "bench_clicking")
	if err != nil {
		return nil, nil, err
	}
	if err = b.register(ctx, db, 100); err == nil {
		_, err = db.Exec(ctx, `DO $$ BEGIN
			CREATE ROLE `+pagePerson+` IN ROLE scheduler_admin;
			CREATE ROLE `+pageFront+` LOGIN PASSWORD 'bench' NOINHERIT IN ROLE scheduler_front, `+pagePerson+`;
		EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	}
	var front *url.URL
	if err == nil {
		front, err = url.Parse(db.url)
	}
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	front.User = url.UserPassword(pageFront, "bench")
	return db, func(address string) string {
		return fmt.Sprintf(`console:
  listen: %s
  sign_in: proxy
  database_url: %q
  proxy: {header: X-Person, from: [127.0.0.1]}
  roles: [{value: bench, role: %s}]
`, address, front, pagePerson)
	}, nil
}

// opening is what the pages of clicking cost in processor time, opened one after the
// other while nothing is pushed.
func opening(ctx context.Context, b *bench) error {
	db, settings, err := b.peopled(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.stage(ctx, fill{tasks: 10_000, history: pageHistory, due: time.Now().Add(time.Hour), spread: 20 * time.Second}); err != nil {
		return err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	p, err := b.startProgram(ctx, db, 100, settings(address))
	if err != nil {
		return err
	}
	defer p.stop()
	used := func() (daemon, postgres time.Duration, err error) {
		if daemon, err = cpuTime(p.cmd.Process.Pid); err == nil {
			postgres, err = treeTime(b.pg.server.PID())
		}
		return daemon, postgres, err
	}
	if err := idle(ctx, used); err != nil {
		return err
	}
	v, paths := newClicker(address), plainPaths()
	var daemon, postgres sample
	for range b.rounds {
		var here, there float64 // of all pages together
		for _, path := range paths {
			d, p, err := costOf(ctx, v, path, used)
			if err != nil {
				return err
			}
			if b.verbose {
				b.say("  %6.1f ms of the daemon, %6.1f of PostgreSQL: %s", d, p, path)
			}
			here, there = here+d, there+p
		}
		daemon, postgres = append(daemon, here/float64(len(paths))), append(postgres, there/float64(len(paths)))
	}
	what := fmt.Sprintf("processor time of a page, the mean of %d addresses, ", len(paths))
	b.table.hold(what+"of the daemon", nil, millis, daemon)
	b.table.hold(what+"of PostgreSQL", nil, millis, postgres)
	return b.dearest(ctx, db)
}

// A usage reads the processor time that the daemon and PostgreSQL have used so far.
type usage func() (daemon, postgres time.Duration, err error)

// costOf returns what a page costs the daemon and PostgreSQL, in milliseconds.
func costOf(ctx context.Context, v *visitor, path string, used usage) (daemon, postgres float64, err error) {
	if _, err := v.open(ctx, path, nil); err != nil { // warms up
		return 0, 0, err
	}
	const opened = 20 // since the kernel counts by ticks of ten milliseconds
	d0, p0, err := used()
	for range opened {
		if err == nil {
			_, err = v.open(ctx, path, nil)
		}
	}
	if err != nil {
		return 0, 0, err
	}
	d1, p1, err := used()
	return inMillis(d1-d0) / opened, inMillis(p1-p0) / opened, err
}

// idle waits until a second costs next to nothing.
func idle(ctx context.Context, used usage) error {
	before := time.Duration(-1)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		daemon, postgres, err := used()
		if err != nil {
			return err
		}
		now := daemon + postgres
		if before >= 0 && now-before < 100*time.Millisecond {
			return nil
		}
		before = now
		if err := sleepUntil(ctx, time.Now().Add(time.Second)); err != nil {
			return err
		}
	}
	return errors.New("the program did not come to rest")
}

// newClicker is a person who comes through a proxy.
func newClicker(address string) *visitor {
	return &visitor{url: "http://" + address, client: &http.Client{Transport: byProxy{&http.Transport{MaxIdleConnsPerHost: pageClickers}}}}
}

// plainPaths are the addresses of all pages but forms that are posted.
func plainPaths() (paths []string) {
	for _, p := range consolePages {
		if p.form == nil {
			paths = append(paths, p.paths...)
		}
	}
	return paths
}

// byProxy names whom a proxy would name.
type byProxy struct{ http.RoundTripper }

func (t byProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Person", "bench")
	return t.RoundTripper.RoundTrip(r)
}

// click has people open one page after the other until it is stopped; stop returns how
// long each page took. The first error of a page ends it too.
func click(ctx context.Context, v *visitor) (stop func() (sample, error)) {
	paths := plainPaths()
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex
	var took sample
	var wait sync.WaitGroup
	for range pageClickers {
		wait.Go(func() {
			for sleepUntil(ctx, time.Now().Add(time.Duration(rand.ExpFloat64()*float64(pageThinks)))) == nil { //nolint:gosec // no secret
				d, err := v.open(ctx, paths[rand.IntN(len(paths))], nil) //nolint:gosec // no secret
				switch {
				case errors.Is(err, syscall.ECONNREFUSED): // it does not listen yet
				case err != nil && ctx.Err() == nil:
					cancel(err)
				default:
					mu.Lock()
					took = append(took, inMillis(d))
					mu.Unlock()
				}
			}
		})
	}
	return func() (sample, error) {
		cancel(nil)
		wait.Wait()
		if cause := context.Cause(ctx); cause != context.Canceled { //nolint:errorlint // the plain end
			return nil, cause
		}
		return took, nil
	}
}

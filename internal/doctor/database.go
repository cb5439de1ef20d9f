package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// leastVersion is the oldest supported major version of PostgreSQL.
const leastVersion = 14

// database examines the database. If its schema and sessions are right, database
// examines the work in it too.
func (e *examination) database(ctx context.Context) {
	if e.DatabaseURL == "" {
		e.wrong("database", "none is named, and no daemon runs one in "+e.Config.DataDir,
			"set database.url or DATABASE_URL, or start: scheduler serve")
		return
	}
	s, err := store.Open(ctx, store.Config{URL: e.DatabaseURL, MaxConns: 2, ConnectTimeout: e.Timeout, StatementTimeout: e.Config.Database.StatementTimeout})
	if err != nil {
		e.wrong("database", err.Error(), "write database.url as postgres://USER@HOST/DATABASE")
		return
	}
	defer s.Close()
	if !e.schema(ctx, s) || !e.sessions(ctx, s) {
		return
	}
	asked := e.Now()
	h, err := s.Health(ctx)
	if err != nil {
		e.wrong("database", err.Error(), "look at the privileges of the role: it should be in scheduler_daemon")
		return
	}
	e.server(h)
	e.setup(ctx, s)
	e.clock(h, asked)
	e.installation(ctx, s)
	e.work(h)
	e.waits(ctx, s)
	e.planning(ctx, s)
	e.served(ctx, s)
}

// schema examines the schema. It reports whether this program can work with it.
func (e *examination) schema(ctx context.Context, s *store.Store) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*e.Timeout)
	defer cancel()
	err := s.CheckSchema(ctx)
	switch {
	case errors.Is(err, store.ErrSchemaMissing), errors.Is(err, store.ErrSchemaTooOld):
		e.wrong("schema", err.Error(), "as an admin: scheduler migrate up")
	case errors.Is(err, store.ErrSchemaTooNew):
		e.wrong("schema", err.Error(), "use the version of this program that migrated it, or: scheduler migrate goto")
	case errors.Is(err, store.ErrMayNotRead):
		e.wrong("schema", err.Error(), "look at the privileges of the role: it should be in scheduler_daemon")
	case err != nil:
		e.wrong("database", err.Error(), "look at database.url, the server, and the network between")
	default:
		e.interrupted(ctx)
	}
	return err == nil
}

// sessions reports whether the database's sessions keep their settings. If they do
// not, no daemon starts.
func (e *examination) sessions(ctx context.Context, s *store.Store) bool {
	err := s.CheckSessions(ctx)
	switch {
	case errors.Is(err, store.ErrSharedSessions):
		e.wrong("database", "a pooler in transaction mode stands before it, where sessions do not keep their settings",
			"pool_mode = session for this database, or point database.url at PostgreSQL itself")
	case err != nil:
		e.wrong("database", err.Error(), "look at database.url, the server, and the network between")
	}
	return err == nil
}

// interrupted looks for the mark of a migration that was killed.
func (e *examination) interrupted(ctx context.Context) {
	m, err := store.NewMigrator(e.DatabaseURL, slog.New(slog.DiscardHandler))
	if err != nil {
		return // CheckSchema has examined the same URL already
	}
	v, err := m.Version(ctx)
	switch {
	case err != nil:
		e.attention("schema", "its version can be read, but not the record of its migrations: "+err.Error(), "")
	case v.Interrupted:
		e.wrong("schema", "a migration was interrupted, or runs now", "as an admin: scheduler migrate up")
	default:
		e.ok("schema", fmt.Sprintf("version %d, the newest", v.Current))
	}
}

func (e *examination) server(h store.Health) {
	found := fmt.Sprintf("PostgreSQL %d", h.ServerVersion)
	switch {
	case h.ServerVersion < leastVersion:
		e.wrong("database", found, fmt.Sprintf("it must be PostgreSQL %d or later", leastVersion))
	case h.ReadOnly:
		e.wrong("database", found+" that takes no writes", "point database.url at the primary; where it is the primary, default_transaction_read_only is on for it, for the database or for the login")
	default:
		e.ok("database", found)
	}
}

// setup examines PostgreSQL's settings and the shape of the schema.
func (e *examination) setup(ctx context.Context, s *store.Store) {
	u, err := s.Setup(ctx)
	if err != nil {
		e.attention("postgresql", err.Error(), "")
		return
	}
	for _, w := range u.Warnings() {
		e.attention("postgresql", w.Found, w.ToDo)
	}
	d, err := s.Shape(ctx)
	switch {
	case err != nil:
		e.attention("schema", err.Error(), "")
	case len(d.Missing) > 0:
		e.wrong("schema", "it is not what its version says: "+d.String(), "another build migrated it: back it up, take its newest migrations back, and scheduler migrate up")
	case len(d.Changed) > 0:
		e.attention("schema", "it is not what its version says: "+d.String(), "somebody changed it by hand, or another build migrated it")
	}
}

// clock compares this machine's clock with the database's, which decides when a
// task is due. The clock of the machine was asked before the statement, so half of
// the statement's time is taken as the way to the database.
func (e *examination) clock(h store.Health, asked time.Time) {
	half := e.Now().Sub(asked) / 2
	apart := asked.Add(half).Sub(h.Now)
	found := fmt.Sprintf("this machine is %s off the database, whose clock rules", apart.Abs().Round(time.Millisecond))
	if apart.Abs()-half > time.Second {
		e.attention("clock", found, "let both machines follow a time server: pushes are on time anyway, but logs and signatures use this machine's clock")
		return
	}
	e.ok("clock", found)
}

// work reports the work that waits for a person.
func (e *examination) work(h store.Health) {
	switch {
	case !h.HeldSince.IsZero():
		e.wrong("hold", "nothing is pushed since "+h.HeldSince.Format(time.RFC3339)+": "+h.HeldReason, "scheduler release --list shows what a release would push")
	case h.Daemons == 0:
		e.attention("daemons", "running: none", "start: scheduler serve")
	default:
		e.ok("daemons", fmt.Sprintf("running: %d", h.Daemons))
	}
	if h.Overdue > 0 {
		e.attention("tasks", fmt.Sprintf("due for more than a minute and not begun: %d", h.Overdue),
			"look at the daemons' logs, at limits of calls in flight and per second, and at apps without credentials")
	}
	if h.Unknown > 0 {
		e.attention("tasks", fmt.Sprintf("of unknown outcome, waiting for a ruling: %d", h.Unknown), "scheduler tasks list --status unknown; then scheduler tasks resolve")
	}
	if h.Rejected > 0 {
		e.attention("campaigns", fmt.Sprintf("rejected: %d", h.Rejected), "scheduler campaigns list --status rejected; scheduler campaigns show says why")
	}
}

// waits names the sessions whose locks the engine waits for.
func (e *examination) waits(ctx context.Context, s *store.Store) {
	found, err := s.Waits(ctx)
	if err != nil {
		e.attention("locks", err.Error(), "")
		return
	}
	for _, w := range found {
		do := fmt.Sprintf("let its owner end the transaction, or as an admin of the cluster: SELECT pg_terminate_backend(%d)", w.PID)
		if w.PID == 0 {
			do = "find it in pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED"
		}
		e.wrong("locks", w.String(), do)
	}
}

// served names the apps that have active campaigns and no credentials here.
func (e *examination) served(ctx context.Context, s *store.Store) {
	busy, err := s.BusyApps(ctx)
	if err != nil {
		e.wrong("apps", err.Error(), "")
		return
	}
	if len(e.Config.Apps) == 0 {
		return // the apps are the sandbox's, which need no configuration
	}
	for _, b := range busy {
		if !e.configured(b) {
			e.attention("app "+b.AppID, fmt.Sprintf("no credentials in this configuration; its active campaigns: %d", b.Campaigns),
				"add the app to the configuration of a daemon, or cancel its campaigns")
		}
	}
}

func (e *examination) configured(b store.BusyApp) bool {
	for _, a := range e.Config.Apps {
		if a.AppID == b.AppID && a.WorkspaceID == b.WorkspaceID {
			return true
		}
	}
	return false
}

// A planner plans a change within about a second. A change that has waited for
// unplannedAfter is looked at a second time after lookAgain: it may have been
// written long ago and committed just before the first look.
const (
	unplannedAfter = 5 * time.Second
	lookAgain      = 1500 * time.Millisecond
)

// planning names the apps whose changed campaigns are not planned, and the sessions
// that block the planner.
func (e *examination) planning(ctx context.Context, s *store.Store) {
	waiting, err := s.UnplannedApps(ctx, unplannedAfter)
	if err == nil && len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
		waiting, err = s.UnplannedApps(ctx, unplannedAfter)
	}
	if err != nil {
		e.wrong("planning", err.Error(), "look at the privileges of the role: it should be in scheduler_daemon")
		return
	}
	for _, a := range waiting {
		found := fmt.Sprintf("changed campaigns have not been planned for %s", a.Waiting.Truncate(time.Second))
		toDo := "see that a daemon runs, and look at its log for the app"
		blockers, err := s.Blockers(ctx, a.AppNo)
		switch {
		case err != nil:
			found += "; the sessions that block it cannot be read: " + err.Error()
		case len(blockers) > 0:
			names := make([]string, len(blockers))
			for i, b := range blockers {
				names[i] = b.String()
			}
			found += "; blocked by " + strings.Join(names, "; ")
			toDo = fmt.Sprintf("have that transaction ended: ask its login, or SELECT pg_terminate_backend(%d)", blockers[0].PID)
			if blockers[0].PID == 0 {
				toDo = "find that transaction in pg_prepared_xacts, and COMMIT PREPARED or ROLLBACK PREPARED it"
			}
		}
		e.wrong("app "+a.Name(), found, toDo)
	}
	if len(waiting) == 0 {
		e.ok("planning", "every change of a campaign is planned")
	}
}

// installation reports the identity by which other installations know this
// database.
func (e *examination) installation(ctx context.Context, s *store.Store) {
	k, err := s.Keys(ctx)
	if err != nil {
		return // no daemon has run yet
	}
	e.ok("installation", fmt.Sprintf("%s, numbers from range %d; no other installation may push to its apps", k.Installation, k.Range))
}

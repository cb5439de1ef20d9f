package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Health is the state of the database and of the work in it.
type Health struct {
	Now           time.Time // the database's clock
	ServerVersion int       // the major version
	ReadOnly      bool      // a standby, or a demoted primary
	Daemons       int       // with a lease
	Unknown       int64     // tasks that wait for a ruling
	Overdue       int64     // tasks ready for longer than a minute, not begun, and not waiting for a quota
	Rejected      int64     // campaigns
	HeldSince     time.Time // zero: not held
	HeldReason    string
}

// A BusyApp is an app that has active campaigns.
type BusyApp struct {
	AppID, WorkspaceID, Provider string
	Campaigns                    int64
}

// Health reads the state in one snapshot.
func (s *Store) Health(ctx context.Context) (Health, error) {
	var h Health
	var held *time.Time
	err := s.db.QueryRow(ctx, pendingApps+`
		SELECT clock_timestamp(), current_setting('server_version_num')::integer / 10000,
		       pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
		       (SELECT count(*) FROM scheduler.daemons WHERE ended_at IS NULL AND leased_until > clock_timestamp()),
		       (SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'unknown'),
		       (SELECT count(*) FROM app JOIN scheduler.pending_tasks p ON p.app_no = app.app_no
		         WHERE p.ready_at < clock_timestamp() - interval '1 minute' AND p.waits_for IS DISTINCT FROM 'quota'),
		       (SELECT count(*) FROM scheduler.campaigns WHERE status = 'rejected'),
		       (SELECT held_since FROM scheduler.hold), coalesce((SELECT reason FROM scheduler.hold), '')`).
		Scan(&h.Now, &h.ServerVersion, &h.ReadOnly, &h.Daemons, &h.Unknown, &h.Overdue, &h.Rejected, &held, &h.HeldReason)
	if err != nil {
		return Health{}, fmt.Errorf("read health: %w", err)
	}
	h.HeldSince = orZero(held)
	return h, nil
}

// BusyApps lists the apps that have active campaigns. The database does not know
// for which of them a daemon has credentials.
func (s *Store) BusyApps(ctx context.Context) ([]BusyApp, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT a.app_id, a.workspace_id, a.provider, count(*)
		  FROM scheduler.apps a JOIN scheduler.campaigns c ON c.app_no = a.app_no AND c.status = 'active'
		 GROUP BY a.app_id, a.workspace_id, a.provider ORDER BY 1, 2`)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[BusyApp])
	if err != nil {
		return nil, fmt.Errorf("list busy apps: %w", err)
	}
	return out, nil
}

// A Usage says how full the bounded things are, and how much work waits.
type Usage struct {
	Apps    []AppFill
	Quotas  []QuotaFill
	Unknown int64         // tasks that wait for a ruling
	Overdue time.Duration // how long the pending task that became ready first has waited; zero: none is ready
	Claims  int64         // claims whose outcomes are not all recorded
	Held    bool
}

// An AppFill is how full an app's pending limit is.
type AppFill struct {
	AppID, WorkspaceID string
	Limit, Pending     int64
}

// fillsLooked is the least number of apps whose tasks appFills counts.
const fillsLooked = 200

// appFills returns the statement that lists the limit fullest of the apps a under
// conditions. It counts the tasks of those apps whose highest slot is largest against
// their limit. The planner fills the lowest slots first, so an app cannot be fuller
// than its highest slot says. The last column says how full an app that was left out
// may be.
func appFills(where *conditions, some bool, limit int) (sql string, args []any) {
	top := `SELECT coalesce((SELECT p.slot FROM scheduler.pending_tasks p WHERE p.app_no = a.app_no AND p.slot IS NOT NULL ORDER BY p.slot DESC LIMIT 1), 0)`
	if some {
		top = `SELECT a.pending_limit` // not everybody may see slots
	}
	looked := max(fillsLooked, limit)
	return fmt.Sprintf(`
		WITH app AS MATERIALIZED (
		  SELECT a.app_id, a.workspace_id, t.slot::float8 / a.pending_limit AS most FROM scheduler.apps a CROSS JOIN LATERAL (%s) t (slot)
		   WHERE %s ORDER BY 3 DESC, 1, 2 LIMIT %d)
		SELECT l.app_id, l.workspace_id, u.pending_limit, u.pending, coalesce((SELECT app.most FROM app ORDER BY app.most DESC OFFSET %[4]d), 0)
		  FROM (SELECT * FROM app ORDER BY 3 DESC, 1, 2 LIMIT %[4]d) l CROSS JOIN LATERAL ( -- LIMIT asks for one app at a time
			SELECT u.pending_limit, u.pending FROM scheduler.app_usage u WHERE u.app_id = l.app_id AND u.workspace_id = l.workspace_id LIMIT 1) u
		 ORDER BY u.pending::float8 / u.pending_limit DESC, l.app_id, l.workspace_id LIMIT %[5]d`, top, where.sql(), looked+1, looked, limit), where.args
}

// scanFills scans the rows of appFills, and returns how full an app that was left out
// may be.
func scanFills(rows pgx.Rows) (out []AppFill, leftOut float64, err error) {
	out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a AppFill, err error) {
		return a, row.Scan(&a.AppID, &a.WorkspaceID, &a.Limit, &a.Pending, &leftOut)
	})
	return out, leftOut, err
}

// AppFills returns how full the pending limits are of the apps with the id, or of all
// apps where the id is empty, the fullest first. more says that an app that is left out
// may be among the fullest.
func (s *Store) AppFills(ctx context.Context, appID string, limit int) (out []AppFill, more bool, err error) {
	err = s.read(ctx, "read how full apps are", func(tx pgx.Tx) error {
		some, err := seesSome(ctx, tx)
		if err != nil {
			return err
		}
		sql, args := appFills(Filter{AppID: appID}.common("a"), some, limit)
		rows, _ := tx.Query(ctx, sql, args...)
		var leftOut float64
		out, leftOut, err = scanFills(rows)
		if last := len(out) - 1; last >= 0 {
			more = leftOut > float64(out[last].Pending)/float64(out[last].Limit)
		}
		return err
	})
	return out, more, err
}

// A QuotaFill is a row of scheduler.quota_usage.
type QuotaFill struct {
	AppID, WorkspaceID, Channel string
	Quota, Used                 int64
}

// Usage reads the usage of at most limit apps and limit quotas, the fullest
// first.
func (s *Store) Usage(ctx context.Context, limit int) (Usage, error) {
	var u Usage
	var overdue float64
	b := &pgx.Batch{}
	b.Queue(pendingApps + `
		SELECT (SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'unknown'), (SELECT count(*) FROM scheduler.claims),
		       coalesce((SELECT extract(epoch FROM clock_timestamp() - min((SELECT p.ready_at FROM scheduler.pending_tasks p
		                  WHERE p.app_no = app.app_no ORDER BY p.ready_at LIMIT 1))) FROM app), 0)::float8, NOT (` + released + `)`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&u.Unknown, &u.Claims, &overdue, &u.Held) })
	fills, args := appFills(&conditions{}, false, limit)
	b.Queue(fills, args...).
		Query(func(rows pgx.Rows) (err error) {
			u.Apps, _, err = scanFills(rows)
			return err
		})
	b.Queue(`
		SELECT app_id, workspace_id, channel, weekly_quota, used FROM scheduler.quota_usage
		 ORDER BY used::float8 / weekly_quota DESC, app_id, workspace_id, channel LIMIT $1`, limit).
		Query(func(rows pgx.Rows) (err error) {
			u.Quotas, err = pgx.CollectRows(rows, pgx.RowToStructByPos[QuotaFill])
			return err
		})
	if err := s.db.SendBatch(ctx, b).Close(); err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	u.Overdue = seconds(max(overdue, 0))
	return u, nil
}

// A Progress says how far a running task of several deliveries is.
type Progress struct {
	TaskID     int64
	AppNo      int32
	CampaignID int64
	Done       int32
	Total      int32
	Targets    int64
}

// Progress lists up to limit running tasks of several deliveries, those that
// began earliest first.
func (s *Store) Progress(ctx context.Context, limit int) ([]Progress, error) {
	rows, _ := s.db.Query(ctx, `
		SELECT r.id, r.app_no, r.campaign_id,
		       r.slices - (SELECT count(*) FROM scheduler.slices s WHERE s.task_id = r.id AND s.finished_at IS NULL)::integer, r.slices, r.targets
		  FROM scheduler.running_tasks r WHERE r.slices > 1 ORDER BY r.started_at LIMIT $1`, limit)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Progress])
	if err != nil {
		return nil, fmt.Errorf("read progress: %w", err)
	}
	return out, nil
}

// A Setup holds those settings of PostgreSQL on which the program's promises rest.
type Setup struct {
	Encoding       string // of the database
	Fsync          bool
	FullPageWrites bool
	Commit         string // synchronous_commit as the server, the database and the role have it
	Synchronous    bool   // commits wait for a standby
	Standbys       int    // standbys that stream; also 0 where the login may not see them
}

// Setup reads the settings in a session that has none of the program's own.
func (s *Store) Setup(ctx context.Context) (Setup, error) {
	var out Setup
	plain, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return out, fmt.Errorf("connect: %w", err)
	}
	defer closeProbe(ctx, plain)
	err = plain.QueryRow(ctx, `
		SELECT current_setting('server_encoding'), current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
		       current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
		       (SELECT count(*) FROM pg_stat_replication)`, pgx.QueryExecModeExec).
		Scan(&out.Encoding, &out.Fsync, &out.FullPageWrites, &out.Commit, &out.Synchronous, &out.Standbys)
	if err != nil {
		return out, fmt.Errorf("read how the server is run: %w", err)
	}
	return out, nil
}

// A Warning is something about the server that an operator should know.
type Warning struct{ Found, ToDo string }

// Warnings returns what is wrong with these settings, the worst first.
func (u Setup) Warnings() []Warning {
	var out []Warning
	add := func(bad bool, found, toDo string) {
		if bad {
			out = append(out, Warning{found, toDo})
		}
	}
	add(!u.Fsync, "fsync is off: a crash of the machine loses what was committed, or all", "fsync = on in postgresql.conf")
	add(!u.FullPageWrites, "full_page_writes is off: a crash of the machine may damage it", "full_page_writes = on, unless the file system promises whole pages")
	add(u.Encoding != "UTF8", "the database's encoding is "+u.Encoding+", not UTF8: some texts cannot be stored, others be cut inside a character",
		"dump it, make it anew with: createdb --encoding=UTF8 --template=template0, and restore")
	add(u.Synchronous && (u.Commit == "local" || u.Commit == "off"), "there is a synchronous standby, and this role's synchronous_commit is "+u.Commit+
		": commits of other programs do not wait for it; the scheduler's own do", "ALTER ROLE … RESET synchronous_commit")
	add(!u.Synchronous && u.Standbys > 0, fmt.Sprintf("its standbys are asynchronous (%d): a failover may lose what was committed last; daemons that live write their part again", u.Standbys),
		"synchronous_standby_names, where nothing may be lost")
	return out
}

package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// An App is a row of scheduler.apps.
type App struct {
	AppID, WorkspaceID string
	AppNo              int32
	Provider           string
	PendingLimit       int
	TimeZone           string
	Quiet              QuietHours // zero: none
	TargetsPerSecond   float64    // zero: no bound
}

// appColumns are the columns that scanApp scans.
const appColumns = `app_id, workspace_id, app_no, provider, pending_limit, time_zone, quiet_from, quiet_until, coalesce(targets_per_second, 0)`

func scanApp(row pgx.CollectableRow) (a App, err error) {
	err = row.Scan(&a.AppID, &a.WorkspaceID, &a.AppNo, &a.Provider, &a.PendingLimit, &a.TimeZone, (*clockTime)(&a.Quiet.From), (*clockTime)(&a.Quiet.Until), &a.TargetsPerSecond)
	if a.Quiet.From != a.Quiet.Until {
		a.Quiet.Zone = a.TimeZone
	}
	return a, err
}

// Apps lists all apps.
func (s *Store) Apps(ctx context.Context) ([]App, error) {
	rows, _ := s.db.Query(ctx, `SELECT `+appColumns+` FROM scheduler.apps ORDER BY app_no`)
	apps, err := pgx.CollectRows(rows, scanApp)
	if err != nil {
		return nil, fmt.Errorf("list apps: %w", err)
	}
	return apps, nil
}

// AppsOf lists for a page the apps with one of the ids.
func (s *Store) AppsOf(ctx context.Context, ids []string) ([]App, error) {
	return readRows(ctx, s, "list apps", scanApp, `SELECT `+appColumns+` FROM scheduler.apps WHERE app_id = ANY ($1) ORDER BY app_no`, ids)
}

// An AppSpec is an app as the configuration states it.
type AppSpec struct {
	AppID, WorkspaceID, Provider string
	PendingLimit                 int     // zero: leave as it is, or the default
	TimeZone                     string  // empty: leave as it is, or the default
	QuietFrom, QuietUntil        string  // times of day; empty: leave them as they are, or none
	TargetsPerSecond             float64 // zero: leave as it is, or none
	Quotas                       map[string]int
}

// A ChannelSpec is a channel as its adapter states it.
type ChannelSpec struct {
	Channel, Provider       string
	MaxTargets, WeeklyQuota int
}

// Register makes the database know the adapters' channels and the
// configuration's apps. Rows that say the same already are not touched.
func (s *Store) Register(ctx context.Context, channels []ChannelSpec, apps []AppSpec) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		for _, c := range channels {
			_, err := tx.Exec(ctx, `
				INSERT INTO scheduler.channels AS c (channel, provider, max_targets, weekly_quota) VALUES ($1, $2, $3, $4)
				ON CONFLICT (channel) DO UPDATE SET provider = excluded.provider, max_targets = excluded.max_targets, weekly_quota = excluded.weekly_quota
				WHERE (c.provider, c.max_targets, c.weekly_quota) IS DISTINCT FROM (excluded.provider, excluded.max_targets, excluded.weekly_quota)`,
				c.Channel, c.Provider, c.MaxTargets, c.WeeklyQuota)
			if err != nil {
				return fmt.Errorf("channel %s: %w", c.Channel, err)
			}
		}
		for _, a := range apps {
			if err := registerApp(ctx, tx, a); err != nil {
				return fmt.Errorf("app %s: %w", a.AppID, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register apps: %w", err)
	}
	return nil
}

func registerApp(ctx context.Context, tx pgx.Tx, a AppSpec) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO scheduler.apps AS a (app_id, workspace_id, provider, pending_limit, time_zone, quiet_from, quiet_until, targets_per_second)
		VALUES ($1, $2, $3, coalesce(nullif($4, 0), 100), coalesce(nullif($5, ''), 'Asia/Shanghai'), nullif($6, '')::time, nullif($7, '')::time, nullif($8::double precision, 0))
		ON CONFLICT (app_id, workspace_id) DO UPDATE SET provider = excluded.provider, updated_at = now(),
			pending_limit = coalesce(nullif($4, 0), a.pending_limit), time_zone = coalesce(nullif($5, ''), a.time_zone),
			quiet_from = coalesce(excluded.quiet_from, a.quiet_from), quiet_until = coalesce(excluded.quiet_until, a.quiet_until),
			targets_per_second = coalesce(excluded.targets_per_second, a.targets_per_second)
		WHERE (a.provider, a.pending_limit, a.time_zone, a.quiet_from, a.quiet_until, a.targets_per_second) IS DISTINCT FROM
			(excluded.provider, coalesce(nullif($4, 0), a.pending_limit), coalesce(nullif($5, ''), a.time_zone), coalesce(excluded.quiet_from, a.quiet_from), coalesce(excluded.quiet_until, a.quiet_until),
			 coalesce(excluded.targets_per_second, a.targets_per_second))`,
		a.AppID, a.WorkspaceID, a.Provider, a.PendingLimit, a.TimeZone, a.QuietFrom, a.QuietUntil, a.TargetsPerSecond)
	if err != nil {
		return err
	}
	for channel, quota := range a.Quotas {
		_, err := tx.Exec(ctx, `
			INSERT INTO scheduler.app_quotas AS q (app_no, channel, weekly_quota)
			SELECT app_no, $3, $4 FROM scheduler.apps WHERE app_id = $1 AND workspace_id = $2
			ON CONFLICT (app_no, channel) DO UPDATE SET weekly_quota = excluded.weekly_quota WHERE q.weekly_quota <> excluded.weekly_quota`,
			a.AppID, a.WorkspaceID, channel, quota)
		if err != nil {
			return fmt.Errorf("quota of %s: %w", channel, err)
		}
	}
	return nil
}

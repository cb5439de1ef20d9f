//go:build unix

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	loadedCampaigns = 20_000
	loadedTargets   = 200_000
)

// weeklyLoops are rows of campaigns, made as an author makes them.
const weeklyLoops = ` (name, app_id, channel, strategy_type, strategy_content, request)
	SELECT 'weekly ' || g, 'load', 'webhook', 2,
	       jsonb_build_object('startTime', scheduler.unix_ms(now()), 'endTime', scheduler.unix_ms(now() + interval '90 days'),
	                          'circleType', 2, 'circleValue', jsonb_build_array(1 + g % 7), 'time', '09:00:00'),
	       jsonb_build_object('title', 'Hello ' || g, 'content', 'world')
	  FROM generate_series(1, $1::integer) g`

// loading is what SQL authors pay for the rules: the same rows into our tables and
// into bare ones with the same columns and the same key.
func loading(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_loading")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := prepareLoading(ctx, db); err != nil {
		return err
	}
	loads := []struct {
		what, ours, bare string
		n                int
		bound            float64
	}{
		{"campaigns", "INSERT INTO scheduler.campaigns" + weeklyLoops, "INSERT INTO bare_campaigns" + weeklyLoops, loadedCampaigns, 4},
		{
			"targets of one campaign", `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT (SELECT max(id) FROM scheduler.campaigns), 'user-' || g FROM generate_series(1, $1::integer) g`,
			`INSERT INTO bare_targets (campaign_id, target) SELECT (SELECT max(id) FROM scheduler.campaigns), 'user-' || g FROM generate_series(1, $1::integer) g`, loadedTargets, 1.8,
		},
		{
			"targets of 2,000 campaigns", `INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT (SELECT max(id) FROM scheduler.campaigns) - 1 - g % 2000, 'user-' || g FROM generate_series(1, $1::integer) g`,
			`INSERT INTO bare_targets (campaign_id, target) SELECT (SELECT max(id) FROM scheduler.campaigns) - 1 - g % 2000, 'user-' || g FROM generate_series(1, $1::integer) g`, loadedTargets, 1.8,
		},
	}
	for _, login := range []string{"", "bench_author"} {
		who := "the owner"
		if login != "" {
			who = "an author"
		}
		for _, l := range loads {
			if b.short {
				l.n /= 10
			}
			var ours, bare sample
			for range b.rounds {
				for _, side := range []struct {
					sql string
					to  *sample
				}{{l.bare, &bare}, {l.ours, &ours}} {
					took, err := timeLoad(ctx, db, login, side.sql, l.n)
					if err != nil {
						return fmt.Errorf("load %s: %w", l.what, err)
					}
					*side.to = append(*side.to, took.Seconds()*1000)
				}
			}
			goal := atMost(l.bound)
			b.table.compare(fmt.Sprintf("INSERT … SELECT of %s %s, as %s", thousands(float64(l.n)), l.what, who), &goal, millis, ours, "bare table", bare)
		}
	}
	return nil
}

// prepareLoading makes the bare tables, an app, and an author who may use it.
func prepareLoading(ctx context.Context, db *database) error {
	for _, sql := range []string{
		`INSERT INTO scheduler.apps (app_id, provider) VALUES ('load', 'webhook')`,
		`CREATE TABLE bare_campaigns (LIKE scheduler.campaigns INCLUDING DEFAULTS INCLUDING IDENTITY, PRIMARY KEY (id))`,
		`ALTER TABLE bare_campaigns ALTER time_zone SET DEFAULT 'Asia/Shanghai', ALTER app_no SET DEFAULT 1, ALTER written_at SET DEFAULT now(), ALTER created_by SET DEFAULT 'x',
			ALTER updated_by SET DEFAULT 'x', ALTER created_at SET DEFAULT now(), ALTER updated_at SET DEFAULT now()`,
		`CREATE TABLE bare_targets (LIKE scheduler.campaign_targets INCLUDING DEFAULTS, PRIMARY KEY (campaign_id, target))`,
		`DO $$ BEGIN IF to_regrole('bench_author') IS NULL THEN CREATE ROLE bench_author IN ROLE scheduler_author; END IF; END $$`,
		`SELECT scheduler.grant_app('load', '', 'bench_author')`,
		`GRANT INSERT ON bare_campaigns, bare_targets TO bench_author`,
	} {
		if _, err := db.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	if _, err := db.Exec(ctx, `INSERT INTO scheduler.campaigns`+weeklyLoops, 3000); err != nil { // for the targets
		return fmt.Errorf("insert campaigns: %w", err)
	}
	return nil
}

// timeLoad runs a load in a transaction of its own and takes it back, so that
// each round finds the same tables. A checkpoint goes before it, not into it.
func timeLoad(ctx context.Context, db *database, login, sql string, n int) (time.Duration, error) {
	if _, err := db.Exec(ctx, `CHECKPOINT`); err != nil {
		return 0, err
	}
	tx, err := db.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if login != "" {
		if _, err := tx.Exec(ctx, `SET LOCAL SESSION AUTHORIZATION `+login); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	if _, err := tx.Exec(ctx, sql, n); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

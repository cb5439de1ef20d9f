//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// hostile is the program itself, in a process of its own, with an honest author
// whose campaign is to be pushed at once, again and again; first alone, then
// beside an author who does what a login can do to others.
func hostile(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_hostile")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, 1000); err != nil {
		return err
	}
	for i, author := range []string{"bench_honest", "bench_hostile"} {
		_, err := db.Exec(ctx, fmt.Sprintf(`
			DO $$ BEGIN CREATE ROLE %[1]s LOGIN PASSWORD 'bench' IN ROLE scheduler_author; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
			SELECT scheduler.grant_app('%[2]s', '%[3]s', '%[1]s')`, author, appID(i+1), workspace))
		if err != nil {
			return err
		}
	}
	p, err := b.startProgram(ctx, db, 1000)
	if err != nil {
		return err
	}
	defer p.stop()
	honest, err := db.as(ctx, "bench_honest")
	if err != nil {
		return err
	}
	defer honest.Close(context.WithoutCancel(ctx))
	window := time.Minute
	if b.short {
		window = 10 * time.Second
	}
	if _, err := b.honestLateness(ctx, honest, 5*time.Second); err != nil { // until the daemon is there
		return err
	}
	b.say("hostile: an honest author alone")
	alone, err := b.honestLateness(ctx, honest, window)
	if err != nil {
		return err
	}
	b.say("hostile: p99 %.1f ms; the hostile one comes", alone)
	stop := b.molest(ctx, db)
	beside, err := b.honestLateness(ctx, honest, window)
	stop()
	if err != nil {
		return err
	}
	b.say("hostile: p99 %.1f ms alone, %.1f ms beside a hostile author", alone, beside)
	b.table.hold(fmt.Sprintf("an honest author's push beside a hostile one, p99 lateness over %s", window), new(atMost(1000)), millis, sample{beside})
	b.table.hold("the same without the hostile one", nil, millis, sample{alone})
	return nil
}

// as is a connection with somebody's own login.
func (d *database) as(ctx context.Context, login string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	config.User, config.Password = login, "bench"
	return pgx.ConnectConfig(ctx, config)
}

// honestLateness inserts a campaign every half second that is to be pushed at
// once, and returns the 99th percentile of their lateness in milliseconds. One
// that was not pushed within the window counts as late by all of it.
func (b *bench) honestLateness(ctx context.Context, conn *pgx.Conn, window time.Duration) (float64, error) {
	var ids []int64
	for end := time.Now().Add(window); time.Now().Before(end); {
		var id int64
		err := conn.QueryRow(ctx, `
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, request) VALUES ('honest', $1, $2, 'mpaas.push_multiple', $3) RETURNING id`,
			appID(1), workspace, request).Scan(&id)
		if err != nil {
			return 0, err
		}
		ids = append(ids, id)
		if err := sleepUntil(ctx, time.Now().Add(500*time.Millisecond)); err != nil {
			return 0, err
		}
	}
	if err := sleepUntil(ctx, time.Now().Add(2*time.Second)); err != nil {
		return 0, err
	}
	rows, _ := conn.Query(ctx, `
		SELECT coalesce(extract(epoch FROM t.lateness) * 1000, $2)::float8 FROM unnest($1::bigint[]) u (id) LEFT JOIN scheduler.tasks t ON t.campaign_id = u.id`,
		ids, float64(window.Milliseconds()))
	late, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	if err != nil {
		return 0, err
	}
	slices.Sort(late)
	return late[len(late)*99/100], nil
}

// molest has a hostile author do, each on a connection of its own and until stop
// is called, what a login may do: keep transactions open, take every lock that it
// is given, load, flood and hold advisory locks. What is refused is tried again.
func (b *bench) molest(ctx context.Context, db *database) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	campaign := fmt.Sprintf(`INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
		SELECT 'hostile', '%s', '%s', 'mpaas.push_multiple', 1, jsonb_build_object('fixedTime', scheduler.unix_ms(now() + interval '1 day')), '%s'`, appID(2), workspace, request)
	for name, deed := range map[string][]string{
		"an open transaction":   {`BEGIN`, campaign, `UPDATE scheduler.campaigns SET name = name || '!'`, `SELECT FROM scheduler.campaigns FOR UPDATE`, `SELECT pg_sleep(5)`, `COMMIT`},
		"locks on tables":       {`BEGIN`, `LOCK TABLE scheduler.campaigns, scheduler.campaign_targets`, `ROLLBACK`},
		"advisory locks":        {`SELECT pg_advisory_lock(c, n) FROM generate_series(1397572688, 1397572691) c, generate_series(1, 200) n`, `SELECT pg_sleep(5)`, `SELECT pg_advisory_unlock_all()`},
		"a flood of campaigns":  {campaign + ` FROM generate_series(1, 500)`},
		"a load of targets":     {`WITH c AS (` + campaign + ` RETURNING id) INSERT INTO scheduler.campaign_targets (campaign_id, target) SELECT id, 't' || n FROM c, generate_series(1, 20000) n`},
		"a flood of changes":    {`UPDATE scheduler.campaigns SET name = name || '?' WHERE id IN (SELECT id FROM scheduler.campaigns ORDER BY id DESC LIMIT 200)`},
		"a flood of hints":      {`SELECT pg_notify('scheduler_changes', n::text) FROM generate_series(1, 10000) n`},
		"deleting what is much": {`SELECT scheduler.delete_campaign(id) FROM scheduler.campaigns ORDER BY id LIMIT 500`},
	} {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := repeat(ctx, db, deed); err != nil && !errors.Is(err, context.Canceled) && b.verbose {
					b.say("hostile: %s: %v", name, err)
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// repeat does a deed again and again on one connection, until that breaks.
func repeat(ctx context.Context, db *database, deed []string) error {
	conn, err := db.as(ctx, "bench_hostile")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil && !conn.IsClosed() {
		for _, sql := range deed {
			if _, err := conn.Exec(ctx, sql); err != nil {
				_, _ = conn.Exec(ctx, `ROLLBACK`)
				break
			}
		}
		if err := sleepUntil(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
	"github.com/campaign-scheduler/scheduler/store"
	"github.com/campaign-scheduler/scheduler/strategy"
)

// settings are what the server runs with beside its defaults. Durability is the
// default: everything that says so is named here to be seen in the table.
var settings = map[string]string{
	"fsync":              "on",
	"synchronous_commit": "on",
	"full_page_writes":   "on",
	"shared_buffers":     "2GB",
	"max_wal_size":       "8GB",
	"max_connections":    "200",
}

// A postgres is the one server of a run.
type postgres struct{ server *embedpg.Server }

func startPostgres(ctx context.Context, dir string, statements bool) (*postgres, error) {
	if statements {
		settings["shared_preload_libraries"] = "pg_stat_statements"
		settings["pg_stat_statements.track"] = "all"
		settings["pg_stat_statements.track_planning"] = "on"
	}
	s, err := embedpg.Start(ctx, embedpg.Config{Dir: filepath.Join(dir, "postgres"), Settings: settings})
	if err != nil {
		return nil, err
	}
	return &postgres{s}, nil
}

func (p *postgres) stop() { _ = p.server.Stop() }

// A database is one of its databases, with a pool for the suite's own use.
type database struct {
	*pgxpool.Pool
	url string
}

// create makes a database anew.
func (p *postgres) create(ctx context.Context, name string) (*database, error) {
	conn, err := pgx.Connect(ctx, p.server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	for _, stmt := range []string{"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)", "CREATE DATABASE " + name} {
		if _, err := conn.Exec(ctx, stmt); err != nil {
			return nil, fmt.Errorf("%s: %w", stmt, err)
		}
	}
	d := &database{url: p.server.URL(name)}
	d.Pool, err = pgxpool.New(ctx, d.url)
	return d, err
}

// open returns a database that an earlier run made.
func (p *postgres) open(ctx context.Context, name string) (d *database, err error) {
	d = &database{url: p.server.URL(name)}
	d.Pool, err = pgxpool.New(ctx, d.url)
	return d, err
}

// scheduler makes a database with the scheduler's schema.
func (p *postgres) scheduler(ctx context.Context, name string) (*database, error) {
	d, err := p.create(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := store.NewMigrator(d.url, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := m.Up(ctx); err != nil {
		return nil, err
	}
	if err := d.knowZone(ctx, "Asia/Shanghai"); err != nil {
		return nil, err
	}
	if settings["shared_preload_libraries"] != "" {
		_, err = d.Exec(ctx, `CREATE EXTENSION pg_stat_statements`)
	}
	return d, err
}

// knowZone records that what is stored follows the zone's rules: due times here have
// fractions of a second, and a daemon that finds new rules would plan them anew.
func (d *database) knowZone(ctx context.Context, zone string) error {
	rules, _ := strategy.ZoneRules(zone)
	_, err := d.Exec(ctx, `INSERT INTO scheduler.zone_rules (time_zone, rules, daemon, campaigns) VALUES ($1, $2, 'bench', 0)`, zone, rules)
	return err
}

// settle writes out what earlier runs left behind and brings statistics up to
// date, so that each run begins alike.
func (d *database) settle(ctx context.Context) error {
	for _, stmt := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := d.Exec(ctx, stmt); err != nil {
			return err
		}
	}
	if settings["shared_preload_libraries"] != "" {
		_, _ = d.Exec(ctx, "SELECT pg_stat_statements_reset()")
	}
	return nil
}

// dearest prints the statements that took the most time since settle.
func (b *bench) dearest(ctx context.Context, d *database) error {
	if !b.statements {
		return nil
	}
	rows, _ := d.Query(ctx, `
		SELECT format('%8s calls %9s ms %7s planning %7s rows  %s', calls, round(total_exec_time)::int, round(total_plan_time)::int, rows, left(regexp_replace(query, '\s+', ' ', 'g'), 110))
		  FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		 ORDER BY total_exec_time + total_plan_time DESC LIMIT 16`)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil {
		b.say("dearest statements:\n%s", strings.Join(lines, "\n"))
	}
	return err
}

func (p *postgres) show(ctx context.Context) (string, error) {
	conn, err := pgx.Connect(ctx, p.server.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return "", err
	}
	out := []string{"PostgreSQL " + version}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "max_wal_size", "max_connections"} {
		var value string
		if err := conn.QueryRow(ctx, "SHOW "+name).Scan(&value); err != nil {
			return "", err
		}
		out = append(out, name+" = "+value)
	}
	return strings.Join(out, ", "), nil
}

//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/api"
	"github.com/campaign-scheduler/scheduler/store"
)

const (
	apiCallers = 4
	apiTargets = 100
	apiRole    = "bench_api"
)

// frontAPI is PushMultiple calls of 100 targets, signed, judged and stored
// durably, against the same rows by one prepared SQL transaction each, by the same
// role. Both have as many callers; the daemon is not there, so that nothing else is done.
func frontAPI(ctx context.Context, b *bench) error {
	db, err := b.pg.scheduler(ctx, "bench_api")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := b.register(ctx, db, 100); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{URL: db.url, MaxConns: apiCallers})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.PrepareTrial(ctx, apiRole); err != nil {
		return err
	}
	server, err := api.New(ctx, api.Config{
		Listen: "127.0.0.1:0", Store: s, Now: time.Now, Log: b.logger(),
		Compile: func(_, _ string, r dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
			return mpaas.Adapter{}.Compile(r)
		},
		Clients: []api.Client{{AccessKeyID: "bench", AccessKeySecret: "secret", Role: apiRole}},
	})
	if err != nil {
		return err
	}
	server.Start()
	defer func() { _ = server.Stop(context.WithoutCancel(ctx)) }()
	author, err := db.poolAs(ctx, apiRole)
	if err != nil {
		return err
	}
	defer author.Close()
	n := b.calls / 40
	var ours, theirs sample
	for range b.rounds {
		for _, contestant := range []struct {
			one  func(context.Context, int) error
			into *sample
		}{{func(ctx context.Context, i int) error { return callAPI(ctx, server.URL(), i) }, &ours}, {author.insertCampaign, &theirs}} {
			if _, err := db.Exec(ctx, `TRUNCATE scheduler.campaigns, scheduler.campaign_changes, scheduler.api_nonces CASCADE`); err != nil {
				return err
			}
			if err := db.settle(ctx); err != nil {
				return err
			}
			stop, err := b.profile()
			if err != nil {
				return err
			}
			took, err := shared(ctx, n, contestant.one)
			stop()
			if err != nil {
				return err
			}
			*contestant.into = append(*contestant.into, rate(n, took))
		}
		b.say("API: %.0f calls, SQL %.0f transactions per second", last(ours), last(theirs))
	}
	goal := atLeast(0.6)
	b.table.compare("PushMultiple by the API, 100 targets each, stored", &goal, perSecond, ours, "one prepared SQL transaction each", theirs)
	return nil
}

// shared does n things with apiCallers callers.
func shared(ctx context.Context, n int, one func(context.Context, int) error) (time.Duration, error) {
	var wait sync.WaitGroup
	var once sync.Once
	var failed error
	began := time.Now()
	for caller := range apiCallers {
		wait.Go(func() {
			for i := caller; i < n; i += apiCallers {
				if err := one(ctx, i); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	wait.Wait()
	return time.Since(began), failed
}

var apiKey = aliyun.NewKey("bench", "secret", "")

// pushParams are those of the ith call.
func pushParams(i int) map[string]string {
	params := map[string]string{
		"AppId": appID(i%benchApps + 1), "WorkspaceId": workspace, "TaskName": "bench", "DeliveryType": "3", "ExpiredSeconds": "600", "TemplateName": "t",
		"StrategyType": "1", "StrategyContent": fixedContent(),
	}
	for k := 1; k <= apiTargets; k++ {
		at := "TargetMsg." + strconv.Itoa(k) + "."
		params[at+"Target"], params[at+"MsgKey"] = fmt.Sprintf("user-%d", k), fmt.Sprintf("key-%d-%d", i, k)
		params[at+"TemplateKeyValue"] = targetValues
	}
	return params
}

func callAPI(ctx context.Context, endpoint string, i int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, aliyun.SignURL(endpoint, apiKey, "PushMultiple", pushParams(i), rand.Text(), time.Now()), nil)
	if err != nil {
		return err
	}
	resp, err := apiClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct{ ResultCode string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.ResultCode != "OK" {
		return fmt.Errorf("HTTP %d %s", resp.StatusCode, body)
	}
	return nil
}

var apiClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: apiCallers}}

const targetValues = `{"name":"Zhang San"}`

func fixedContent() string {
	return fmt.Sprintf(`{"fixedTime":%d}`, time.Now().Add(time.Hour).UnixMilli())
}

// poolAs is the database through a pool that acts as a role, as its own login would.
func (d *database) poolAs(ctx context.Context, role string) (*database, error) {
	cfg, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = apiCallers
	cfg.ConnConfig.RuntimeParams["role"] = role
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	return &database{Pool: pool, url: d.url}, err
}

// insertCampaign writes what such a call does.
func (d *database) insertCampaign(ctx context.Context, i int) error {
	targets, keys, values := make([]string, apiTargets), make([]string, apiTargets), make([]string, apiTargets)
	for k := range apiTargets {
		targets[k], keys[k], values[k] = fmt.Sprintf("user-%d", k+1), fmt.Sprintf("key-%d-%d", i, k+1), targetValues
	}
	return pgx.BeginFunc(ctx, d.Pool, func(tx pgx.Tx) error {
		var id int64
		err := tx.QueryRow(ctx, `
			INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
			VALUES ('bench', $1, $2, 'mpaas.push_multiple', 1, $3::text::jsonb, '{"deliveryType": 3, "expiredSeconds": 600, "templateName": "t"}') RETURNING id`,
			appID(i%benchApps+1), workspace, fixedContent()).Scan(&id)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO scheduler.campaign_targets (campaign_id, target, msg_key, template_key_value)
			SELECT $1, u.target, u.msg_key, u.key_value::jsonb FROM unnest($2::text[], $3::text[], $4::text[]) AS u (target, msg_key, key_value)`, id, targets, keys, values)
		return err
	})
}

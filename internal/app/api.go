package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/api"
	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
	"github.com/campaign-scheduler/scheduler/store"
)

// defaultAPIListen is the default address of the API with the embedded database.
const defaultAPIListen = "127.0.0.1:8081"

// trialRole is the role that owns the campaigns of the trial key.
const trialRole = "scheduler_api_trial"

// prepareAPI binds the listener of the mPaaS API, if one is configured.
func (a *App) prepareAPI(ctx context.Context) error {
	c := &a.Config.API
	if c.Listen == "" && a.postgres == nil {
		return nil
	}
	clients := apiClients(c.Clients)
	if len(clients) == 0 && a.postgres != nil {
		trial, err := a.trialClient(ctx)
		if err != nil {
			return err
		}
		clients, a.trial = []api.Client{trial}, &trial
	}
	url := c.DatabaseURL.Reveal()
	if url == "" {
		url = a.databaseURL
	}
	s, err := store.Open(ctx, store.Config{
		URL: url, MaxConns: c.MaxConnections, ConnectTimeout: a.Config.Database.ConnectTimeout, StatementTimeout: a.Config.Database.StatementTimeout,
	})
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	a.closers = append(a.closers, closer{"api database pool", func(context.Context) error { s.Close(); return nil }})
	cfg := api.Config{
		Listen: c.Listen, CertFile: c.CertFile, KeyFile: c.KeyFile, BehindProxy: c.BehindProxy, Store: s, Compile: a.registry.compileFor,
		Now: func() time.Time { return a.engine.Clock().Now() }, Clients: clients, MaxInFlight: c.MaxInFlight, CallsPerSecond: c.CallsPerSecond,
		Log: a.Log, Metrics: a.metrics,
	}
	if cfg.Listen == "" {
		cfg.Listen = defaultAPIListen
	}
	if a.api, err = api.New(ctx, cfg); c.Listen == "" && errors.Is(err, syscall.EADDRINUSE) {
		cfg.Listen = "127.0.0.1:0" // nobody asked for that port
		a.api, err = api.New(ctx, cfg)
	}
	if err != nil {
		return err
	}
	a.closers = append(a.closers, closer{"api listener", a.api.Stop})
	return nil
}

func apiClients(clients []config.Client) []api.Client {
	out := make([]api.Client, len(clients))
	for i, c := range clients {
		out[i] = api.Client{
			AccessKeyID: c.AccessKeyID, AccessKeySecret: c.AccessKeySecret.Reveal(), SecurityToken: c.SecurityToken.Reveal(), Role: c.Role,
		}
	}
	return out
}

// trialClient makes a trial key, which is valid until the daemon ends. Its role may
// use the configured apps. It is for the embedded database only, where the daemon's
// login may create roles.
func (a *App) trialClient(ctx context.Context) (api.Client, error) {
	if err := a.store.PrepareTrial(ctx, trialRole); err != nil {
		return api.Client{}, err
	}
	id, secret := api.NewAccessKey()
	return api.Client{AccessKeyID: id, AccessKeySecret: secret, Role: trialRole}, nil
}

// describeAPI writes the trial key and the address of the API, if there is a trial
// key, and with the sandbox an example call.
func (a *App) describeAPI(w io.Writer) {
	if a.trial == nil {
		return
	}
	fmt.Fprintf(w, "\nFor Alibaba Cloud's clients of mPaaS, until this daemon ends:\n  endpoint %s  access key id %s  secret %s\n",
		a.api.URL(), a.trial.AccessKeyID, a.trial.AccessKeySecret)
	if a.sandbox == nil {
		return
	}
	now := a.engine.Clock().Now()
	key := aliyun.NewKey(a.trial.AccessKeyID, a.trial.AccessKeySecret, "")
	call := aliyun.SignURL(a.api.URL(), key, "PushSimple", map[string]string{
		"AppId": sandbox.DefaultMPaaSApp, "WorkspaceId": sandbox.DefaultWorkspace, "TaskName": "hello by API", "DeliveryType": "3", "ExpiredSeconds": "600",
		"Title": "hello", "Content": "world", "TargetMsgkey": `{"user-1":"hello-1"}`,
		"StrategyType": "1", "StrategyContent": fmt.Sprintf(`{"fixedTime":%d}`, now.Add(time.Minute).UnixMilli()),
	}, rand.Text(), now)
	fmt.Fprintf(w, "A signed call, good once and for 15 minutes:\n  curl '%s'\n", call)
}

// reloadAPI takes over the access keys of a new configuration. If it has none, a
// trial key stays valid.
func (a *App) reloadAPI(c config.API) {
	if a.api == nil {
		return
	}
	clients := apiClients(c.Clients)
	if len(clients) == 0 && a.trial != nil {
		clients = []api.Client{*a.trial}
	}
	a.api.SetClients(clients, c.CallsPerSecond)
}

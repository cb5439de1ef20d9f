package app

import (
	"context"
	"path/filepath"

	"github.com/campaign-scheduler/scheduler/internal/config"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// startSandbox starts the stand-in push APIs and returns an app for each
// provider, with credentials that only the sandbox takes.
func (a *App) startSandbox(ctx context.Context) ([]config.App, error) {
	credentials, err := sandbox.DefaultApps(filepath.Join(a.Config.DataDir, "sandbox"))
	if err != nil {
		return nil, err
	}
	faults, err := sandbox.ParseFaults(a.Config.Sandbox.Faults)
	if err != nil {
		return nil, err
	}
	s, err := sandbox.New(sandbox.Config{
		Listen: a.Config.Sandbox.Listen, JournalPath: a.Config.Sandbox.Journal, Faults: faults, Apps: credentials.Apps, Logger: a.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, err
	}
	a.sandbox = s
	a.closers = append(a.closers, closer{"sandbox", s.Stop})
	settings := credentials.For(s.URL())
	apps := make([]config.App, len(settings))
	for i, set := range settings {
		options := make(map[string]config.Secret, len(set.Options))
		for k, v := range set.Options {
			options[k] = config.Secret(v)
		}
		apps[i] = config.App{AppID: set.AppID, WorkspaceID: set.WorkspaceID, Provider: set.Provider, Endpoint: set.Endpoint, Options: options}
	}
	a.sandboxApps = apps
	return apps, nil
}

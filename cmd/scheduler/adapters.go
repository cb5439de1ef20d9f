package main

import (
	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// adapters lists every provider that the program can push through. Only this list
// and the sandbox name all of them.
func adapters() []dispatch.Adapter {
	return []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}}
}

// providers returns the adapters as the configuration needs them.
func providers() []config.Provider {
	var all []config.Provider
	for _, a := range adapters() {
		all = append(all, a)
	}
	return all
}

// channel returns a channel and its adapter by the channel's name. names are the
// names of all channels, for the message where no channel has that name.
func channel(name string) (adapter dispatch.Adapter, names []string) {
	for _, a := range adapters() {
		for _, c := range a.Channels() {
			if c.Name == name {
				adapter = a
			}
			names = append(names, c.Name)
		}
	}
	return adapter, names
}

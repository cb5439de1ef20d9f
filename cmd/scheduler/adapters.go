package main

import (
	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/alipay"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
	"github.com/campaign-scheduler/scheduler/internal/config"
)

// adapters lists every provider the program can push through. This and the
// sandbox are the only places that know them all.
func adapters() []dispatch.Adapter {
	return []dispatch.Adapter{mpaas.Adapter{}, alipay.Adapter{}, webhook.Adapter{}}
}

// providers is the list as the configuration sees it.
func providers() []config.Provider {
	var all []config.Provider
	for _, a := range adapters() {
		all = append(all, a)
	}
	return all
}

// channel finds a channel and its adapter by the channel's name; all names are
// given for when there is none.
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

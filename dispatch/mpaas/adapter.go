package mpaas

import (
	"context"
	"slices"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// Adapter is the dispatch.Adapter of provider "mpaas".
type Adapter struct{}

var _ dispatch.Adapter = Adapter{}

// How many targets one call may carry [doc].
const (
	maxMapped   = 10
	maxMultiple = 100
)

// A channel is a dispatch.Channel and the action it calls.
type channel struct {
	dispatch.Channel
	action action
}

var channels = []channel{
	{dispatch.Channel{Name: "mpaas.push_simple", MaxTargets: maxMapped}, simple},
	{dispatch.Channel{Name: "mpaas.push_template", MaxTargets: maxMapped}, template},
	{dispatch.Channel{Name: "mpaas.push_multiple", MaxTargets: maxMultiple}, multiple},
	{dispatch.Channel{Name: "mpaas.push_broadcast"}, broadcast},
}

// Provider returns "mpaas".
func (Adapter) Provider() string { return "mpaas" }

// Channels returns the four pushes.
func (Adapter) Channels() []dispatch.Channel {
	list := make([]dispatch.Channel, len(channels))
	for i, c := range channels {
		list[i] = c.Channel
	}
	return list
}

func findChannel(name string) (channel, bool) {
	i := slices.IndexFunc(channels, func(c channel) bool { return c.Name == name })
	if i < 0 {
		return channel{}, false
	}
	return channels[i], true
}

// The options of an app.
const (
	optionKeyID  = "access_key_id"
	optionSecret = "access_key_secret"
	optionToken  = "security_token"
	optionRegion = "region"
)

// Options returns the credentials and the region.
func (Adapter) Options() []dispatch.Option {
	return []dispatch.Option{
		{Name: optionKeyID, Required: true, Help: "access key id of a RAM user with AliyunMPAASFullAccess"},
		{Name: optionSecret, Required: true, Secret: true, Help: "access key secret"},
		{Name: optionToken, Secret: true, Help: "security token, when the access key is a temporary one of STS"},
		{Name: optionRegion, Help: "region that chooses the endpoint when none is given; " + defaultRegion + " by default"},
	}
}

// Reach implements dispatch.Reacher.
func (p *pusher) Reach(ctx context.Context) error { return p.client.Reach(ctx, p.endpoint) }

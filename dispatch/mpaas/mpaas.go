// Package mpaas sends pushes through Alibaba Cloud's mPaaS Message Push Service:
// PushSimple, PushTemplate, PushMultiple and PushBroadcast, version 2020-10-28.
//
// # Where a rule comes from
//
// Rules in this package carry a mark: [doc] the service's documentation, [sdk]
// read from an official SDK, [tested] measured against an official SDK's own
// requests, [inferred] our reading. None was tried against the live service.
//
//   - Parameters, their types, enumerations and limits: rules.go [doc].
//   - Wire names, the order of keys, maps as JSON texts, objects as dotted keys:
//     rules.go, form.go [sdk], compared with recorded requests [tested].
//   - Signature ACS3-HMAC-SHA256: push.go [tested].
//   - Throttled calls have status 400, so only their code tells: answer.go [doc].
//     That TimeLeft in the rate headers is in milliseconds is [inferred].
//   - Business errors come with HTTP 200 [inferred]; codes: answer.go [doc].
//   - Analytics and tag audiences: rules.go [inferred].
//
// # What we decided where the documents leave it open
//
//   - Names are taken in the documents' spelling (expiredSeconds) and the wire's
//     (ExpiredSeconds), never both for one parameter.
//   - Whole numbers may be written as JSON numbers or as strings of digits: both
//     are the same on the wire. 3.0 and 3e0 are refused. A number in the place of
//     a string is refused too.
//   - Maps may be written as objects or as strings that hold one.
//   - appId, workspaceId, taskName, strategyType and strategyContent are columns of
//     the campaign and refused in a request, whatever they hold. Every call carries
//     StrategyType 0: the schedule is ours.
//   - msgKeys may be left out: the engine makes them. An author's own key becomes
//     a part of the engine's.
//   - Values of one target (templateKeyValue, extendedParams) can be sent by
//     mpaas.push_multiple alone. In another channel such a target makes the call
//     invalid, since to leave the values out would push the wrong text.
//   - Live Activity fields are taken with any delivery type, since the documents
//     list them among the parameters common to all pushes.
//
// # Outcomes
//
// The service documents no idempotency. A call whose result is not certain is
// therefore unknown. Everything that the documents do not name is uncertain: an
// HTML body, a result code that is not in the tables, an OK without
// PushResult.Success.
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

// A channel is a dispatch.Channel with the action that it calls.
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

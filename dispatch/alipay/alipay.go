// Package alipay sends messages through Alipay's OpenAPI v3: label, total, group
// and single sends.
//
// The client is our own, on the standard library's crypto: there is no official
// Go SDK for this platform, and the unofficial ones do not verify answers. Its
// bytes are held against requests recorded from the official Node SDK.
//
// Alipay has no idempotency key, and a label send has not even a message id. So
// whatever leaves open whether a message was taken is classed as unknown.
package alipay

import (
	"context"

	"github.com/campaign-scheduler/scheduler/dispatch"
)

// Adapter is the dispatch.Adapter of provider "alipay". The zero value is ready
// for use.
type Adapter struct{}

var _ dispatch.Adapter = Adapter{}

// weeklyQuota is Alipay's published limit: at most 5 calls a week for each of
// the interfaces that reach many.
const weeklyQuota = 5

// An api is one interface of Alipay and the rules of its requests.
type api struct {
	channel dispatch.Channel
	path    string
	rule    rule
}

const pathPrefix = "/v3/alipay/open/public/message/"

// apis is a list, so that channels are always named in the same order.
var apis = []api{
	{dispatch.Channel{Name: "alipay.label_send", WeeklyQuota: weeklyQuota}, pathPrefix + "label/send", labelSend},
	{dispatch.Channel{Name: "alipay.total_send", WeeklyQuota: weeklyQuota}, pathPrefix + "total/send", totalSend},
	{dispatch.Channel{Name: "alipay.group_send", WeeklyQuota: weeklyQuota}, pathPrefix + "group/send", groupSend},
	{dispatch.Channel{Name: "alipay.single_send", MaxTargets: 1}, pathPrefix + "single/send", singleSend},
}

// Provider returns "alipay".
func (Adapter) Provider() string { return "alipay" }

// Channels returns the four interfaces.
func (Adapter) Channels() []dispatch.Channel {
	channels := make([]dispatch.Channel, len(apis))
	for i, a := range apis {
		channels[i] = a.channel
	}
	return channels
}

func apiOf(channel string) (api, bool) {
	for _, a := range apis {
		if a.channel.Name == channel {
			return a, true
		}
	}
	return api{}, false
}

// Reach implements dispatch.Reacher.
func (p *pusher) Reach(ctx context.Context) error { return p.client.Reach(ctx, p.endpoint) }

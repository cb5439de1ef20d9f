package alipay

import "context"

// Reach implements dispatch.Reacher.
func (p *pusher) Reach(ctx context.Context) error { return p.client.Reach(ctx, p.endpoint) }

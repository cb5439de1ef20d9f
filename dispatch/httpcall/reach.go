package httpcall

import (
	"context"
	"net/url"
)

// Reach makes a connection as a call to the URL would, with its guard and TLS,
// sends nothing, and closes it. With a transport of somebody else's there is
// nothing to try, and it is nil.
func (c *Client) Reach(ctx context.Context, to *url.URL) error {
	if c.pool == nil {
		return nil
	}
	conn, err := c.pool.open(ctx, hostOf(&Request{URL: to}))
	if err != nil {
		return because(ctx, err)
	}
	return conn.Close()
}

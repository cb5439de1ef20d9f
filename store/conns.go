package store

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// trackedConns are the network connections beneath the pool. When the database hangs
// or the network loses everything, calls wait for their deadlines. Tracked connections
// can be cut as soon as it is known that no answer will come.
type trackedConns struct {
	mu  sync.Mutex
	all map[*trackedConn]struct{}
}

// dial makes a connection and keeps track of it. It notices a peer that is gone
// without closing the connection within some 20 seconds, if nothing else
// notices sooner.
func (w *trackedConns) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: conn, owner: w}
	c.hear()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[c] = struct{}{}
	return c, nil
}

// cutAll closes every connection.
func (w *trackedConns) cutAll() { w.cut(time.Unix(1<<40, 0)) }

// cut closes the connections on which nothing has come since the given moment.
func (w *trackedConns) cut(since time.Time) {
	w.mu.Lock()
	var silent []*trackedConn
	for c := range w.all {
		if time.Unix(0, c.heard.Load()).Before(since) {
			silent = append(silent, c)
		}
	}
	w.mu.Unlock()
	for _, c := range silent {
		_ = c.Close()
	}
}

// A trackedConn is a connection that knows when something last came on it.
type trackedConn struct {
	net.Conn
	owner *trackedConns
	heard atomic.Int64 // Unix nanoseconds
}

func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.hear()
	}
	return n, err
}

func (c *trackedConn) hear() {
	c.heard.Store(time.Now().UnixNano()) //nolint:forbidigo // when bytes arrived is this machine's to say
}

func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.all, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

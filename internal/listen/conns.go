package listen

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// conns are a listener's open connections. Those that no handler serves now wait
// in a list, the longest first; they are what is closed to make room, so that
// whoever asks something is served however many only hold a connection.
type conns struct {
	most int

	mu      sync.Mutex
	open    int
	waiting *list.List // of *conn
}

func newConns(most int) *conns { return &conns{most: most, waiting: list.New()} }

// A conn is one of them.
type conn struct {
	net.Conn
	all *conns

	serving int           // requests; HTTP/2 has many on one connection
	place   *list.Element // in waiting; nil while it is served or gone
	gone    bool
}

// bound makes the listener give out connections that are counted.
func (c *conns) bound(l net.Listener) net.Listener { return &boundListener{Listener: l, all: c} }

type boundListener struct {
	net.Listener
	all *conns
}

// Accept never keeps a newcomer waiting: it closes somebody else's, or the new one.
func (l *boundListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.all.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.Close()
	}
}

func (c *conns) admit(raw net.Conn) *conn {
	c.mu.Lock()
	var victim *conn
	if c.open >= c.most {
		if c.waiting.Len() == 0 {
			c.mu.Unlock()
			return nil
		}
		victim = c.waiting.Front().Value.(*conn)
		c.leave(victim)
	}
	in := &conn{Conn: raw, all: c}
	c.open++
	in.place = c.waiting.PushBack(in)
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close()
	}
	return in
}

// leave takes a connection out of the count. The lock is held.
func (c *conns) leave(x *conn) {
	if x.gone {
		return
	}
	x.gone = true
	c.open--
	if x.place != nil {
		c.waiting.Remove(x.place)
		x.place = nil
	}
}

// Close closes the connection, and makes room.
func (x *conn) Close() error {
	x.all.mu.Lock()
	x.all.leave(x)
	x.all.mu.Unlock()
	return x.Conn.Close()
}

type connKey struct{}

// remember has a request know its connection, also under TLS.
func (c *conns) remember(ctx context.Context, raw net.Conn) context.Context {
	if under, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = under.NetConn()
	}
	return context.WithValue(ctx, connKey{}, raw)
}

// serving keeps connections whose requests are being served from being closed.
func (c *conns) serving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		c.serve(x, 1)
		defer c.serve(x, -1)
		next.ServeHTTP(w, r)
	})
}

func (c *conns) serve(x *conn, change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.serving += change
	switch {
	case x.gone:
	case x.serving > 0 && x.place != nil:
		c.waiting.Remove(x.place)
		x.place = nil
	case x.serving == 0 && x.place == nil:
		x.place = c.waiting.PushBack(x)
	}
}

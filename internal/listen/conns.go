package listen

import (
	"container/list"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// conns are a listener's open connections. Connections that no handler serves
// now are in a list, those that have waited longest first. They are closed to
// make room, so that clients with a request are served however many others only
// hold a connection.
type conns struct {
	most int

	mu      sync.Mutex
	open    int
	waiting *list.List // of *conn
}

func newConns(most int) *conns { return &conns{most: most, waiting: list.New()} }

// A conn is an open connection of a listener.
type conn struct {
	net.Conn
	all *conns

	serving int           // one while a handler works on its request
	place   *list.Element // its place in waiting; nil while it is served or closed
	gone    bool
}

// bound makes the listener return connections that are counted.
func (c *conns) bound(l net.Listener) net.Listener { return &boundListener{Listener: l, all: c} }

type boundListener struct {
	net.Listener
	all *conns
}

// Accept never lets a new connection wait: when there are too many, it closes
// another one, or the new one.
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

// SetLinger is the method of net.TCPConn: with zero, Close resets the connection.
func (x *conn) SetLinger(seconds int) error {
	tcp, ok := x.Conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	return tcp.SetLinger(seconds)
}

type connKey struct{}

// remember puts a request's connection into its context, also under TLS.
func (c *conns) remember(ctx context.Context, raw net.Conn) context.Context {
	if under, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = under.NetConn()
	}
	return context.WithValue(ctx, connKey{}, raw)
}

// serving keeps connections whose requests are being served from being closed, and
// bounds the requests' bodies.
func (c *conns) serving(next http.Handler, maxBody int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			http.Error(w, "this connection is not counted", http.StatusInternalServerError)
			return
		}
		if r.ProtoMajor != 1 {
			w.Header().Set("Connection", "close")
			http.Error(w, "HTTP/1.1 is spoken here", http.StatusHTTPVersionNotSupported)
			return
		}
		if len(r.TransferEncoding) > 0 { // net/http does not tell of a length beside it; the bytes that follow may not be the client's request
			w.Header().Set("Connection", "close")
		}
		body := &body{ReadCloser: http.MaxBytesReader(w, r.Body, maxBody), conn: x}
		if r.Body != http.NoBody {
			r.Body = body
		}
		c.serve(x, 1)
		defer c.serve(x, -1)
		defer body.waits(false)
		next.ServeHTTP(w, r)
	})
}

// A body is a request's body, which the client may send as slowly as it likes.
// While the body is read, nobody works on the request.
type body struct {
	io.ReadCloser
	conn    *conn
	waiting bool
}

// Read keeps the connection's place in the list from its first call on, so that a
// slow body does not make the connection look new with each byte.
func (b *body) Read(p []byte) (int, error) {
	b.waits(true)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.waits(false)
	}
	return n, err
}

func (b *body) waits(now bool) {
	if now == b.waiting {
		return
	}
	b.waiting = now
	if now {
		b.conn.all.serve(b.conn, -1)
	} else {
		b.conn.all.serve(b.conn, 1)
	}
}

// Rest says that nobody works on the request of ctx, whose answer is kept back.
// Its connection may be closed to make room until over is called.
func Rest(ctx context.Context) (over func()) {
	x, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return func() {}
	}
	x.all.serve(x, -1)
	return func() { x.all.serve(x, 1) }
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

package httpcall

import (
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	connectTimeout = 10 * time.Second
	// idleTimeout is shorter than the 15 s after which the hastiest of the usual
	// load balancers close an idle connection. A connection closed by the other
	// side just as a request is written to it leaves an outcome unknown, and
	// costs an operator far more than a handshake costs us.
	idleTimeout = 10 * time.Second
	// maxIdle is how many idle connections are kept for a burst on the next
	// second.
	maxIdle = 1024
	// writeBuffer holds a header and a body of 100 targets, so that a call is one
	// write to its connection.
	writeBuffer = 32 << 10
)

// shared is the transport of every Client that has none of its own.
var shared = sync.OnceValue(NewTransport)

// NewTransport returns the transport that calls are made on. It speaks HTTP/1.1
// only, because only there is it certain what was written when a call fails; it
// takes no proxy from the environment, which could see a call and answer it; and
// it has no timeout for a whole call, which is its context's. The caller may
// change it before its first use.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              protocols,
		TLSHandshakeTimeout:    connectTimeout,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        writeBuffer,
		DisableCompression:     true,
	}
}

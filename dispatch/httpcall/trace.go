package httpcall

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// What a call's trace has seen.
const (
	sawGetConn uint32 = 1 << iota // a connection was asked for
	sawGotConn                    // one was obtained
	sawWrite                      // something of the request may have been written to it
	sawAnswer                     // the first byte of an answer came
)

// trace records how far a call went. Its hooks run on net/http's goroutines.
type trace struct{ seen atomic.Uint32 }

func (t *trace) load() uint32 { return t.seen.Load() }

func (t *trace) mark(bit uint32) { t.seen.Or(bit) }

// attach returns ctx with the hooks. The write is marked at the first header
// field rather than after the last, because a long header reaches the connection
// in pieces. net/http ends its writing goroutine before it returns an error, so
// no mark can come later than the error.
func (t *trace) attach(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { t.mark(sawGetConn) },
		GotConn:              func(httptrace.GotConnInfo) { t.mark(sawGotConn) },
		WroteHeaderField:     func(string, []string) { t.mark(sawWrite) },
		WroteHeaders:         func() { t.mark(sawWrite) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { t.mark(sawWrite) },
		GotFirstResponseByte: func() { t.mark(sawAnswer) },
	})
}

// isCut reports whether err is the end of a connection rather than an answer
// that net/http could not read.
func isCut(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
}

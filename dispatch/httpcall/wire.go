package httpcall

import (
	"errors"
	"net"
)

// maxHead bounds an answer's header, in bytes.
const maxHead = 64 << 10

var errHeadTooLong = errors.New("the answer's header is too long")

// A wire is a connection below TLS that counts what it took, and bounds what is
// read from it.
type wire struct {
	net.Conn
	wrote  int // bytes of the call under way that have left, or may have
	budget int // bytes that may still be read
}

// Write writes and counts.
func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.wrote += n
	return n, err
}

// Read reads within the budget.
func (w *wire) Read(b []byte) (int, error) {
	if w.budget <= 0 {
		return 0, errHeadTooLong
	}
	n, err := w.Conn.Read(b[:min(len(b), w.budget)])
	w.budget -= n
	return n, err
}

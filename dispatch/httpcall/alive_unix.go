//go:build unix

package httpcall

import (
	"errors"
	"syscall"
)

// alive reports that the other side has neither closed the connection nor sent
// bytes that nobody asked for. It does not wait. Without this check, a call on a
// connection that was closed while it was idle would have an unknown outcome.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	nothing := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		nothing = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && nothing
}

package httpcall

import (
	"crypto/x509"
	"net"
	"syscall"
)

// IdleTimeout is when an idle connection is closed.
const IdleTimeout = idleTimeout

// NewGuardedClient returns a Client on connections of its own, each of which
// control may refuse, by its address, before it is made. See net.Dialer.
func NewGuardedClient(control func(network, address string, c syscall.RawConn) error) *Client {
	return &Client{pool: newPool(control)}
}

// Trust makes a Client with connections of its own trust a certificate.
func Trust(c *Client, cert *x509.Certificate) {
	c.pool.tls.RootCAs = x509.NewCertPool()
	c.pool.tls.RootCAs.AddCert(cert)
}

// PutBy gives a Client an idle connection.
func PutBy(c *Client, to net.Conn) {
	c.pool.put(host{name: "a.example"}, &conn{Conn: to})
}

// Idle counts a Client's idle connections.
func Idle(c *Client) int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	n := 0
	for _, list := range c.pool.idle {
		n += len(list)
	}
	return n
}

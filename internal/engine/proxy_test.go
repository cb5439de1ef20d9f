package engine_test

import (
	"net"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/campaign-scheduler/scheduler/internal/badnet"
)

// newProxy starts a proxy before a database and returns the URL that leads
// through it.
func newProxy(t *testing.T, database string) (p *badnet.Proxy, through string) {
	t.Helper()
	c, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	_, address := pgconn.NetworkAddress(c.Host, c.Port)
	if p, err = badnet.NewProxy(func() string { return address }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: p.Addr(), Path: "/" + c.Database,
		RawQuery: "sslmode=disable",
	}
	return p, u.String()
}

func heal(t *testing.T, _ *rig, p *badnet.Proxy) {
	t.Helper()
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
}

// noRoom is what a server says that has no room, once it was asked.
func noRoom(client net.Conn) {
	buf := make([]byte, 1024)
	if _, err := client.Read(buf); err != nil {
		return
	}
	refusal := pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
	if text, err := refusal.Encode(nil); err == nil {
		_, _ = client.Write(text)
	}
}

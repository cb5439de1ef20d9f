package httpcall

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// connect is how net/http is told to read a proxy's answer.
var connect = &http.Request{Method: http.MethodConnect}

var errEager = errors.New("the proxy sent more than its answer")

// tunnel asks a proxy for a connection to a host. Nothing of a call is sent
// before it stands, so that whatever fails here was certainly not sent. What the
// proxy says beyond its status is not repeated: it may be anything.
func tunnel(ctx context.Context, to net.Conn, proxy *url.URL, h host) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	undisturbed := context.AfterFunc(ctx, func() { _ = to.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !undisturbed() && err == nil {
			err = ctx.Err()
		}
	}()
	address := net.JoinHostPort(h.name, h.port)
	var b strings.Builder
	b.WriteString("CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: " + userAgent + "\r\n")
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		b.WriteString("Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := to.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("the proxy took no request: %w", because(ctx, err))
	}
	r := bufio.NewReader(to)
	res, err := http.ReadResponse(r, connect)
	if err != nil {
		return fmt.Errorf("the proxy gave no answer: %w", because(ctx, err))
	}
	_ = res.Body.Close()
	switch {
	case res.StatusCode/100 != 2:
		return fmt.Errorf("the proxy refused the tunnel: HTTP %d", res.StatusCode)
	case r.Buffered() > 0:
		return errEager
	}
	return nil
}

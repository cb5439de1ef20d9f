package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// api calls the mPaaS API in front with each of its keys, as a client does. Each
// call asks for the scheduled tasks of an app that does not exist.
func (e *examination) api(ctx context.Context) {
	c := e.Config.API
	if c.Listen == "" {
		return
	}
	for _, client := range c.Clients {
		name := "api " + client.AccessKeyID
		key := aliyun.NewKey(client.AccessKeyID, client.AccessKeySecret.Reveal(), client.SecurityToken.Reveal())
		switch code, err := e.callAPI(ctx, key); {
		case err != nil:
			e.wrong(name, "the listener on "+c.Listen+" does not answer: "+err.Error(), "start: scheduler serve; look at its log")
		case code == "NoPermission" || code == "InternalError":
			e.wrong(name, "its role "+client.Role+" cannot be taken on, or may not read campaigns",
				"as an admin: GRANT the role to the login of api.database_url, and scheduler_author to the role; docs/api.md")
		case code != "OK":
			e.wrong(name, "the API answers "+code, "docs/api.md says what each code means; after a change of the keys: SIGHUP")
		default:
			e.ok(name, "the API answers, as the role "+client.Role)
		}
	}
}

func (e *examination) callAPI(ctx context.Context, key *aliyun.Key) (code string, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	now := fmt.Sprint(e.Now().UnixMilli())
	address := aliyun.SignURL(e.apiEndpoint(), key, "QueryPushSchedulerList", map[string]string{
		"AppId": "scheduler doctor", "WorkspaceId": "none", "StartTime": now, "EndTime": now,
	}, rand.Text(), e.Now())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	// The certificate is not verified: it names the host that clients use, not the
	// loopback address that is called here.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: e.Timeout}).Do(req)
	if err != nil {
		return "", fmt.Errorf("call: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	var answer struct{ Code, ResultCode string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("HTTP %d with a body that is not an answer of the API", resp.StatusCode)
	}
	return answer.Code + answer.ResultCode, nil
}

// withoutURL removes the address from an error, since the address holds a
// signature.
func withoutURL(err error) error {
	if wrapped, ok := err.(interface{ Unwrap() error }); ok {
		return wrapped.Unwrap()
	}
	return err
}

// apiEndpoint returns the URL at which this machine reaches the listener.
func (e *examination) apiEndpoint() string {
	scheme := "http://"
	if e.Config.API.CertFile != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(e.Config.API.Listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return scheme + net.JoinHostPort("127.0.0.1", port)
	}
	return scheme + e.Config.API.Listen
}

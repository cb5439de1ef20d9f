package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/api"
)

// Every recorded request of an official client is taken, at the time it was made;
// what the service says of it is another matter, as some ask for the past.
func TestRecordedClientsAreAnswered(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../aliyun/testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Client, Action, Signature string
			Request                   struct {
				Method, Query, Body string
				Headers             [][2]string
			}
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *api.Config) {
		c.Clients = []api.Client{{AccessKeyID: "testak", AccessKeySecret: "testsk", Role: c.Clients[0].Role}}
	})
	r.run(t, `INSERT INTO scheduler.apps (app_id, workspace_id, provider) VALUES ('ONEX570DA89211721', 'test', 'mpaas')`)
	r.run(t, `SELECT scheduler.grant_app('ONEX570DA89211721', 'test', $1)`, r.base+"_crm")
	// The recordings name days of 2021 and 2100, a task of the real service, and
	// what two clients make of a map.
	refusable := regexp.MustCompile(`^(StrategyContent\.\w+: must (not )?lie|UniqueIds: .* is no id of|TaskId: is no id of|[\w.]+: is not JSON: it is the text of a (Java Map|Python dict))|^$`)
	codes := make(map[string]int)
	for i, v := range file.Vectors {
		req, err := http.NewRequestWithContext(t.Context(), v.Request.Method, r.server.URL()+"/?"+v.Request.Query, strings.NewReader(v.Request.Body))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range v.Request.Headers {
			switch http.CanonicalHeaderKey(h[0]) {
			case "Host":
				req.Host = h[1]
			case "Connection", "Content-Length", "Accept-Encoding", "Transfer-Encoding":
			default:
				req.Header.Add(h[0], h[1])
			}
		}
		r.now = func() time.Time { return madeAt(t, req, v.Request.Query, v.Request.Body) }
		a := send(t, req)
		codes[v.Action+" "+a.ResultCode+a.Code]++
		if why := a.ResultMessage; a.ResultCode != "OK" && !refusable.MatchString(why) {
			t.Errorf("%d, %s, %s: %s", i, v.Client, v.Action, why)
		}
		if a.status != http.StatusOK || a.ResultCode == "" || a.RequestID == "" {
			t.Errorf("%d, %s, %s: HTTP %d %s", i, v.Client, v.Action, a.status, a.body)
		}
	}
	for _, want := range []string{"QueryPushSchedulerList OK", "QueryMpsSchedulerList OK", "PushMultiple OK", "PushSimple OK"} {
		if codes[want] == 0 {
			t.Errorf("no %s among %v", want, codes)
		}
	}
}

func madeAt(t *testing.T, req *http.Request, forms ...string) time.Time {
	t.Helper()
	text := req.Header.Get("X-Acs-Date")
	for _, form := range forms {
		if values, err := url.ParseQuery(form); err == nil && values.Get("Timestamp") != "" {
			text = values.Get("Timestamp")
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

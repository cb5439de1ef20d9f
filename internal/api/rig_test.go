package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/api"
	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/store"
)

// programDir has the program that tests of daemons run, when one of them has built it.
var programDir string

func TestMain(m *testing.M) {
	pgtest.MainWaiting(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programDir)
		os.Exit(code)
	}))
}

// A rig is a database with two apps and two teams, and the API in front of it.
// Both teams have app "shop", one of them app "club" too.
type rig struct {
	*pgtest.DB
	server *api.Server
	store  *store.Store
	base   string // of the roles' names, which belong to the cluster
	now    func() time.Time
}

const keyOf = "key-" // and the team

func newRig(t *testing.T, edit ...func(*api.Config)) *rig {
	t.Helper()
	return newRigOn(t, pgtest.New(t), edit...)
}

func newRigOn(t *testing.T, db *pgtest.DB, edit ...func(*api.Config)) *rig {
	t.Helper()
	r := &rig{DB: db}
	r.now = time.Now
	if err := r.QueryRow(t.Context(), `SELECT current_database()`).Scan(&r.base); err != nil {
		t.Fatal(err)
	}
	r.run(t, `INSERT INTO scheduler.apps (app_id, workspace_id, provider, time_zone) VALUES ('shop', 'test', 'mpaas', 'Asia/Shanghai'), ('club', 'test', 'mpaas', 'UTC'),
		('hook', 'test', 'webhook', 'UTC')`)
	front := r.Role(t, "front", `LOGIN NOINHERIT PASSWORD 'secret' IN ROLE scheduler_front`)
	// The membership in scheduler_front is to be used without SET ROLE.
	r.run(t, fmt.Sprintf(`ALTER ROLE %s INHERIT`, front))
	for _, team := range []string{"crm", "ads"} {
		name := r.Role(t, team, `NOLOGIN IN ROLE scheduler_author`)
		r.run(t, fmt.Sprintf(`GRANT %s TO %s`, name, front))
		r.run(t, fmt.Sprintf(`SELECT scheduler.grant_app('shop', 'test', '%s')`, name))
	}
	r.run(t, fmt.Sprintf(`SELECT scheduler.grant_app('club', 'test', '%s')`, r.base+"_ads"))
	s, err := store.Open(t.Context(), store.Config{URL: r.URLAs(t, front, "secret"), MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r.store = s
	cfg := api.Config{
		Listen: "127.0.0.1:0", Store: s, Now: func() time.Time { return r.now() }, Metrics: prometheus.NewRegistry(),
		Compile: func(_, _ string, q dispatch.Request) (*dispatch.Message, []dispatch.Problem) {
			return mpaas.Adapter{}.Compile(q)
		},
		Log: slog.New(slog.DiscardHandler),
	}
	for _, team := range []string{"crm", "ads"} {
		cfg.Clients = append(cfg.Clients, api.Client{AccessKeyID: keyOf + team, AccessKeySecret: "secret of " + team, Role: r.base + "_" + team})
	}
	for _, e := range edit {
		e(&cfg)
	}
	if r.server, err = api.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r.server.Start()
	t.Cleanup(func() { _ = r.server.Stop(context.WithoutCancel(t.Context())) })
	return r
}

func (r *rig) run(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := r.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func get[T any](t *testing.T, r *rig, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := r.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

type params map[string]string

// with returns the parameters with changes; an empty value takes one away.
func (p params) with(changes ...string) params {
	out := maps.Clone(p)
	for i := 0; i < len(changes); i += 2 {
		if out[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(out, changes[i])
		}
	}
	return out
}

// An answer is what a call was told.
type answer struct {
	status        int
	body          string
	Code, Message string
	RequestID     string `json:"RequestId"`
	ResultCode    string
	ResultMessage string
	PushResult    struct {
		Success         bool
		ResultMsg, Data string
	}
	ResultContent json.RawMessage
}

type scheduled struct {
	UniqueID       string `json:"UniqueId"`
	ParentID       string `json:"ParentId"`
	PushTime       int64
	PushTitle      string
	Type           int
	DeliveryType   int
	StrategyType   int
	ExecutedStatus string
	CreateType     int
	GmtCreate      int64
}

func (a answer) list(t *testing.T) (total int, list []scheduled) {
	t.Helper()
	var content struct {
		Data struct {
			TotalCount int
			List       []scheduled
		}
	}
	if err := json.Unmarshal(a.ResultContent, &content); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return content.Data.TotalCount, content.Data.List
}

// call signs and makes a call for a team.
func (r *rig) call(t *testing.T, team, action string, p params) answer {
	t.Helper()
	return r.open(t, r.sign(team, action, p))
}

func (r *rig) sign(team, action string, p params) string {
	return aliyun.SignURL(r.server.URL(), aliyun.NewKey(keyOf+team, "secret of "+team, ""), action, p, rand.Text(), r.now())
}

func (r *rig) open(t *testing.T, address string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, body: string(body)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
	}
	return a
}

func (r *rig) must(t *testing.T, team, action string, p params) answer {
	t.Helper()
	a := r.call(t, team, action, p)
	if a.status != http.StatusOK || a.ResultCode != "OK" || strings.HasPrefix(action, "Push") && !a.PushResult.Success {
		t.Fatalf("%s: HTTP %d %s", action, a.status, a.body)
	}
	return a
}

// multipleCall is the documents' own sample.
func multipleCall(targets int) params {
	p := params{
		"AppId": "shop", "WorkspaceId": "test", "TaskName": "Multiple test", "DeliveryType": "3", "TemplateName": "Test template", "ExpiredSeconds": "600",
	}
	for i := 1; i <= targets; i++ {
		p[fmt.Sprintf("TargetMsg.%d.Target", i)] = fmt.Sprintf("user-%d", i)
		p[fmt.Sprintf("TargetMsg.%d.MsgKey", i)] = fmt.Sprintf("key-%d", i)
		p[fmt.Sprintf("TargetMsg.%d.TemplateKeyValue", i)] = `{"name":"Zhang San","money":"200"}`
	}
	return p
}

func simpleCall() params {
	return params{
		"AppId": "shop", "WorkspaceId": "test", "TaskName": "Simple test", "DeliveryType": "1", "Title": "标题", "Content": "内容", "ExpiredSeconds": "600",
		"TargetMsgkey": `{"token-1":"key-1"}`,
	}
}

func templateCall() params {
	return params{
		"AppId": "shop", "WorkspaceId": "test", "TaskName": "Template test", "DeliveryType": "1", "TemplateName": "tpl", "ExpiredSeconds": "600",
		"TargetMsgkey": `{"token-1":"key-1"}`, "TemplateKeyValue": `{"name":"Zhang San"}`,
	}
}

func broadcastCall() params {
	return params{
		"AppId": "shop", "WorkspaceId": "test", "TaskName": "Broadcast test", "DeliveryType": "1", "TemplateName": "tpl", "ExpiredSeconds": "600",
		"Msgkey": "key-1", "BindPeriod": "1", "ThirdChannelCategory.hms": "9",
	}
}

// weekly is the content of a loop on two days of the week.
func weekly(now time.Time, days int) string {
	return fmt.Sprintf(`{"fixedTime":1,"startTime":%d,"endTime":%d,"circleType":2,"circleValue":[1,4],"time":"13:45:11"}`,
		now.AddDate(0, 0, 1).UnixMilli(), now.AddDate(0, 0, days).UnixMilli())
}

func window(now time.Time) params {
	return params{
		"AppId": "shop", "WorkspaceId": "test", "StartTime": fmt.Sprint(now.Add(-time.Hour).UnixMilli()), "EndTime": fmt.Sprint(now.AddDate(0, 0, 180).UnixMilli()),
	}
}

func dial(t *testing.T, host string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// until waits for a state.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

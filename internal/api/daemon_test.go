//go:build linux

package api_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// An installation is the program as it is deployed, with failpoints: its
// configuration, its database, and the push API that its daemons call.
type installation struct {
	*rig
	binary, file string
	push         *sandbox.Sandbox
}

// program builds the program, once for all tests. TestMain removes it.
var program = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "api-test-"); err != nil {
		return "", err
	}
	binary := filepath.Join(programDir, "scheduler")
	build := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-tags", "failpoint", "-o", binary, "./cmd/scheduler")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
})

func install(t *testing.T) *installation {
	t.Helper()
	return installOn(t, newRig(t), time.Now)
}

// installOn is install with a clock of the push API's own.
func installOn(t *testing.T, r *rig, now func() time.Time) *installation {
	t.Helper()
	dir := t.TempDir()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{rig: r, binary: binary, file: filepath.Join(dir, "scheduler.yaml")}
	in.push, err = sandbox.New(sandbox.Config{Now: now, Apps: sandbox.Apps{MPaaS: []sandbox.MPaaSApp{{AppID: "shop", WorkspaceID: "test", AccessKeyID: "x", AccessKeySecret: "x"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.push.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.push.Stop(context.WithoutCancel(t.Context())) })
	in.write(t, "127.0.0.1:0", "crm")
	return in
}

// write writes the configuration, with an access key for each client, whose secret is
// in a file of its own, and whose role is that of team crm.
func (in *installation) write(t *testing.T, listen string, clients ...string) {
	t.Helper()
	var keys strings.Builder
	for _, name := range clients {
		secret := filepath.Join(filepath.Dir(in.file), "secret-"+name)
		if err := os.WriteFile(secret, []byte("secret of "+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&keys, "\n    - {access_key_id: key-%s, access_key_secret_file: %q, role: %s_crm}", name, secret, in.base)
	}
	config := fmt.Sprintf(`
database: {url: %q}
data_dir: %q
admin: {listen: "127.0.0.1:0"}
dispatch: {push_timeout: 2s, lease: 3s, grace_period: 1s}
api:
  listen: %s
  database_url: %q
  clients: %s
apps: [{app_id: shop, workspace_id: test, provider: mpaas, endpoint: %q, access_key_id: x, access_key_secret: x}]
`, in.URL, filepath.Dir(in.file), listen, in.URLAs(t, in.base+"_front", "secret"), keys.String(), in.push.URL())
	if err := os.WriteFile(in.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// callAt makes a team's call of a daemon.
func (in *installation) callAt(t *testing.T, d *daemon, team, action string, p params) answer {
	t.Helper()
	return in.open(t, signAt(d, team, action, p))
}

func signAt(d *daemon, team, action string, p params) string {
	return aliyun.SignURL(d.api, aliyun.NewKey(keyOf+team, "secret of "+team, ""), action, p, rand.Text(), time.Now())
}

// ready asks /readyz.
func (d *daemon) ready(t *testing.T) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Several daemons serve the API at once: a nonce that one has seen is used at the
// other, and so is a ClientToken.
func TestDaemonsShareNoncesAndTokens(t *testing.T) {
	t.Parallel()
	in := install(t)
	one, other := serve(t, in.binary, in.file), serve(t, in.binary, in.file)
	call := multipleCall(2).with("ClientToken", "order-1", "StrategyType", "1",
		"StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, time.Now().Add(time.Hour).UnixMilli()))
	signed := signAt(one, "crm", "PushMultiple", call)
	first := in.open(t, signed)
	if first.ResultCode != "OK" {
		t.Fatalf("%s", first.body)
	}
	if a := in.open(t, strings.Replace(signed, one.api, other.api, 1)); a.Code != "SignatureNonceUsed" {
		t.Errorf("the same nonce at the other daemon: %s", a.body)
	}
	if a := in.callAt(t, other, "crm", "PushMultiple", call); a.ResultCode != "OK" || a.PushResult.Data != first.PushResult.Data {
		t.Errorf("the same token at the other daemon: %s, want the id %s", a.body, first.PushResult.Data)
	}
	if n := get[int](t, in.rig, `SELECT count(*) FROM scheduler.campaigns`); n != 1 {
		t.Errorf("%d campaigns", n)
	}
	if a := in.callAt(t, other, "crm", "CancelPushScheduler", params{"AppId": "shop", "WorkspaceId": "test", "UniqueIds": first.PushResult.Data}); a.ResultCode != "OK" {
		t.Errorf("cancelled at the other daemon: %s", a.body)
	}
	if total, _ := in.callAt(t, one, "crm", "QueryPushSchedulerList", window(time.Now())).list(t); total != 0 {
		t.Errorf("%d tasks at the first daemon after it", total)
	}
}

// Keys come from files and change with SIGHUP while the daemon runs: for a time
// both of a client's keys work, then the new one alone.
func TestHangupRotatesKeys(t *testing.T) {
	t.Parallel()
	in := install(t)
	d := serve(t, in.binary, in.file)
	for _, step := range []struct {
		clients   []string
		old, next int
	}{
		{[]string{"crm"}, 200, 404},
		{[]string{"crm", "next"}, 200, 200},
		{[]string{"next"}, 404, 200},
	} {
		in.write(t, "127.0.0.1:0", step.clients...)
		if err := d.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, fmt.Sprint("the keys of ", step.clients), func() bool {
			return in.callAt(t, d, "crm", "QueryPushSchedulerList", window(time.Now())).status == step.old &&
				in.callAt(t, d, "next", "QueryPushSchedulerList", window(time.Now())).status == step.next
		})
	}
	// A configuration with a mistake changes nothing.
	if err := os.WriteFile(in.file, []byte("nonsense: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the refusal", func() bool { return strings.Contains(d.log.String(), "not reloaded") })
	if a := in.callAt(t, d, "next", "QueryPushSchedulerList", window(time.Now())); a.status != http.StatusOK {
		t.Errorf("after a refused reload: %s", a.body)
	}
	if log := d.log.String(); strings.Contains(log, "secret of") {
		t.Errorf("the log holds a secret: %s", log)
	}
}

// /readyz and doctor know the API: neither is content while a key's role cannot be
// taken on.
func TestReadyzAndDoctorKnowTheAPI(t *testing.T) {
	t.Parallel()
	in := install(t)
	d := serve(t, in.binary, in.file)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(d.api, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	in.write(t, "127.0.0.1:"+port, "crm") // what doctor reads
	doctor := func() string {
		// Its exit status is of all that it looks at, which is not of interest here.
		out, _ := exec.CommandContext(t.Context(), in.binary, "doctor", "--config", in.file).CombinedOutput()
		return string(out)
	}
	until(t, "a ready daemon", func() bool { status, _ := d.ready(t); return status == http.StatusOK })
	if out := doctor(); !regexp.MustCompile(`(?m)^.*api key-crm.*the API answers, as the role ` + in.base + `_crm`).MatchString(out) {
		t.Errorf("doctor: %s", out)
	}
	in.run(t, fmt.Sprintf(`REVOKE %[1]s_crm FROM %[1]s_front`, in.base))
	until(t, "/readyz to say so", func() bool {
		status, body := d.ready(t)
		return status == http.StatusServiceUnavailable && strings.Contains(body, "not ready")
	})
	if out := doctor(); !regexp.MustCompile(`(?m)^.*api key-crm.*cannot be taken on`).MatchString(out) {
		t.Errorf("doctor, without the role: %s", out)
	}
	in.run(t, fmt.Sprintf(`GRANT %[1]s_crm TO %[1]s_front`, in.base))
	until(t, "a ready daemon again", func() bool { status, _ := d.ready(t); return status == http.StatusOK })
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.ended
	if out := doctor(); !regexp.MustCompile(`(?m)^.*api key-crm.*does not answer`).MatchString(out) {
		t.Errorf("doctor, without a daemon: %s", out)
	}
}

// What was pushed is revoked by a call of the API: the push API is asked to take
// it back, by the id that it gave. The first daemon is killed, by kill -9, after
// that call and before it wrote the answer down; another one asks again, which
// does no harm, and writes it down.
func TestRevokeGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	in := install(t)
	d := serve(t, in.binary, in.file, "CHAOS_FAILPOINT=revoke.called:1:kill")
	sent := in.callAt(t, d, "crm", "PushMultiple", multipleCall(2))
	if sent.ResultCode != "OK" {
		t.Fatalf("%s", sent.body)
	}
	until(t, "the push", func() bool {
		return get[int](t, in.rig, `SELECT count(*) FROM scheduler.decided_tasks WHERE status = 'succeeded'`) == 1
	})
	before := get[string](t, in.rig, `SELECT to_jsonb(d)::text FROM scheduler.decided_tasks d`)
	call := params{"AppId": "shop", "WorkspaceId": "test", "TaskId": sent.PushResult.Data}
	if a := in.callAt(t, d, "crm", "RevokePushTask", call); !a.PushResult.Success {
		t.Fatalf("%s", a.body)
	}
	<-d.ended
	if asked := in.revocations(t, "mpaas.revoke_push_task"); asked != 1 {
		t.Errorf("%d revocations reached the push API before the kill", asked)
	}
	if n := get[int](t, in.rig, `SELECT count(*) FROM scheduler.revocation_calls WHERE finished_at IS NULL`); n != 1 {
		t.Errorf("%d revocations to be done after the kill, want 1", n)
	}
	other := serve(t, in.binary, in.file)
	until(t, "the revocation", func() bool {
		return get[string](t, in.rig, `SELECT status || attempts FROM scheduler.revocation_calls`) == "revoked2"
	})
	if asked := in.revocations(t, "mpaas.revoke_push_task"); asked != 2 {
		t.Errorf("%d revocations reached the push API, want one by each daemon", asked)
	}
	one := params{"AppId": "shop", "WorkspaceId": "test", "MessageId": sent.PushResult.Data, "TargetId": "user-2"}
	if a := in.callAt(t, other, "crm", "RevokePushMessage", one); !a.PushResult.Success {
		t.Errorf("%s", a.body)
	}
	until(t, "the revocation of one target's message", func() bool { return in.revocations(t, "mpaas.revoke_push_message") == 1 })
	if after := get[string](t, in.rig, `SELECT to_jsonb(d)::text FROM scheduler.decided_tasks d`); after != before {
		t.Errorf("the decision changed from %s to %s", before, after)
	}
	if by := get[string](t, in.rig, `SELECT requested_by FROM scheduler.revocations`); by != in.base+"_crm" {
		t.Errorf("requested by %s", by)
	}
}

// revocations counts the calls of one name that the push API accepted.
func (in *installation) revocations(t *testing.T, name string) (n int) {
	t.Helper()
	calls, err := in.push.Calls(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		if c.API == name && c.Outcome == sandbox.Accepted {
			n++
		}
	}
	return n
}

//go:build linux

package api_test

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
	"github.com/campaign-scheduler/scheduler/internal/api"
)

// The daemon is killed between the COMMIT and its answer. The client, who knows
// nothing, calls again with its token, and another daemon tells it the first
// one's id.
func TestKilledBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	binary := filepath.Join(t.TempDir(), "scheduler")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-tags", "failpoint", "-o", binary, "./cmd/scheduler")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "scheduler.yaml")
	config := fmt.Sprintf(`
database: {url: %q}
data_dir: %q
admin: {listen: "127.0.0.1:0"}
api:
  listen: 127.0.0.1:0
  database_url: %q
  clients: [{access_key_id: key-crm, access_key_secret: secret of crm, role: %s_crm}]
apps: [{app_id: shop, workspace_id: test, provider: mpaas, endpoint: "http://127.0.0.1:1", access_key_id: x, access_key_secret: x}]
`, r.URL, t.TempDir(), r.urlOf(t, r.base+"_front"), r.base)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	call := multipleCall(3).with("ClientToken", "order-1", "StrategyType", "1",
		"StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, time.Now().Add(time.Hour).UnixMilli()))
	key := aliyun.NewKey("key-crm", "secret of crm", "")

	first, ended := serve(t, binary, file, "CHAOS_FAILPOINT=api.stored:1:kill")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, aliyun.SignURL(first, key, "PushMultiple", call, rand.Text(), time.Now()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("the killed daemon answered HTTP %d", resp.StatusCode)
	}
	<-ended
	id := get[int64](t, r, `SELECT id FROM scheduler.campaigns`)

	second, _ := serve(t, binary, file)
	a := r.open(t, aliyun.SignURL(second, key, "PushMultiple", call, rand.Text(), time.Now()))
	if a.PushResult.Data != api.IDOf(id) {
		t.Errorf("the second call: %s, want the id %s", a.body, api.IDOf(id))
	}
	if n := get[int](t, r, `SELECT (SELECT count(*) FROM scheduler.campaigns) * 100 + (SELECT count(*) FROM scheduler.campaign_targets)`); n != 103 {
		t.Errorf("%d, want one campaign with three targets", n)
	}
}

// serve runs a daemon and returns where its API is; ended is closed when it has
// ended.
func serve(t *testing.T, binary, file string, env ...string) (endpoint string, ended chan struct{}) {
	t.Helper()
	cmd := exec.Command(binary, "serve", "--config", file) //nolint:noctx // it is to outlive nothing: the clean-up kills it
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	where := make(chan string, 1)
	go func() {
		defer close(ended)
		api := regexp.MustCompile(`mPaaS API (http\S+)`)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := api.FindStringSubmatch(lines.Text()); m != nil {
				where <- m[1]
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	select {
	case endpoint = <-where:
	case <-ended:
		t.Fatalf("the daemon ended: %s", log.String())
	}
	return endpoint, ended
}

//go:build linux

package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// A pushAPI is the sandbox in a process of its own. Its journal outlives it.
type pushAPI struct {
	bin, dir string
	addr     string
	seed     uint64
	process  *process

	mu       sync.Mutex
	passing  string // the fault of an outage
	standing string // the fault that a mutant wants now, which replaces the passing one
}

func (s *pushAPI) journal() string { return filepath.Join(s.dir, "journal.ndjson") }

// start starts the sandbox, on the same port each time.
func (s *pushAPI) start() error {
	var err error
	// The sandbox's own quota is off, since the oracle judges whether quotas hold.
	s.process, err = start(s.bin, filepath.Join(s.dir, "sandbox.log"), nil,
		"sandbox", "--listen", s.addr, "--data-dir", s.dir, "--any-app", "--weekly-quota", "-1", "--seed", fmt.Sprint(s.seed))
	if err != nil {
		return err
	}
	for range 200 {
		if err = s.get("stats"); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.setFaults()
		}
		if !s.process.running() {
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("the sandbox does not answer: %w\n%s", err, tail(filepath.Join(s.dir, "sandbox.log"), 5))
}

func (s *pushAPI) get(page string) error {
	return s.do(http.MethodGet, page, nil)
}

// faults replaces the fault of an outage; an empty spec ends it.
func (s *pushAPI) faults(spec string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passing = spec
	return s.setFaults()
}

// insist sets a fault that replaces those of outages; an empty spec ends it.
func (s *pushAPI) insist(spec string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.standing = spec
	return s.setFaults()
}

func (s *pushAPI) setFaults() error {
	body, err := json.Marshal(map[string]any{"spec": cmp.Or(s.standing, s.passing)})
	if err != nil {
		return err
	}
	return s.do(http.MethodPost, "faults", body)
}

func (s *pushAPI) do(method, page string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+"/_sandbox/"+page, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("sandbox: %s", resp.Status)
	}
	return nil
}

// calls reads the whole journal. A kill may leave an incomplete last line,
// whose call was never answered.
func (s *pushAPI) calls() ([]sandbox.Call, error) {
	content, err := os.ReadFile(s.journal())
	if err != nil {
		return nil, err
	}
	var calls []sandbox.Call
	for line := range bytes.Lines(content) {
		var c sandbox.Call
		if err := json.Unmarshal(line, &c); err != nil {
			if bytes.HasSuffix(line, []byte{'\n'}) {
				return nil, fmt.Errorf("journal line %d: %w", len(calls)+1, err)
			}
			break
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// An app is one of the apps under test.
type app struct {
	id, workspace, provider string
	limit                   int // pending_limit
	inFlight                int // max_in_flight
	labelQuota              int // alipay.label_send
	perSecond               int // calls_per_second; 0: no bound
	targetsPerSecond        int // targets_per_second; 0: no bound
}

// appOf returns the app of that name.
func appOf(id string) app {
	return apps[slices.IndexFunc(apps, func(a app) bool { return a.id == id })]
}

// crowdApp is the app of the large audiences that take one call for each target.
const crowdApp = "a2"

// apps differ in what bounds them.
var apps = []app{
	{id: "w1", provider: "webhook", limit: 100, inFlight: 64},
	{id: "w2", provider: "webhook", limit: 5, inFlight: 64},
	{id: "w3", provider: "webhook", limit: 40, inFlight: 32, perSecond: 20},
	{id: "m1", workspace: sandbox.DefaultWorkspace, provider: "mpaas", limit: 10, inFlight: 16},
	{id: "m2", workspace: sandbox.DefaultWorkspace, provider: "mpaas", limit: 100, inFlight: 32, targetsPerSecond: 100},
	{id: "a1", provider: "alipay", limit: 100, inFlight: 64, labelQuota: 3}, // a minute asks for more
	{id: crowdApp, provider: "alipay", limit: 100, inFlight: 4, perSecond: 60},
}

// appsYAML returns the apps section of a daemon that reaches the sandbox at addr.
func appsYAML(credentials *sandbox.Credentials, addr, without string) string {
	var b strings.Builder
	b.WriteString("apps:\n")
	for _, a := range apps {
		if a.id == without {
			continue
		}
		for _, s := range credentials.For("http://" + addr) {
			if s.Provider != a.provider {
				continue
			}
			endpoint := strings.Replace(s.Endpoint, s.AppID, a.id, 1)
			fmt.Fprintf(&b, "  - app_id: %q\n    provider: %s\n    endpoint: %q\n    pending_limit: %d\n    max_in_flight: %d\n    time_zone: UTC\n",
				a.id, a.provider, endpoint, a.limit, a.inFlight)
			if a.workspace != "" {
				fmt.Fprintf(&b, "    workspace_id: %q\n", a.workspace)
			}
			if a.perSecond > 0 {
				fmt.Fprintf(&b, "    calls_per_second: %d\n", a.perSecond)
			}
			if a.targetsPerSecond > 0 {
				fmt.Fprintf(&b, "    targets_per_second: %d\n", a.targetsPerSecond)
			}
			if a.labelQuota > 0 {
				fmt.Fprintf(&b, "    weekly_quota: {alipay.label_send: %d}\n", a.labelQuota)
			}
			for name, value := range s.Options {
				if path := s.Files[name]; path != "" {
					fmt.Fprintf(&b, "    %s_file: %q\n", name, path)
				} else {
					fmt.Fprintf(&b, "    %s: %q\n", name, value)
				}
			}
		}
	}
	return b.String()
}

// newPushAPI starts the sandbox and returns the credentials for its clients.
func newPushAPI(bin, dir string, seed uint64) (*pushAPI, *sandbox.Credentials, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, nil, err
	}
	credentials, err := sandbox.DefaultApps(dir)
	if err != nil {
		return nil, nil, err
	}
	s := &pushAPI{bin: bin, dir: dir, addr: addr, seed: seed}
	return s, credentials, errors.Join(s.start())
}

package sandbox_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func TestParseFaults(t *testing.T) {
	t.Parallel()
	const good = "throttle=0.1,refuse=1*3,error=0.05,html=0.01,status=503:0.1,hang=0.5@alipay.label_send,hang_after=1@mpaas," +
		"cut_before=0.01,cut_after=1@webhook@app:x,unsigned=1,forged=1,delay=50ms:1,delay=1s:0.5"
	faults, err := sandbox.ParseFaults(" " + strings.ReplaceAll(strings.Replace(good, "50ms:1", "50ms", 1), ",", " , "))
	if err != nil {
		t.Fatal(err)
	}
	var again []string
	for _, f := range faults {
		again = append(again, f.String())
	}
	if diff := cmp.Diff(good, strings.Join(again, ",")); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{
		"throttle", "throttle=", "throttle=2", "throttle=-1", "throttle=NaN", "throttle=x", "nonsense=1", "status=0.1", "status=99:1",
		"delay=1", "delay=-1s", "delay=", "refuse=1*0", "refuse=1*x", "refuse=1@nowhere", "hang=",
	} {
		if _, err := sandbox.ParseFaults("throttle=1," + bad); err == nil || !strings.Contains(err.Error(), "fault") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// kinds of answers that a fault may have.
const (
	answered = "answered"
	cut      = "cut"
	silent   = "silent"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		fault    string
		how      string
		accepted bool
		status   map[string]int // by provider
		body     string         // part of mPaaS's
	}{
		{"throttle=1", answered, false, map[string]int{"mpaas": 400, "alipay": 429, "webhook": 429}, `"Code":"Throttling.User"`},
		{"refuse=1", answered, false, map[string]int{"mpaas": 200, "alipay": 400, "webhook": 422}, `"ResultCode":"3028"`},
		{"error=1", answered, false, map[string]int{"mpaas": 200, "alipay": 500, "webhook": 500}, `"ResultCode":"9000"`},
		{"html=1", answered, false, map[string]int{"mpaas": 200, "alipay": 200, "webhook": 502}, "<html>"},
		{"status=503:1", answered, false, map[string]int{"mpaas": 503, "alipay": 503, "webhook": 503}, "{}"},
		{"status=302:1", answered, false, map[string]int{"mpaas": 302, "alipay": 302, "webhook": 302}, "{}"},
		{"cut_before=1", cut, false, nil, ""},
		{"cut_after=1", cut, true, nil, ""},
		{"hang=1", silent, false, nil, ""},
		{"hang_after=1", silent, true, nil, ""},
		{"delay=1ms", answered, true, map[string]int{"mpaas": 200, "alipay": 200, "webhook": 200}, `"ResultCode":"OK"`},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			t.Parallel()
			sb := setup(t, faults(tt.fault))
			requests := map[string]*http.Request{
				"mpaas": sb.mpaas(t, "PushMultiple", multiple(1)), "alipay": sb.alipay(t, labelPath, goodLabel), "webhook": sb.hook(t, `{}`),
			}
			for name, req := range requests {
				r, err := sb.suffer(t, req, tt.how)
				call := sb.last(t)
				if (call.Outcome == sandbox.Accepted) != tt.accepted || call.Signature != "ok" || call.AnswerDelivered != (tt.how == answered) {
					t.Errorf("%s: journal: %+v", name, call)
				}
				if kind, _, _ := strings.Cut(tt.fault, "="); kind != "delay" && call.Fault != kind {
					t.Errorf("%s: journal names fault %q", name, call.Fault)
				}
				switch tt.how {
				case answered:
					if err != nil || r.status != tt.status[name] || (name == "mpaas" && !strings.Contains(r.body, tt.body)) {
						t.Errorf("%s: %v, %+v", name, err, r)
					}
				case cut:
					if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("%s: %v, want a cut connection", name, err)
					}
				case silent:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("%s: %v, want silence", name, err)
					}
				}
			}
		})
	}
}

// suffer sends a request; one that is to hang is given up as soon as the
// sandbox has it in the journal.
func (b *bundle) suffer(t *testing.T, req *http.Request, how string) (*reply, error) {
	t.Helper()
	if how != silent {
		return b.do(t, req)
	}
	ctx, cancel := context.WithCancel(req.Context())
	since := b.Last()
	go func() {
		for _, err := range b.Follow(ctx, since) {
			if err != nil {
				t.Error(err)
			}
			cancel()
		}
	}()
	return b.do(t, req.WithContext(ctx))
}

func TestFaultsOfAlipaysSignature(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"unsigned=1", "forged=1"} {
		sb := setup(t, faults(fault))
		r := sb.must(t, sb.alipay(t, labelPath, goodLabel))
		if r.status != 200 || signedAnswer(r) == nil || (r.header.Get("alipay-signature") == "") != (fault == "unsigned=1") {
			t.Errorf("%s: %+v", fault, r)
		}
		if sb.last(t).Outcome != sandbox.Accepted {
			t.Errorf("%s: not accepted", fault)
		}
	}
}

func TestThrottlingTellsHowLong(t *testing.T) {
	t.Parallel()
	sb := setup(t, faults("throttle=1"))
	r := sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
	for _, name := range []string{"x-ratelimit-user", "x-ratelimit-user-api"} {
		if !strings.Contains(r.header.Get(name), "TimeLeft:") {
			t.Errorf("%s: %q", name, r.header.Get(name))
		}
	}
}

func TestFaultScopes(t *testing.T) {
	t.Parallel()
	sb := setup(t, faults("refuse=1@mpaas.push_simple,refuse=1@app:OTHER,refuse=1@alipay"))
	refused := func(req *http.Request) bool {
		sb.must(t, req)
		return sb.last(t).Fault == "refuse"
	}
	for name, tt := range map[string]struct {
		req  *http.Request
		want bool
	}{
		"api":            {sb.mpaas(t, "PushSimple", simple()), true},
		"another api":    {sb.mpaas(t, "PushMultiple", multiple(1)), false},
		"app":            {sb.mpaas(t, "PushMultiple", with(multiple(1), "AppId", "OTHER")), true},
		"provider":       {sb.alipay(t, totalPath, textMaterial), true},
		"other provider": {sb.hook(t, `{}`), false},
	} {
		if got := refused(tt.req); got != tt.want {
			t.Errorf("%s: refused %v, want %v", name, got, tt.want)
		}
	}
}

func TestFaultsEndAfterTheirTimes(t *testing.T) {
	t.Parallel()
	sb := setup(t, faults("refuse=1*2"))
	var got []string
	for range 4 {
		sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
		got = append(got, sb.last(t).Fault)
	}
	if diff := cmp.Diff([]string{"refuse", "refuse", "", ""}, got); diff != "" {
		t.Error(diff)
	}
}

// The same seed gives the same fates, another one others, each in proportion.
func TestFaultsAreRepeatable(t *testing.T) {
	t.Parallel()
	const calls = 400
	run := func(seed uint64) (fates []string) {
		sb := setup(t, faults("refuse=0.2,error=0.3"), func(c *sandbox.Config) { c.Seed = seed })
		for range calls {
			sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
			fates = append(fates, sb.last(t).Fault)
		}
		return fates
	}
	first := run(1)
	if diff := cmp.Diff(first, run(1)); diff != "" {
		t.Errorf("the same seed: %s", diff)
	}
	if cmp.Equal(first, run(2)) {
		t.Error("another seed gave the same fates")
	}
	count := map[string]int{}
	for _, f := range first {
		count[f]++
	}
	if r, e := count["refuse"], count["error"]; r < calls/10 || r > calls*3/10 || e < calls/5 || e > calls*2/5 {
		t.Errorf("fates: %v", count)
	}
}

func TestDelayHoldsTheCallBack(t *testing.T) {
	t.Parallel()
	sb := setup(t, faults("delay=30ms"))
	sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
	if c := sb.last(t); c.AnsweredAt.Sub(c.ReceivedAt) < 30*time.Millisecond {
		t.Errorf("answered after %v", c.AnsweredAt.Sub(c.ReceivedAt))
	}
}

func TestFaultsChangeWhileRunning(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	fault := func() string {
		sb.must(t, sb.mpaas(t, "PushMultiple", multiple(1)))
		return sb.last(t).Fault
	}
	for _, step := range []struct{ body, want string }{
		{`{"spec":"refuse=1"}`, "refuse"},
		{`{"faults":[{"kind":"error","probability":1,"api":"mpaas"},{"kind":"delay","probability":1,"delay":"1ms"}],"seed":7}`, "error"},
		{`{}`, ""},
	} {
		if r := sb.post(t, "/_sandbox/faults", step.body); r.status != 200 {
			t.Fatalf("HTTP %d %s", r.status, r.body)
		}
		if got := fault(); got != step.want {
			t.Errorf("%s: fault %q, want %q", step.body, got, step.want)
		}
	}
	for _, bad := range []string{`{"spec":"refuse=7"}`, `{"faults":[{"kind":"x"}]}`, `nonsense`} {
		if r := sb.post(t, "/_sandbox/faults", bad); r.status != 400 {
			t.Errorf("%s: HTTP %d", bad, r.status)
		}
	}
	if r := sb.get(t, "/_sandbox/faults"); r.field("seed") != 7.0 {
		t.Errorf("faults: %s", r.body)
	}
	more, err := sandbox.ParseFaults("refuse=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.SetFaults(more...); err != nil || fault() != "refuse" {
		t.Errorf("SetFaults: %v", err)
	}
}

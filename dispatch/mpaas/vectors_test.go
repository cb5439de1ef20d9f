package mpaas_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A vector is a request that an official SDK made.
type vector struct {
	Source        string
	KeyID         string `json:"access_key_id"`
	Secret        string `json:"access_key_secret"`
	Headers       map[string]string
	SignedHeaders string `json:"signed_headers"`
	Body          string
	Signature     string
}

func vectors(t *testing.T) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("no vectors")
	}
	return list
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Source, func(t *testing.T) {
			t.Parallel()
			if got := mpaas.Hash(v.Body); got != v.Headers["x-acs-content-sha256"] {
				t.Errorf("hash %s", got)
			}
			var headers [][2]string
			for name := range strings.SplitSeq(v.SignedHeaders, ";") {
				headers = append(headers, [2]string{name, v.Headers[name]})
			}
			want := "ACS3-HMAC-SHA256 Credential=" + v.KeyID + ",SignedHeaders=" + v.SignedHeaders + ",Signature=" + v.Signature
			if diff := cmp.Diff(want, mpaas.Authorize(v.KeyID, v.Secret, headers, v.Body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The vectors' PushMultiple carries a strategy, which no request of ours can.
func TestBodyVectors(t *testing.T) {
	t.Parallel()
	pairs := []mpaas.Pair{
		{"TaskName", "多 test*~+"},
		{"TemplateName", "tpl"},
		{"DeliveryType", "3"},
		{"ExpiredSeconds", "600"},
		{"ExtendedParams", `{"k":"v"}`},
		{"NotifyLevel", `{"oppo":"2"}`},
		{"ThirdChannelCategory", `{"hms":"9","vivo":"1"}`},
		{"StrategyType", "2"},
		{"StrategyContent", `{"fixedTime":1630303126000,"startTime":1625673600000,` +
			`"endTime":1630303126000,"circleType":2,"circleValue":[1,7],"time":"13:45:11"}`},
	}
	trees := map[string]string{"ActivityContentState": `{"a":1,"b":{"c":"d"}}`}
	targets := []dispatch.Target{
		{Target: "userid1024", MsgKey: "k-1", TemplateKeyValue: json.RawMessage(`{"name":"Zhang San","money":"200"}`)},
		{
			Target: "userid1025", MsgKey: "k-2", TemplateKeyValue: json.RawMessage(`{"name": "李 四", "money": "3&4=5"}`),
			ExtendedParams: json.RawMessage(`{"x": "y"}`),
		},
	}
	got, err := mpaas.EncodeMultiple("ONEX570DA89211721", "test", pairs, trees, targets)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, v := range vectors(t) {
		if v.Headers["x-acs-action"] == "PushMultiple" {
			n++
			if diff := cmp.Diff(strings.Split(v.Body, "&"), strings.Split(got, "&")); diff != "" {
				t.Errorf("%s: %s", v.Source, diff)
			}
		}
	}
	if n == 0 {
		t.Error("no vector of PushMultiple")
	}
}

// With more than nine targets the order of keys is that of texts: 1, 10, 100, 11.
func TestTargetsAreInTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	got, err := mpaas.EncodeMultiple("a", "w", nil, nil, hundred())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for p := range strings.SplitSeq(got, "&") {
		key, _, _ := strings.Cut(p, "=")
		keys = append(keys, key)
	}
	if want := slices.Sorted(slices.Values(keys)); len(keys) != 2+3*100 || !slices.Equal(keys, want) {
		t.Error(cmp.Diff(want, keys))
	}
}

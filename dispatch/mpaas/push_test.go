package mpaas_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/dispatchtest"
	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

const secret = "mpaas-t0p-s3cret"

func settings(endpoint string) dispatch.Settings {
	return dispatch.Settings{
		AppID: "ONEX570DA89211721", WorkspaceID: "test", Endpoint: endpoint,
		Options: map[string]string{"access_key_id": "LTAI-test", "access_key_secret": secret, "security_token": "sts-t0ken"},
	}
}

// samples are the smallest good requests.
var samples = map[string]string{
	"mpaas.push_simple":    `{"deliveryType":3,"expiredSeconds":600,"title":"T","content":"C"}`,
	"mpaas.push_template":  `{"deliveryType":3,"expiredSeconds":600,"templateName":"t"}`,
	"mpaas.push_multiple":  `{"deliveryType":3,"expiredSeconds":600,"templateName":"t"}`,
	"mpaas.push_broadcast": `{"deliveryType":1,"expiredSeconds":600,"templateName":"t","bindPeriod":4}`,
}

func answer(status int, body string) func(dispatchtest.Call) dispatchtest.Answer {
	return func(dispatchtest.Call) dispatchtest.Answer {
		return dispatchtest.Answer{Status: status, Body: []byte(body)}
	}
}

const accepted = `{"RequestId":"r-1","ResultCode":"OK","ResultMessage":"ok","PushResult":{"Success":true,"ResultMsg":"ok","Data":"m-1"}}`

func TestConformance(t *testing.T) {
	t.Parallel()
	for channel, body := range samples {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			s := dispatchtest.Subject{
				Adapter:  mpaas.Adapter{},
				Settings: settings,
				Request: func(string) dispatch.Request {
					return dispatch.Request{Channel: channel, TaskName: "task", Body: json.RawMessage(body)}
				},
				Targets:  []dispatch.Target{{Target: "u1", MsgKey: "k1"}, {Target: "u2", MsgKey: "k2"}},
				Accepted: answer(200, accepted),
				Refused: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
					return render(200, map[string]any{"ResultCode": "3012", "ResultMessage": text, "RequestId": text})
				},
				Throttled: func(_ dispatchtest.Call, text string) dispatchtest.Answer {
					return render(400, map[string]any{"Code": "Throttling.User", "Message": text})
				},
				// An answer that is not the service's leaves the outcome unknown,
				// except where the status says that it was not taken.
				Bare: func(status int) dispatch.Class {
					if status == http.StatusTooManyRequests {
						return dispatch.NotSent
					}
					return dispatch.Unknown
				},
				Check: func(c dispatchtest.Call) error {
					if hash := c.Header.Get("X-Acs-Content-Sha256"); hash != mpaas.Hash(string(c.Body)) {
						return fmt.Errorf("the hash is of another body than %s", c.Body)
					}
					return nil
				},
				Nonce: func(c dispatchtest.Call) string { return c.Header.Get("X-Acs-Signature-Nonce") },
			}
			if channel == "mpaas.push_broadcast" {
				s.Targets = nil
			}
			if channel == "mpaas.push_multiple" {
				s.Cases = cases()
			}
			dispatchtest.Run(t, s)
		})
	}
}

func render(status int, v any) dispatchtest.Answer {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return dispatchtest.Answer{Status: status, Body: b}
}

// cases are the note's answers and what each comes to.
func cases() []dispatchtest.Case {
	list := []dispatchtest.Case{
		{Name: "ids", Answer: answer(200, accepted), Want: dispatch.Outcome{
			Class: dispatch.Accepted, Code: "OK", Message: "ok", RequestID: "r-1", MessageID: "m-1",
		}},
		{
			Name: "byte order mark", Answer: answer(200, "\ufeff"+accepted),
			Want: dispatch.Outcome{Class: dispatch.Accepted, MessageID: "m-1"},
		},
		{
			Name: "100, lowerCamel, numbers", Answer: answer(200,
				`{"requestId":7,"resultCode":100,"pushResult":{"success":"true","data":99}}`),
			Want: dispatch.Outcome{Class: dispatch.Accepted, Code: "100", RequestID: "7", MessageID: "99"},
		},
		{Name: "throttling hint", Answer: func(dispatchtest.Call) dispatchtest.Answer {
			a := answer(400, `{"Code":"Throttling.Api","Message":"slow","RequestId":"r"}`)(dispatchtest.Call{})
			a.Header = http.Header{
				"X-Ratelimit-User-Api": {"Limit:1,Remain:0,TimeLeft:2000,Reset:1234"},
				"X-Ratelimit-User":     {"Limit:1, Remain:0, TimeLeft:1500"},
			}
			return a
		}, Want: dispatch.Outcome{
			Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, Code: "Throttling.Api", Message: "slow", RetryAfter: 2 * time.Second,
		}},
		{Name: "garbled hint", Answer: func(dispatchtest.Call) dispatchtest.Answer {
			a := answer(400, `{"Code":"Throttling"}`)(dispatchtest.Call{})
			a.Header = http.Header{"X-Ratelimit-User": {"TimeLeft:-5,TimeLeft:x,,:"}, "Retry-After": {"3"}}
			return a
		}, Want: dispatch.Outcome{Class: dispatch.NotSent, Reason: dispatch.ReasonThrottled, RetryAfter: 3 * time.Second}},
	}
	add := func(class dispatch.Class, reason dispatch.Reason, status int, bodies ...string) {
		for _, b := range bodies {
			list = append(list, dispatchtest.Case{
				Name: fmt.Sprintf("%d %.60s", status, b), Answer: answer(status, b),
				Want: dispatch.Outcome{Class: class, Reason: reason},
			})
		}
	}
	add(dispatch.NotSent, dispatch.ReasonThrottled, 400, `{"Code":"Throttling"}`, `{"code":"Throttling.User"}`)
	add(dispatch.NotSent, dispatch.ReasonThrottled, 503, `{"Code":"Throttling.Api"}`)
	add(dispatch.NotSent, dispatch.ReasonThrottled, 429, `{"Code":"Whatever"}`)
	add(dispatch.Permanent, dispatch.ReasonAuth, 200, `{"ResultCode":"-1"}`, `{"ResultCode":-1}`)
	add(dispatch.Permanent, dispatch.ReasonRefused, 200, `{"ResultCode":"3001"}`, `{"ResultCode":3050}`, `{"ResultCode":"8012","PushResult":{"Success":false}}`)
	add(dispatch.Permanent, dispatch.ReasonRefused, 400, `{"Code":"MissingAppId"}`, `{"ResultCode":"3019"}`)
	add(dispatch.Permanent, dispatch.ReasonAuth, 400, `{"Code":"SignatureDoesNotMatch"}`, `{"Code":"InvalidTimeStamp.Expired"}`)
	add(dispatch.Permanent, dispatch.ReasonAuth, 403, `{"Code":"Forbidden.RAM"}`)
	add(dispatch.Permanent, dispatch.ReasonAuth, 404, `{"Code":"InvalidAccessKeyId.NotFound"}`)
	add(dispatch.Unknown, dispatch.ReasonServerError, 200, `{"ResultCode":"9000"}`, `{"ResultCode":"SYSTEM_ERROR"}`)
	add(dispatch.Unknown, dispatch.ReasonServerError, 500, `{"Code":"InternalError"}`, `{"ResultCode":"3001"}`)
	add(dispatch.Unknown, dispatch.ReasonServerError, 400, `{"Code":"ServiceUnavailable"}`)
	add(dispatch.Unknown, dispatch.ReasonBadAnswer, 400, `{"Code":"SignatureNonceUsed"}`, `{"Message":"no code"}`, `{"Code":null}`)
	add(dispatch.Unknown, dispatch.ReasonBadAnswer, 200,
		`{"ResultCode":"OK"}`, `{"ResultCode":"OK","PushResult":null}`, `{"ResultCode":"OK","PushResult":{"Success":false}}`,
		`{"ResultCode":"OK","PushResult":{"Success":1}}`, `{"ResultCode":"ok","PushResult":{"Success":true}}`,
		`{"Code":"OK","PushResult":{"Success":true}}`, `{"PushResult":{"Success":true}}`, `{"ResultCode":"100"}`,
		`{"ResultCode":"3001","PushResult":{"Success":true}}`, `{"Code":"Throttling","PushResult":{"Success":true}}`,
		`{"ResultCode":"3000"}`, `{"ResultCode":"3051"}`, `{"ResultCode":"7777"}`, `{"ResultCode":{"a":1}}`,
		accepted+"x", accepted[:len(accepted)-1], `{"ResultCode":"OK","PushResult":"yes"}`)
	return list
}

// The wire of each channel, signed with STS credentials.
func TestWire(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"mpaas.push_simple": `{"DeliveryType":"1","expiredSeconds":60,"title":"a b","content":"100%","pushStyle":2,"uri":"https://x/?a=b",
			"imageUrls":{"defaultUrl": "u"},"notifyLevel":{"oppo":"2","hms":"1"},"extendedParams":{"z": 1, "a": "b c"}}`,
		"mpaas.push_template": `{"deliveryType":5,"expiredSeconds":60,"templateName":"t","templateKeyValue":"{\"a\": \"b\"}",
			"activityEvent":"end","dismissalDate":1700000000,"activityContentState":{"b":[1,{"c":true}],"a":"x","n":null}}`,
		"mpaas.push_multiple":  `{"deliveryType":3,"expiredSeconds":60,"templateName":"t","silent":1}`,
		"mpaas.push_broadcast": `{"deliveryType":2,"expiredSeconds":60,"templateName":"t","msgkey":"mine","pushStatus":1,"unBindPeriod":2,"bindPeriod":1}`,
	}
	wants := map[string]string{
		"mpaas.push_simple": `AppId=app%2F1&Content=100%25&DeliveryType=1&ExpiredSeconds=60&ExtendedParams=%7B%22z%22%3A1%2C%22a%22%3A%22b+c%22%7D` +
			`&ImageUrls=%7B%22defaultUrl%22%3A%22u%22%7D&NotifyLevel=%7B%22hms%22%3A%221%22%2C%22oppo%22%3A%222%22%7D&PushStyle=2&StrategyType=0` +
			`&TargetMsgkey=%7B%22u%5C%221%22%3A%22k1%22%2C%22u2%22%3A%22k2%22%7D&TaskName=task+1&Title=a+b&Uri=https%3A%2F%2Fx%2F%3Fa%3Db&WorkspaceId=w`,
		"mpaas.push_template": `ActivityContentState.a=x&ActivityContentState.b.1=1&ActivityContentState.b.2.c=true&ActivityEvent=end&AppId=app%2F1` +
			`&DeliveryType=5&DismissalDate=1700000000&ExpiredSeconds=60&StrategyType=0&TargetMsgkey=%7B%22u%5C%221%22%3A%22k1%22%2C%22u2%22%3A%22k2%22%7D` +
			`&TaskName=task+1&TemplateKeyValue=%7B%22a%22%3A+%22b%22%7D&TemplateName=t&WorkspaceId=w`,
		"mpaas.push_multiple": `AppId=app%2F1&DeliveryType=3&ExpiredSeconds=60&Silent=1&StrategyType=0&TargetMsg.1.MsgKey=k1&TargetMsg.1.Target=u%221` +
			`&TargetMsg.2.MsgKey=k2&TargetMsg.2.Target=u2&TaskName=task+1&TemplateName=t&WorkspaceId=w`,
		"mpaas.push_broadcast": `AppId=app%2F1&BindPeriod=1&DeliveryType=2&ExpiredSeconds=60&Msgkey=mine-occurrence-7&PushStatus=1&StrategyType=0` +
			`&TaskName=task+1&TemplateName=t&UnBindPeriod=2&WorkspaceId=w`,
	}
	for channel, body := range requests {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			set := settings("https://mpaas.invalid")
			set.AppID, set.WorkspaceID = "app/1", "w"
			set.Now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600)) }
			sent := &recorder{}
			set.Transport = sent
			o := push(t, set, dispatch.Request{Channel: channel, TaskName: "task 1", Body: json.RawMessage(body)})
			if o.Class != dispatch.Accepted {
				t.Errorf("got %+v", o)
			}
			if diff := cmp.Diff(strings.Split(wants[channel], "&"), strings.Split(sent.body, "&")); diff != "" {
				t.Error(diff)
			}
			checkSignature(t, sent)
			if got := sent.header.Get("X-Acs-Date"); got != "2026-03-04T04:06:07Z" {
				t.Errorf("date %s", got)
			}
			if _, err := url.ParseQuery(sent.body); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkSignature signs the headers that the call says it signed.
func checkSignature(t *testing.T, r *recorder) {
	t.Helper()
	const signed = "content-type;host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;" +
		"x-acs-security-token;x-acs-signature-nonce;x-acs-version"
	var headers [][2]string
	for name := range strings.SplitSeq(signed, ";") {
		value := r.header.Get(name)
		if name == "host" {
			value = r.host
		}
		if value == "" {
			t.Errorf("no header %s", name)
		}
		headers = append(headers, [2]string{name, value})
	}
	if diff := cmp.Diff(mpaas.Authorize("LTAI-test", secret, headers, r.body), r.header.Get("Authorization")); diff != "" {
		t.Error(diff)
	}
}

func push(t *testing.T, set dispatch.Settings, r dispatch.Request) dispatch.Outcome {
	t.Helper()
	m, problems := mpaas.Adapter{}.Compile(r)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p, err := mpaas.Adapter{}.New(set)
	if err != nil {
		t.Fatal(err)
	}
	call := &dispatch.Push{Message: m, DeliveryID: "d", MsgKey: "occurrence-7"}
	if m.Channel.MaxTargets > 0 {
		call.Targets = []dispatch.Target{{Target: `u"1`, MsgKey: "k1"}, {Target: "u2", MsgKey: "k2"}}
	}
	return p.Push(t.Context(), call)
}

// recorder is a transport that keeps the call and takes the push.
type recorder struct {
	header     http.Header
	host, body string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	defer func() { _ = req.Body.Close() }()
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r.header, r.host, r.body = req.Header, req.Host, string(b)
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(accepted)), ContentLength: -1, Header: http.Header{}}, nil
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	tests := []struct{ endpoint, region, want string }{
		{"", "", "mpaas.cn-hangzhou.aliyuncs.com"},
		{"", "cn-hangzhou", "mpaas.cn-hangzhou.aliyuncs.com"},
		{"", "cn-shanghai-finance-1", "mpaas.aliyuncs.com"},
		{"http://127.0.0.1:99", "cn-hangzhou", "127.0.0.1:99"},
	}
	for _, tt := range tests {
		set := settings(tt.endpoint)
		set.Options["region"] = tt.region
		sent := &recorder{}
		set.Transport = sent
		push(t, set, dispatch.Request{
			Channel: "mpaas.push_simple", TaskName: "t", Body: json.RawMessage(samples["mpaas.push_simple"]),
		})
		if sent.host != tt.want {
			t.Errorf("%+v: called %s", tt, sent.host)
		}
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := mpaas.Adapter{}.New(dispatch.Settings{})
	for _, want := range []string{"app_id", "workspace_id", "access_key_id", "access_key_secret"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// Targets that the message cannot carry make the call invalid.
func TestTargetsOfACall(t *testing.T) {
	t.Parallel()
	many := json.RawMessage(`{"1":1,"2":{"x":1,"y":2},"3":3,"4":4,"5":5,"6":6,"7":7,"8":8,"9":[{"z":1}],"10":"a:b"}`)
	tests := []struct {
		name, channel string
		target        dispatch.Target
		class         dispatch.Class
	}{
		{"no key", "mpaas.push_simple", dispatch.Target{Target: "u"}, dispatch.Permanent},
		{"no target", "mpaas.push_multiple", dispatch.Target{MsgKey: "k"}, dispatch.Permanent},
		{"values in a simple push", "mpaas.push_simple", dispatch.Target{Target: "u", MsgKey: "k", TemplateKeyValue: json.RawMessage(`{"a":"b"}`)}, dispatch.Permanent},
		{"empty values in a simple push", "mpaas.push_simple", dispatch.Target{Target: "u", MsgKey: "k", TemplateKeyValue: json.RawMessage(`{}`), ExtendedParams: json.RawMessage("null")}, dispatch.Accepted},
		{"10 extended parameters", "mpaas.push_multiple", dispatch.Target{Target: "u", MsgKey: "k", ExtendedParams: many}, dispatch.Permanent},
		{"9 extended parameters", "mpaas.push_multiple", dispatch.Target{Target: "u", MsgKey: "k", ExtendedParams: json.RawMessage(strings.Replace(string(many), `,"10":"a:b"`, "", 1))}, dispatch.Accepted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, problems := mpaas.Adapter{}.Compile(dispatch.Request{Channel: tt.channel, TaskName: "t", Body: json.RawMessage(samples[tt.channel])})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			set := settings("http://127.0.0.1:1")
			set.Transport = &recorder{}
			p, err := mpaas.Adapter{}.New(set)
			if err != nil {
				t.Fatal(err)
			}
			if o := p.Push(t.Context(), &dispatch.Push{Message: m, Targets: []dispatch.Target{tt.target}}); o.Class != tt.class {
				t.Errorf("got %v %+v, want %v", o.Class, o, tt.class)
			}
		})
	}
}

// hundred is a full slice of targets with values of their own.
func hundred() []dispatch.Target {
	targets := make([]dispatch.Target, 100)
	for i := range targets {
		targets[i] = dispatch.Target{
			Target: fmt.Sprintf("2088%012d", i), MsgKey: fmt.Sprintf("c42-20260301T090000-%016x", i),
			TemplateKeyValue: json.RawMessage(`{"name": "李 四", "money": "1234.50"}`),
		}
	}
	return targets
}

// The budget is 100 µs for 100 targets.
func BenchmarkPrepare(b *testing.B) {
	p, err := mpaas.Adapter{}.New(settings("http://127.0.0.1:1"))
	if err != nil {
		b.Fatal(err)
	}
	m, problems := mpaas.Adapter{}.Compile(dispatch.Request{
		Channel: "mpaas.push_multiple", TaskName: "task", Body: json.RawMessage(samples["mpaas.push_multiple"]),
	})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	targets := hundred()
	for i := range targets {
		targets[i].TemplateKeyValue = json.RawMessage(`{"name": "李 四", "money": "1234.50"}`)
	}
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("targets=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				size, err := mpaas.Prepare(p, &dispatch.Push{Message: m, Targets: targets[:n]})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
			}
		})
	}
}

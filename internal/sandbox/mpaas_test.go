package sandbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

func simple() url.Values {
	return url.Values{
		"AppId": {testApp}, "WorkspaceId": {testWorkspace}, "TaskName": {"task"}, "DeliveryType": {"1"},
		"ExpiredSeconds": {"600"}, "Title": {"t"}, "Content": {"c"}, "TargetMsgkey": {`{"device-1":"k-1"}`},
	}
}

func template() url.Values {
	return with(simple(), "Title", "", "Content", "", "TemplateName", "tpl", "TemplateKeyValue", `{"name":"x"}`)
}

func broadcast() url.Values {
	return with(template(), "TargetMsgkey", "", "Msgkey", "cast-1", "BindPeriod", "4")
}

// pairs is a TargetMsgkey of n targets.
func pairs(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"t%d":"k%d"`, i, i))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// object is a JSON object of n keys.
func object(n int) string { return strings.ReplaceAll(pairs(n), "t", "x") }

func TestMPaaSAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, action string
		form         url.Values
		want         string // the code
	}{
		{"multiple", "PushMultiple", multiple(1), "OK"},
		{"multiple of 100", "PushMultiple", multiple(100), "OK"},
		{"simple", "PushSimple", simple(), "OK"},
		{"simple of 10", "PushSimple", with(simple(), "TargetMsgkey", pairs(10)), "OK"},
		{"template", "PushTemplate", template(), "OK"},
		{"live activity", "PushTemplate", with(template(), "DeliveryType", "6", "ActivityEvent", "end", "DismissalDate", "9",
			"ActivityContentState.a.b", "1"), "OK"},
		{"vendor fields", "PushSimple", with(simple(), "ThirdChannelCategory", `{"hms":"14","vivo":"1"}`, "NotifyLevel", `{"oppo":"2"}`,
			"ExtendedParams", object(20), "TransparentMessageUrgency", "HIGH", "NotifyType", "transparent"), "OK"},
		{"broadcast", "PushBroadcast", broadcast(), "OK"},
		{"broadcast to all", "PushBroadcast", with(broadcast(), "PushStatus", "1", "BindPeriod", "", "UnBindPeriod", "1"), "OK"},

		{"no app", "PushMultiple", with(multiple(1), "AppId", ""), "3003"},
		{"no workspace", "PushMultiple", with(multiple(1), "WorkspaceId", ""), "3003"},
		{"another's app", "PushMultiple", with(multiple(1), "AppId", "STS"), "3007"},
		{"no task name", "PushMultiple", with(multiple(1), "TaskName", ""), "3019"},
		{"no validity", "PushMultiple", with(multiple(1), "ExpiredSeconds", ""), "3020"},
		{"validity of zero", "PushMultiple", with(multiple(1), "ExpiredSeconds", "0"), "3020"},
		{"negative validity", "PushMultiple", with(multiple(1), "ExpiredSeconds", "-5"), "3020"},
		{"no delivery type", "PushMultiple", with(multiple(1), "DeliveryType", ""), "3009"},
		{"live activity to many", "PushMultiple", with(multiple(1), "DeliveryType", "5"), "3009"},
		{"broadcast to users", "PushBroadcast", with(broadcast(), "DeliveryType", "3"), "3030"},
		{"no template", "PushMultiple", with(multiple(1), "TemplateName", ""), "3037"},
		{"comma in template", "PushTemplate", with(template(), "TemplateName", "a,b"), "3038"},
		{"no title", "PushSimple", with(simple(), "Title", ""), "3024"},
		{"no content", "PushSimple", with(simple(), "Content", ""), "3024"},
		{"no target", "PushMultiple", multiple(0), "3021"},
		{"101 targets", "PushMultiple", multiple(101), "3029"},
		{"11 pairs", "PushSimple", with(simple(), "TargetMsgkey", pairs(11)), "3029"},
		{"no pair", "PushSimple", with(simple(), "TargetMsgkey", "{}"), "3021"},
		{"no pairs at all", "PushTemplate", with(template(), "TargetMsgkey", ""), "3021"},
		{"pair without key", "PushSimple", with(simple(), "TargetMsgkey", `{"a":""}`), "3028"},
		{"pairs are a list", "PushSimple", with(simple(), "TargetMsgkey", `[]`), "3028"},
		{"text after the pairs", "PushSimple", with(simple(), "TargetMsgkey", `{"a":"b"} x`), "3028"},
		{"a gap in the list", "PushMultiple", with(multiple(1), "TargetMsg.3.Target", "x", "TargetMsg.3.MsgKey", "y"), "3021"},
		{"target without key", "PushMultiple", with(multiple(2), "TargetMsg.2.MsgKey", ""), "3028"},
		{"list counts from 0", "PushMultiple", with(multiple(1), "TargetMsg.0.Target", "x"), "3028"},
		{"target's values are text", "PushMultiple", with(multiple(1), "TargetMsg.1.TemplateKeyValue", "x"), "3028"},
		{"ten keys of a target", "PushMultiple", with(multiple(1), "TargetMsg.1.ExtendedParams", object(10)), "3049"},
		{"nine keys of a target", "PushMultiple", with(multiple(1), "TargetMsg.1.ExtendedParams", object(9)), "OK"},
		{"21 extended", "PushMultiple", with(multiple(1), "ExtendedParams", object(21)), "3035"},
		{"reserved extended", "PushMultiple", with(multiple(1), "ExtendedParams", `{"taskId":"1"}`), "3044"},
		{"extended is text", "PushMultiple", with(multiple(1), "ExtendedParams", `x`), "3044"},
		{"hms category 15", "PushMultiple", with(multiple(1), "ThirdChannelCategory", `{"hms":"15"}`), "3028"},
		{"hms level 3", "PushMultiple", with(multiple(1), "NotifyLevel", `{"hms":"3"}`), "3028"},
		{"level is a number", "PushMultiple", with(multiple(1), "NotifyLevel", `{"oppo":2}`), "3028"},
		{"notify type", "PushMultiple", with(multiple(1), "NotifyType", `x`), "3028"},
		{"urgency", "PushMultiple", with(multiple(1), "TransparentMessageUrgency", `high`), "3028"},
		{"dismissal of an update", "PushSimple", with(simple(), "ActivityEvent", "update", "DismissalDate", "9"), "3028"},
		{"no bind period", "PushBroadcast", with(broadcast(), "BindPeriod", ""), "3028"},
		{"no unbind period", "PushBroadcast", with(broadcast(), "PushStatus", "2"), "3028"},
		{"bind period 5", "PushBroadcast", with(broadcast(), "BindPeriod", "5"), "3028"},
		{"no broadcast key", "PushBroadcast", with(broadcast(), "Msgkey", ""), "3028"},
		{"strategy type 3", "PushSimple", with(simple(), "StrategyType", "3"), "3028"},
		{"no content of strategy", "PushSimple", with(simple(), "StrategyType", "1"), "3028"},
		{"unknown action", "PushNothing", multiple(1), "InvalidAction.NotFound"},
	}
	sb := setup(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sb.must(t, sb.mpaas(t, tt.action, tt.form))
			code, success := r.field("ResultCode"), r.field("PushResult", "Success")
			if tt.want == "InvalidAction.NotFound" {
				code = r.field("Code")
			}
			if code != tt.want || (tt.want == "OK") != (success == true) {
				t.Errorf("code %v, success %v, want %s: %s", code, success, tt.want, r.body)
			}
			call := sb.last(t)
			if call.Signature != "ok" || call.Code != tt.want || (call.Outcome == sandbox.Accepted) != (tt.want == "OK") {
				t.Errorf("journal: %+v", call)
			}
			if len(call.Notes) > 0 {
				t.Errorf("notes: %q", call.Notes)
			}
		})
	}
}

func TestMPaaSJournalLine(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	before := time.Now()
	r := sb.must(t, sb.mpaas(t, "PushMultiple", with(multiple(2), "TaskNmae", "x", "TargetMsg.1.Target", "a\"\n\xff")))
	got := sb.last(t)
	want := sandbox.Call{
		Seq: 1, API: "mpaas.push_multiple", AppID: testApp, WorkspaceID: testWorkspace, Signature: "ok",
		Outcome: sandbox.Accepted, Code: "OK", Status: 200, AnswerDelivered: true, TaskName: "任务 1", TargetCount: 2,
		MsgKeys: []string{"key-1", "key-2"}, Targets: []string{"a\"\n\ufffd", "user-2"},
		Notes:     []string{"unknown parameter TaskNmae"},
		RequestID: r.field("RequestId").(string), MessageID: r.field("PushResult", "Data").(string),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(got, "ReceivedAt", "AnsweredAt")); diff != "" {
		t.Error(diff)
	}
	if got.ReceivedAt.Before(before.Truncate(0)) || got.AnsweredAt.Before(got.ReceivedAt) || got.AnsweredAt.After(time.Now()) {
		t.Errorf("received %v, answered %v", got.ReceivedAt, got.AnsweredAt)
	}
}

func TestMPaaSAuthentication(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	sts := with(multiple(1), "AppId", "STS")
	good := acs{id: testKeyID, secret: testSecret}
	edit := func(req *http.Request, change func(http.Header)) *http.Request {
		change(req.Header)
		return req
	}
	tests := []struct {
		name string
		req  *http.Request
		want string // part of the reason
	}{
		{"temporary key", acs{id: "sts-id", secret: "sts-secret", token: "sts-token"}.request(t, sb.URL(), "PushMultiple", sts), "ok"},
		{"temporary key, no token", acs{id: "sts-id", secret: "sts-secret"}.request(t, sb.URL(), "PushMultiple", sts), "security token"},
		{"temporary key, wrong token", acs{id: "sts-id", secret: "sts-secret", token: "x"}.request(t, sb.URL(), "PushMultiple", sts), "security token"},
		{"a token too many", acs{id: testKeyID, secret: testSecret, token: "x"}.request(t, sb.URL(), "PushMultiple", multiple(1)), "ok"},
		{"unknown key", acs{id: "x", secret: testSecret}.request(t, sb.URL(), "PushMultiple", multiple(1)), "unknown access key"},
		{"wrong secret", acs{id: testKeyID, secret: "x"}.request(t, sb.URL(), "PushMultiple", multiple(1)), "does not match"},
		{"16 minutes old", acs{id: testKeyID, secret: testSecret, date: time.Now().Add(-16 * time.Minute)}.
			request(t, sb.URL(), "PushMultiple", multiple(1)), "15 minutes"},
		{"16 minutes ahead", acs{id: testKeyID, secret: testSecret, date: time.Now().Add(16 * time.Minute)}.
			request(t, sb.URL(), "PushMultiple", multiple(1)), "15 minutes"},
		{"14 minutes old", acs{id: testKeyID, secret: testSecret, date: time.Now().Add(-14 * time.Minute)}.
			request(t, sb.URL(), "PushMultiple", multiple(1)), "ok"},
		{"no authorization", edit(good.request(t, sb.URL(), "PushMultiple", multiple(1)), func(h http.Header) { h.Del("Authorization") }), "Authorization"},
		{"another action", edit(good.request(t, sb.URL(), "PushMultiple", multiple(1)), func(h http.Header) { h.Set("X-Acs-Action", "PushSimple") }), "does not match"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sb.must(t, tt.req)
			if got := sb.last(t).Signature; !strings.Contains(got, tt.want) {
				t.Errorf("signature %q, want %q", got, tt.want)
			}
			if code := r.field("ResultCode"); (code == "-1") != (tt.want != "ok") || r.status != http.StatusOK {
				t.Errorf("HTTP %d %s", r.status, r.body)
			}
		})
	}
}

func TestMPaaSScheduledTasks(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	now := time.Now()
	ms := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	loop := fmt.Sprintf(`{"startTime":%s,"endTime":%s,"circleType":1,"time":"23:59:59"}`, ms(now), ms(now.AddDate(0, 0, 9)))
	fixed := fmt.Sprintf(`{"fixedTime":%s}`, ms(now.Add(time.Hour)))
	ask := url.Values{
		"AppId": {testApp}, "WorkspaceId": {testWorkspace}, "StartTime": {ms(now.Add(-time.Hour))},
		"EndTime": {ms(now.AddDate(1, 0, 0))},
	}
	count := func(form url.Values) any {
		return sb.must(t, sb.mpaas(t, "QueryPushSchedulerList", form)).field("ResultContent", "Data", "TotalCount")
	}
	one := sb.must(t, sb.mpaas(t, "PushSimple", with(simple(), "StrategyType", "1", "StrategyContent", fixed)))
	many := sb.must(t, sb.mpaas(t, "PushTemplate", with(template(), "StrategyType", "2", "StrategyContent", strconv.Quote(loop))))
	if got := count(ask); got != 11.0 {
		t.Errorf("%v tasks, want 11", got)
	}
	if got := count(with(ask, "UniqueId", many.field("PushResult", "Data").(string))); got != 10.0 {
		t.Errorf("%v subtasks, want 10", got)
	}
	ids := fmt.Sprint(one.field("PushResult", "Data"), ",", many.field("PushResult", "Data"), "-3")
	sb.must(t, sb.mpaas(t, "CancelPushScheduler", url.Values{"AppId": {testApp}, "WorkspaceId": {testWorkspace}, "UniqueIds": {ids}}))
	if got := count(with(ask, "UniqueId", "")); got != 9.0 {
		t.Errorf("%v tasks after cancelling two, want 9", got)
	}
	long := fmt.Sprintf(`{"startTime":%s,"endTime":%s,"circleType":1,"time":"23:59:59"}`, ms(now), ms(now.AddDate(0, 0, 91)))
	if r := sb.must(t, sb.mpaas(t, "PushSimple", with(simple(), "StrategyType", "2", "StrategyContent", long))); r.field("ResultCode") != "3028" {
		t.Errorf("101 waiting tasks: %s", r.body)
	}
	late := fmt.Sprintf(`{"startTime":%s,"endTime":%s,"circleType":3,"circleValue":[1],"time":"23:59:59"}`, ms(now), ms(now.AddDate(0, 0, 182)))
	if r := sb.must(t, sb.mpaas(t, "PushSimple", with(simple(), "StrategyType", "2", "StrategyContent", late))); r.field("ResultCode") != "3028" {
		t.Errorf("a loop of 182 days: %s", r.body)
	}
}

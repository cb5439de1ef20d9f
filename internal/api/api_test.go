package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/campaign-scheduler/scheduler/internal/api"
)

// A push becomes one campaign with its targets, of the key's role.
func TestPushIsStoredAsACampaign(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, tt := range map[string]struct {
		call            params
		action, channel string
		request         string
		targets         int
	}{
		"multiple": {multipleCall(100), "PushMultiple", "mpaas.push_multiple", `{"deliveryType":3,"templateName":"Test template","expiredSeconds":600}`, 100},
		"simple":   {simpleCall(), "PushSimple", "mpaas.push_simple", `{"deliveryType":1,"title":"标题","content":"内容","expiredSeconds":600}`, 1},
		"template": {templateCall(), "PushTemplate", "mpaas.push_template", `{"deliveryType":1,"templateName":"tpl","expiredSeconds":600,"templateKeyValue":"{\"name\":\"Zhang San\"}"}`, 1},
		"broadcast": {
			broadcastCall(), "PushBroadcast", "mpaas.push_broadcast",
			`{"deliveryType":1,"templateName":"tpl","expiredSeconds":600,"msgkey":"key-1","bindPeriod":1,"thirdChannelCategory":"{\"hms\":\"9\"}"}`, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := r.must(t, "crm", tt.action, tt.call.with("RegionId", "cn-hangzhou", "SomethingNew", "1"))
			if len(a.PushResult.Data) != 32 || a.PushResult.ResultMsg == "" || len(a.RequestID) != 36 || strings.ToUpper(a.RequestID) != a.RequestID {
				t.Errorf("answer: %s", a.body)
			}
			if strings.Contains(a.body, `"Code"`) {
				t.Errorf("a top-level Code, at which Node throws: %s", a.body)
			}
			var stored struct {
				Name, Channel, CreatedBy string
				Request                  json.RawMessage
				StrategyType             int16
				Targets                  int
			}
			row := r.QueryRow(t.Context(), `SELECT c.name, c.channel, c.created_by, c.request, c.strategy_type,
				(SELECT count(*) FROM scheduler.campaign_targets t WHERE t.campaign_id = c.id) FROM scheduler.campaigns c WHERE c.channel = $1`, tt.channel)
			if err := row.Scan(&stored.Name, &stored.Channel, &stored.CreatedBy, &stored.Request, &stored.StrategyType, &stored.Targets); err != nil {
				t.Fatal(err)
			}
			if stored.Name != tt.call["TaskName"] || stored.CreatedBy != r.base+"_crm" || stored.StrategyType != 0 || stored.Targets != tt.targets {
				t.Errorf("stored: %+v", stored)
			}
			if diff := cmp.Diff(parse(t, tt.request), parse(t, string(stored.Request))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func parse(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The columns that our own parameters fill.
func TestOurParameters(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	r.must(t, "crm", "PushMultiple", multipleCall(1).with("StrategyType", "1", "StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, at.UnixMilli()),
		"TimeZone", "Europe/Berlin", "MisfirePolicy", "all", "CatchUpWindow", "90", "ShortMonthPolicy", "last_day", "DstGapPolicy", "skip", "QuietPolicy", "skip",
		"ResendUnknown", "true", "ClientToken", "token-1"))
	got := get[string](t, r, `SELECT concat_ws(' ', time_zone, misfire_policy, catch_up_window, short_month_policy, dst_gap_policy, quiet_policy, resend_unknown, client_token) FROM scheduler.campaigns`)
	if want := "Europe/Berlin all 00:01:30 last_day skip skip t token-1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Times are taken as clients write lists: with commas, as JSON, one by one.
func TestTimesParameter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	content := fmt.Sprintf(`{"startTime":%d,"endTime":%d,"circleType":1,"time":"13:45:11"}`, now.UnixMilli(), now.AddDate(0, 0, 9).UnixMilli())
	loop := multipleCall(1).with("StrategyType", "2", "StrategyContent", content)
	for _, call := range []params{
		loop.with("Times", "18:00:00,09:00:00"), loop.with("Times", `["09:00:00","18:00:00"]`), loop.with("Times.2", "09:00:00", "Times.1", "18:00:00"),
	} {
		r.must(t, "crm", "PushMultiple", call)
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns WHERE times = '{09:00:00,18:00:00}'`); n != 3 {
		t.Errorf("%d campaigns have the times, want 3", n)
	}
	r.must(t, "crm", "PushMultiple", loop)
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns WHERE times IS NULL`); n != 1 {
		t.Errorf("%d campaigns have no times, want 1", n)
	}
}

// A spread is taken in seconds, beside a window that holds it.
func TestSpreadParameter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.must(t, "crm", "PushMultiple", multipleCall(1).with("Spread", "1800"))
	r.must(t, "crm", "PushMultiple", multipleCall(1).with("Spread", "7200", "CatchUpWindow", "86400"))
	r.must(t, "crm", "PushMultiple", multipleCall(1))
	if got := get[string](t, r, `SELECT string_agg(coalesce(spread::text, '-'), ' ' ORDER BY id) FROM scheduler.campaigns`); got != "00:30:00 02:00:00 -" {
		t.Errorf("spreads %s", got)
	}
}

// The documents' samples of StrategyContent, the escaped one too.
func TestDocumentedStrategies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	content := fmt.Sprintf(`{"fixedTime":1630303126000,"startTime":%d,"endTime":%d,"circleType":1,"circleValue":[1, 7],"time":"13:45:11"}`,
		now.UnixMilli(), now.AddDate(0, 0, 9).UnixMilli())
	escaped, _ := json.Marshal(content)
	for _, text := range []string{content, string(escaped)} {
		r.must(t, "crm", "PushMultiple", multipleCall(1).with("StrategyType", "2", "StrategyContent", text))
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns WHERE strategy_content ->> 'time' = '13:45:11' AND time_zone = 'Asia/Shanghai'`); n != 2 {
		t.Errorf("%d loops stored, want 2", n)
	}
}

// Maps, lists and booleans as other clients write them.
func TestOtherSpellings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	for name, tt := range map[string]struct {
		action string
		params params
		stored string // an expression over the campaign c and its targets t
		want   string
	}{
		"a target with dots": {
			"PushSimple", simpleCall().with("TargetMsgkey", "", "TargetMsgkey.a.b@c.com", "k", "TargetMsgkey.13800000000", ""),
			`t.target || ' ' || t.msg_key`, "a.b@c.com k",
		},
		"a placeholder with dots": {
			"PushMultiple", multipleCall(1).with("TargetMsg.1.TemplateKeyValue", "", "TargetMsg.1.TemplateKeyValue.user.name", "Li"),
			`t.template_key_value::text`, `{"user.name": "Li"}`,
		},
		"an object of some depth": {
			"PushSimple", simpleCall().with("TransparentMessagePayload.a.b", "1", "TransparentMessagePayload.c.1", "2"),
			`c.request ->> 'transparentMessagePayload'`, `{"a":{"b":"1"},"c":["2"]}`,
		},
		"targets as JSON": {
			"PushMultiple", multipleCall(0).with("TargetMsg", `[{"Target":"u","MsgKey":"k"}]`),
			`t.target || ' ' || t.msg_key`, "u k",
		},
		"a fixed time key by key": {
			"PushSimple", simpleCall().with("StrategyType", "1", "StrategyContent.fixedTime", fmt.Sprint(now.Add(time.Hour).UnixMilli())),
			`c.strategy_content::text`, fmt.Sprintf(`{"fixedTime": %d}`, now.Add(time.Hour).UnixMilli()),
		},
		"a loop key by key": {
			"PushSimple", simpleCall().with("StrategyType", "2", "StrategyContent.startTime", fmt.Sprint(now.UnixMilli()),
				"StrategyContent.endTime", fmt.Sprint(now.AddDate(0, 0, 9).UnixMilli()), "StrategyContent.circleType", "2",
				"StrategyContent.circleValue.1", "1", "StrategyContent.circleValue.2", "5", "StrategyContent.time", "13:45:11"),
			`concat_ws(' ', c.strategy_content ->> 'circleType', c.strategy_content ->> 'circleValue', c.strategy_content ->> 'time')`, "2 [1, 5] 13:45:11",
		},
		"a boolean of Python": {"PushSimple", simpleCall().with("ResendUnknown", "True"), `c.resend_unknown::text`, "true"},
		"a boolean of C":      {"PushSimple", simpleCall().with("ResendUnknown", "0"), `c.resend_unknown::text`, "false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.must(t, "crm", tt.action, tt.params.with("TaskName", name))
			got := get[string](t, r, `SELECT `+tt.stored+` FROM scheduler.campaigns c JOIN scheduler.campaign_targets t ON t.campaign_id = c.id WHERE c.name = $1`, name)
			if got != tt.want {
				t.Errorf("stored %s, want %s", got, tt.want)
			}
		})
	}
}

// The calls are signed: which name the API is called by is for nobody to judge, and
// the service's own may lead to it.
func TestAnyHostName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.sign("crm", "PushSimple", simpleCall()), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "mpaas.cn-hangzhou.aliyuncs.com"
	if a := send(t, req); !a.PushResult.Success {
		t.Errorf("HTTP %d %s", a.status, a.body)
	}
}

// Twenty bad calls, and what each is told. UPDATE_GOLDEN writes the answers anew.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	calls := []struct {
		name, action string
		params       params
	}{
		{"every problem at once", "PushMultiple", params{"AppId": "nobody", "WorkspaceId": "test", "StrategyType": "2", "StrategyContent": `{"circleType":9}`, "MisfirePolicy": "x"}},
		{"no app", "PushMultiple", multipleCall(1).with("AppId", "", "WorkspaceId", "")},
		{"an app of another team", "PushMultiple", multipleCall(1).with("AppId", "club")},
		{"an app of another provider", "PushMultiple", multipleCall(1).with("AppId", "hook")},
		{"no task name", "PushSimple", simpleCall().with("TaskName", "")},
		{"delivery type of a broadcast", "PushBroadcast", broadcastCall().with("DeliveryType", "3")},
		{"expired seconds", "PushTemplate", templateCall().with("ExpiredSeconds", "-1")},
		{"no targets", "PushMultiple", multipleCall(0)},
		{"101 targets", "PushMultiple", multipleCall(101)},
		{"a target twice", "PushMultiple", multipleCall(2).with("TargetMsg.2.Target", "user-1")},
		{"an empty target", "PushSimple", simpleCall().with("TargetMsgkey", `{"":"k"}`)},
		{"a gap in the list", "PushMultiple", multipleCall(1).with("TargetMsg.3.Target", "user-3")},
		{"a list from 0", "PushMultiple", multipleCall(0).with("TargetMsg.0.Target", "user-0")},
		{"an entry beyond the list's end", "PushMultiple", multipleCall(1).with("TargetMsg.1001.Target", "user-1001")},
		{"a list given twice", "PushMultiple", multipleCall(1).with("TargetMsg", `[{"Target":"user-2"}]`)},
		{"a list that is no JSON", "PushMultiple", multipleCall(0).with("TargetMsg", "user-1,user-2")},
		{"a long key", "PushMultiple", multipleCall(1).with("TargetMsg.1.MsgKey", strings.Repeat("k", 257))},
		{"a long key of a map", "PushSimple", simpleCall().with("TargetMsgkey", `{"token-1":"`+strings.Repeat("k", 257)+`"}`)},
		{"times that are none", "PushSimple", simpleCall().with("StrategyType", "2", "StrategyContent", `{"circleType":1}`, "Times", "09:00:00,9:30")},
		{"no such calendar", "PushSimple", simpleCall().with("Calendar", "none", "CalendarPolicy", "next_open")},
		{"no such calendar policy", "PushSimple", simpleCall().with("Calendar", "none", "CalendarPolicy", "next")},
		{"a calendar policy alone", "PushSimple", simpleCall().with("CalendarPolicy", "skip")},
		{"times given twice", "PushSimple", simpleCall().with("Times", "09:00:00", "Times.1", "09:00:00")},
		{"a quiet policy that is none", "PushSimple", simpleCall().with("QuietPolicy", "later")},
		{"quiet hours ignored without leave", "PushSimple", simpleCall().with("QuietPolicy", "ignore")},
		{"a spread that is none", "PushSimple", simpleCall().with("Spread", "30m")},
		{"a spread beyond a day", "PushSimple", simpleCall().with("Spread", "86401", "CatchUpWindow", "864000")},
		{"a spread longer than the window", "PushSimple", simpleCall().with("Spread", "3601")},
		{"a key that StrategyContent has not", "PushSimple", simpleCall().with("StrategyType", "2", "StrategyContent", `{"name; x":1,"tmie":"1","time":"1"}`)},
		{"keys of StrategyContent called like columns", "PushSimple", simpleCall().with("StrategyType", "2", "StrategyContent", `{"app_id":1,"name":1,"channel":1,"time":"1"}`)},
		{"a boolean that is none", "PushSimple", simpleCall().with("ResendUnknown", "yes")},
		{"a Python dict", "PushMultiple", multipleCall(1).with("TargetMsg.1.TemplateKeyValue", "{'name': 'Zhang San'}")},
		{"a Java map", "PushSimple", simpleCall().with("TransparentMessagePayload", "{a=b}")},
		{"ten extended parameters of a target", "PushMultiple", multipleCall(1).with("TargetMsg.1.ExtendedParams", object(10))},
		{"21 extended parameters", "PushSimple", simpleCall().with("ExtendedParams", object(21))},
		{"strategy type 3", "PushSimple", simpleCall().with("StrategyType", "3")},
		{"a past time", "PushSimple", simpleCall().with("StrategyType", "1", "StrategyContent", `{"fixedTime":1630303126000}`)},
		{"no strategy content", "PushSimple", simpleCall().with("StrategyType", "2")},
		{"a zone that is none", "PushSimple", simpleCall().with("TimeZone", "Mars/Olympus")},
		{"a long catch-up window", "PushSimple", simpleCall().with("CatchUpWindow", "99999999999")},
		{"a list without a window", "QueryPushSchedulerList", params{"AppId": "shop", "WorkspaceId": "test", "PageSize": "501"}},
		{"cancel what is no id", "CancelPushScheduler", params{"AppId": "shop", "WorkspaceId": "test", "UniqueIds": strings.Repeat("0", 32)}},
		{"an action that is not ours", "QueryPushAnalysisCoreIndex", params{"AppId": "shop"}},
	}
	var b strings.Builder
	for _, c := range calls {
		a := r.call(t, "crm", c.action, c.params)
		code, text := a.ResultCode, a.ResultMessage
		if code == "" {
			code, text = a.Code, a.Message
		}
		if a.PushResult.Success || code == "OK" {
			t.Errorf("%s: accepted", c.name)
		}
		if a.status == http.StatusOK && strings.HasPrefix(c.action, "Push") && a.PushResult.ResultMsg != text {
			t.Errorf("%s: ResultMsg %q, ResultMessage %q", c.name, a.PushResult.ResultMsg, text)
		}
		fmt.Fprintf(&b, "%s (%s)\n  HTTP %d %s\n", c.name, c.action, a.status, code)
		for line := range strings.SplitSeq(text, "; ") {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	if n := get[int](t, r, `SELECT (SELECT count(*) FROM scheduler.campaigns) + (SELECT count(*) FROM scheduler.campaign_targets)`); n != 0 {
		t.Errorf("%d rows stored by bad calls", n)
	}
	const golden = "testdata/bad_calls.txt"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("answers (-golden +now):\n%s", diff)
	}
}

func object(keys int) string {
	m := make(map[string]string)
	for i := range keys {
		m[fmt.Sprint("k", i)] = "v"
	}
	text, _ := json.Marshal(m)
	return string(text)
}

// A loop is listed with every occurrence, beyond the pending limit too; one of
// them is cancelled by its id, then the rest by the parent's.
func TestListAndCancel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	loop := r.must(t, "crm", "PushMultiple", multipleCall(2).with("StrategyType", "2", "StrategyContent", weekly(now, 100))).PushResult.Data
	at := now.Add(48 * time.Hour).Truncate(time.Second)
	fixed := r.must(t, "crm", "PushSimple", simpleCall().with("StrategyType", "1", "StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, at.UnixMilli()))).PushResult.Data
	r.must(t, "crm", "PushSimple", simpleCall()) // now: it is no scheduled task
	total, list := r.must(t, "crm", "QueryPushSchedulerList", window(now)).list(t)
	if total < 25 || len(list) != total {
		t.Fatalf("%d of %d tasks", len(list), total)
	}
	for i, row := range list {
		if i > 0 && row.PushTime < list[i-1].PushTime || row.ExecutedStatus != "0" || len(row.UniqueID) != 32 || row.GmtCreate == 0 {
			t.Errorf("row %d: %+v", i, row)
		}
		if row.ParentID == fixed && (row.UniqueID != fixed || row.PushTime != at.UnixMilli() || row.Type != 0 || row.StrategyType != 1 || row.PushTitle != "标题") {
			t.Errorf("fixed: %+v", row)
		}
		if row.ParentID == loop && (row.UniqueID == loop || row.Type != 2 || row.StrategyType != 2 || row.DeliveryType != 3) {
			t.Errorf("loop: %+v", row)
		}
	}
	_, children := r.must(t, "crm", "QueryMpsSchedulerList", window(now).with("UniqueId", loop)).list(t)
	if len(children) != total-1 {
		t.Errorf("%d children, want %d", len(children), total-1)
	}
	if n, one := r.must(t, "crm", "QueryPushSchedulerList", window(now).with("UniqueId", children[3].UniqueID)).list(t); n != 1 || one[0] != children[3] {
		t.Errorf("one child: %d %+v", n, one)
	}
	if n, page := r.must(t, "crm", "QueryPushSchedulerList", window(now).with("UniqueId", loop, "PageNumber", "2", "PageSize", "10")).list(t); n != len(children) ||
		cmp.Diff(children[10:20], page) != "" {
		t.Errorf("page 2 of %d: %+v", n, page)
	}
	if n, _ := r.must(t, "crm", "QueryPushSchedulerList", window(now).with("Type", "0")).list(t); n != 1 {
		t.Errorf("%d simple tasks", n)
	}
	ids := params{"AppId": "shop", "WorkspaceId": "test", "UniqueIds": children[1].UniqueID + "," + children[2].UniqueID, "Type": "2"}
	for range 2 { // what is cancelled already counts as done
		r.must(t, "crm", "CancelPushScheduler", ids)
	}
	r.must(t, "crm", "CancelPushScheduler", ids.with("UniqueIds", "", "UniqueIds.1", children[1].UniqueID, "UniqueIds.2", strings.ToUpper(children[2].UniqueID)))
	if n, _ := r.must(t, "crm", "QueryPushSchedulerList", window(now).with("UniqueId", loop)).list(t); n != len(children)-2 {
		t.Errorf("%d children after two were cancelled, want %d", n, len(children)-2)
	}
	got := get[string](t, r, `SELECT string_agg(status || ', ' || reason, '; ') FROM scheduler.tasks`)
	if one := "cancelled, skipped by " + r.base + "_crm: cancelled by a call of the API"; got != one+"; "+one {
		t.Errorf("decided: %s", got)
	}
	r.must(t, "crm", "CancelMpsScheduler", ids.with("UniqueIds", loop, "Type", ""))
	if n, _ := r.must(t, "crm", "QueryPushSchedulerList", window(now)).list(t); n != 1 {
		t.Errorf("%d tasks after the loop was cancelled, want the fixed one", n)
	}
	// One bad id, and none is cancelled.
	a := r.call(t, "crm", "CancelPushScheduler", ids.with("UniqueIds", fixed+","+strings.Repeat("a", 32), "Type", ""))
	if a.ResultCode != "3028" || !strings.Contains(a.ResultMessage, "is no id") {
		t.Errorf("%s", a.body)
	}
	if n, _ := r.must(t, "crm", "QueryPushSchedulerList", window(now)).list(t); n != 1 {
		t.Errorf("%d tasks after a refused cancel", n)
	}
}

// A list of very many campaigns is worked out once, not for each of them; and the
// page after the last one knows how many there are.
func TestListOfManyCampaigns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const many = 600
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), fmt.Sprintf(`SET LOCAL ROLE %s_crm; INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
			SELECT 'c' || n, 'shop', 'test', 'mpaas.push_simple', 1 + n %% 2, content.c, '{}' FROM generate_series(1, %d) n
			 CROSS JOIN LATERAL (SELECT jsonb_build_object('fixedTime', scheduler.unix_ms(now() + interval '1 hour'), 'startTime', scheduler.unix_ms(now() + interval '1 day'),
			            'endTime', scheduler.unix_ms(now() + interval '3 days'), 'circleType', 1, 'time', '12:00:00') AS c) content`, r.base, many))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := many/2 + many/2*3 // a fixed time each, and three days
	for _, page := range []struct{ number, rows int }{{1, 500}, {3, want - 1000}, {4, 0}, {1_000_000, 0}} {
		total, list := r.must(t, "crm", "QueryPushSchedulerList", window(time.Now()).with("PageNumber", fmt.Sprint(page.number))).list(t)
		if total != want || len(list) != page.rows {
			t.Errorf("page %d: %d of %d, want %d of %d", page.number, len(list), total, page.rows, want)
		}
	}
}

// Two teams that share an app see nothing of each other.
func TestOneKeySeesNothingOfAnothersRole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	call := multipleCall(1).with("StrategyType", "2", "StrategyContent", weekly(now, 30), "ClientToken", "same")
	mine := r.must(t, "crm", "PushMultiple", call).PushResult.Data
	if n, _ := r.must(t, "ads", "QueryPushSchedulerList", window(now)).list(t); n != 0 {
		t.Errorf("another team lists %d tasks", n)
	}
	if n, _ := r.must(t, "ads", "QueryPushSchedulerList", window(now).with("UniqueId", mine)).list(t); n != 0 {
		t.Errorf("another team lists %d tasks by id", n)
	}
	if a := r.call(t, "ads", "CancelPushScheduler", params{"AppId": "shop", "WorkspaceId": "test", "UniqueIds": mine}); a.ResultCode == "OK" {
		t.Errorf("another team cancels: %s", a.body)
	}
	if a := r.call(t, "ads", "PushMultiple", call); a.ResultCode == "OK" || strings.Contains(a.body, mine) {
		t.Errorf("another team's call with the same token: %s", a.body)
	}
	if a := r.call(t, "crm", "QueryPushSchedulerList", window(now).with("AppId", "club")); a.ResultCode != "OK" || !strings.Contains(a.body, `"TotalCount":0`) {
		t.Errorf("an app that was not granted: %s", a.body)
	}
	// What the role's people write by SQL is the role's too.
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), fmt.Sprintf(`SET LOCAL ROLE %s_ads; INSERT INTO scheduler.campaigns (name, app_id, workspace_id, channel, strategy_type, strategy_content, request)
			VALUES ('sql', 'shop', 'test', 'mpaas.push_broadcast', 1, jsonb_build_object('fixedTime', %d), '{}')`, r.base, now.Add(time.Hour).UnixMilli()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := r.must(t, "ads", "QueryPushSchedulerList", window(now)).list(t); n != 1 {
		t.Errorf("the role's own campaign by SQL: %d tasks", n)
	}
}

// The same call with a ClientToken is stored once, however often, whenever and
// through however many daemons it comes.
func TestClientTokenIsStoredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	call := multipleCall(3).with("ClientToken", "order-1", "StrategyType", "1", "StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, at.UnixMilli()))
	ids := make([]string, 8)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() { ids[i] = r.call(t, "crm", "PushMultiple", call).PushResult.Data })
	}
	wait.Wait()
	for _, got := range ids {
		if got == "" || got != ids[0] {
			t.Errorf("ids: %q", ids)
		}
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns`); n != 1 {
		t.Errorf("%d campaigns", n)
	}
	if a := r.call(t, "crm", "PushMultiple", call.with("TargetMsg.3.Target", "user-4")); a.ResultCode != "3028" || !strings.Contains(a.ResultMessage, "ClientToken: was used") {
		t.Errorf("other content: %s", a.body)
	}
	// A day later its time is past, and it would be refused as a new call.
	r.run(t, `UPDATE scheduler.campaigns SET status = 'paused'`)
	late := call.with("StrategyContent", `{"fixedTime":1630303126000}`, "ClientToken", "order-2")
	if a := r.call(t, "crm", "PushMultiple", late); a.ResultCode == "OK" {
		t.Errorf("a past time: %s", a.body)
	}
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error { // as if the first call had come in time
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`)
		if err == nil {
			_, err = tx.Exec(t.Context(), `INSERT INTO scheduler.campaigns OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(c, jsonb_build_object('id', c.id + 1000, 'client_token', 'order-2', 'client_digest', '\x' || encode($1, 'hex')))).* FROM scheduler.campaigns c`,
				api.Digest("PushMultiple", late))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.must(t, "crm", "PushMultiple", late)
}

// An answer that was lost: the call is committed, the client is cut off before
// it hears of it, and calls again with another nonce.
func TestClientTokenAfterALostAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	call := multipleCall(3).with("ClientToken", "order-1")
	address := r.sign("crm", "PushMultiple", call)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, u.Host)
	if _, err := fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RawQuery, u.Host); err != nil {
		t.Fatal(err)
	}
	until(t, "the call to be stored", func() bool { return get[int](t, r, `SELECT count(*) FROM scheduler.campaigns`) == 1 })
	_ = conn.Close() // nothing was read
	first := get[int64](t, r, `SELECT id FROM scheduler.campaigns`)
	a := r.must(t, "crm", "PushMultiple", call)
	if a.PushResult.Data != api.IDOf(first) {
		t.Errorf("id %s, want %s", a.PushResult.Data, api.IDOf(first))
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns`); n != 1 {
		t.Errorf("%d campaigns", n)
	}
}

// A signed request is good once, on whichever daemon, whatever it asks for.
func TestNonceIsGoodOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		action string
		params params
	}{
		{"PushMultiple", multipleCall(1)},
		{"PushMultiple", multipleCall(0)}, // refused, and yet used
		{"QueryPushSchedulerList", window(time.Now())},
		{"CancelPushScheduler", params{"AppId": "shop"}},
	} {
		address := r.sign("crm", tt.action, tt.params)
		if a := r.open(t, address); a.status != http.StatusOK {
			t.Fatalf("%s: %s", tt.action, a.body)
		}
		if a := r.open(t, address); a.status != http.StatusBadRequest || a.Code != "SignatureNonceUsed" {
			t.Errorf("%s, the second time: %s", tt.action, a.body)
		}
	}
	if n := get[int](t, r, `SELECT count(*) FROM scheduler.campaigns`); n != 1 {
		t.Errorf("%d campaigns", n)
	}
}

// A refused signature costs no database work: there is none here.
func TestRefusedSignatureAsksNoDatabase(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store.Close()
	address := strings.Replace(r.sign("crm", "PushMultiple", multipleCall(1)), "Signature=", "Signature=x", 1)
	if a := r.open(t, address); a.Code != "SignatureDoesNotMatch" || !strings.Contains(a.Message, "server string to sign is:GET&%2F&AccessKeyId%3Dkey-crm") {
		t.Errorf("%s", a.body)
	}
	if a := r.call(t, "nobody", "PushMultiple", multipleCall(1)); a.status != http.StatusNotFound || a.Code != "InvalidAccessKeyId.NotFound" {
		t.Errorf("%s", a.body)
	}
	if a := r.call(t, "crm", "PushMultiple", multipleCall(1)); a.status < 500 {
		t.Errorf("without a database: HTTP %d %s", a.status, a.body)
	}
}

// A flood of bad signatures is answered at a pace, by any number of connections,
// which no machine is too fast for; a client with a good key is answered beside it.
func TestFloodOfBadSignaturesIsPaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const callers, calls = 8, 30 // 140 more than are answered at once, at 100 a second
	began := time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				if a := r.call(t, "nobody", "PushMultiple", multipleCall(1)); a.Code != "InvalidAccessKeyId.NotFound" {
					t.Errorf("%s", a.body)
				}
			}
		})
	}
	for range 3 {
		r.must(t, "crm", "QueryPushSchedulerList", window(time.Now()))
	}
	all.Wait()
	if took := time.Since(began); took < 1300*time.Millisecond {
		t.Errorf("%d bad calls were answered in %s", callers*calls, took)
	}
}

// A key that was taken away is gone with the reload; its successor works beside
// it until then.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := api.Client{AccessKeyID: keyOf + "crm", AccessKeySecret: "secret of crm", Role: r.base + "_crm"}
	next := api.Client{AccessKeyID: keyOf + "next", AccessKeySecret: "secret of next", Role: r.base + "_crm"}
	for _, tt := range []struct {
		clients   []api.Client
		old, next int
	}{
		{[]api.Client{old}, 200, 404},
		{[]api.Client{old, next}, 200, 200},
		{[]api.Client{next}, 404, 200},
	} {
		r.server.SetClients(tt.clients, 0)
		for team, want := range map[string]int{"crm": tt.old, "next": tt.next} {
			if a := r.call(t, team, "QueryPushSchedulerList", window(time.Now())); a.status != want {
				t.Errorf("%d clients, %s: HTTP %d %s, want %d", len(tt.clients), team, a.status, a.body, want)
			}
		}
	}
	if err := r.server.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	r.server.SetClients([]api.Client{{AccessKeyID: "x", Role: "nobody_has_this"}}, 0)
	if err := r.server.Ready(t.Context()); err == nil {
		t.Error("ready with a role that there is not")
	}
}

func TestRateOfAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.CallsPerSecond = 0.001 })
	if a := r.call(t, "crm", "QueryPushSchedulerList", window(time.Now())); a.status != http.StatusOK {
		t.Errorf("%s", a.body)
	}
	if a := r.call(t, "crm", "QueryPushSchedulerList", window(time.Now())); a.Code != "Throttling.User" {
		t.Errorf("%s", a.body)
	}
	if a := r.call(t, "ads", "QueryPushSchedulerList", window(time.Now())); a.status != http.StatusOK {
		t.Errorf("another key: %s", a.body)
	}
}

// Only loopback without TLS or a named proxy.
func TestPlainOnlyOnLoopback(t *testing.T) {
	t.Parallel()
	for _, proxy := range []bool{false, true} {
		s, err := api.New(t.Context(), api.Config{Listen: "0.0.0.0:0", BehindProxy: proxy})
		if (err == nil) != proxy {
			t.Errorf("behind a proxy %v: %v", proxy, err)
		}
		if err == nil {
			_ = s.Stop(context.WithoutCancel(t.Context()))
		}
	}
}

func TestXML(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now()
	r.must(t, "crm", "PushSimple", simpleCall().with("StrategyType", "1", "StrategyContent", fmt.Sprintf(`{"fixedTime":%d}`, now.Add(time.Hour).UnixMilli()), "Title", "<&>"))
	address := strings.Replace(r.sign("crm", "QueryPushSchedulerList", window(now)), "Format=JSON", "Format=xml", 1)
	if a := r.open(t, address); a.status != http.StatusBadRequest || !strings.HasPrefix(a.body, `<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><RequestId>") {
		t.Errorf("an error in XML: %s", a.body)
	}
	a := r.open(t, r.sign("crm", "QueryPushSchedulerList", window(now).with("Format", "XML")))
	for _, part := range []string{
		"<QueryPushSchedulerListResponse><RequestId>", "<ResultContent><Data><TotalCount>1</TotalCount><List><Item><UniqueId>", "<PushTitle>&lt;&amp;&gt;</PushTitle>",
	} {
		if !strings.Contains(a.body, part) {
			t.Errorf("no %s in %s", part, a.body)
		}
	}
}

// What was sent is revoked by the id of its campaign; what was not is refused.
func TestRevoke(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sent := r.must(t, "crm", "PushMultiple", multipleCall(2)).PushResult.Data
	call := params{"AppId": "shop", "WorkspaceId": "test", "TaskId": sent}
	if a := r.call(t, "crm", "RevokePushTask", call); a.ResultCode != "3028" || !strings.Contains(a.ResultMessage, "nothing that was sent") {
		t.Errorf("before it is sent: %s", a.body)
	}
	r.run(t, `INSERT INTO scheduler.decided_tasks (id, app_no, campaign_id, revision, channel_no, origin, status, due_at, attempts, slices, accepted, target_count, message_id, targets)
		SELECT 77, app_no, id, 1, 1, 'immediate', 'succeeded', now(), 1, 1, 1, 2, 'provider-1', '{user-1,user-2}' FROM scheduler.campaigns`)
	for range 2 { // asked for again it is one revocation
		if a := r.must(t, "crm", "RevokePushTask", call); !a.PushResult.Success {
			t.Errorf("%s", a.body)
		}
	}
	if a := r.must(t, "crm", "RevokePushMessage", params{"AppId": "shop", "WorkspaceId": "test", "MessageId": sent, "TargetId": "user-2"}); !a.PushResult.Success {
		t.Errorf("%s", a.body)
	}
	if a := r.call(t, "crm", "RevokePushMessage", params{"AppId": "shop", "WorkspaceId": "test", "MessageId": sent, "TargetId": "nobody"}); a.PushResult.Success {
		t.Errorf("a target it was not sent to: %s", a.body)
	}
	if a := r.call(t, "ads", "RevokePushTask", call); a.PushResult.Success {
		t.Errorf("another team's: %s", a.body)
	}
	got := get[string](t, r, `SELECT string_agg(c.message_id || ' ' || c.target || ' ' || v.requested_by, ', ' ORDER BY c.id)
		FROM scheduler.revocation_calls c JOIN scheduler.revocations v ON v.id = c.revocation_id`)
	if want := fmt.Sprintf("provider-1  %[1]s_crm, provider-1 user-2 %[1]s_crm", r.base); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A port that is taken is told of as it is, and a server that could not be made
// can be made elsewhere with the same metrics.
func TestNewWhereThePortIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg := api.Config{Listen: taken.Addr().String(), Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	if _, err := api.New(t.Context(), cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	cfg.Listen = "127.0.0.1:0"
	s, err := api.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

package clients_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
)

// The generic client (ACS3 signatures) schedules, lists and cancels.
func TestGenericClient(t *testing.T) {
	t.Parallel()
	p := start(t)
	client, err := openapi.NewClient(&openapiutil.Config{
		AccessKeyId: new(p.keyID), AccessKeySecret: new(p.secret), Endpoint: new(p.host), Protocol: new("http"),
	})
	if err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(4 * time.Second).Truncate(time.Second)
	call := func(name, strategyType, content, token string) map[string]any {
		return map[string]any{
			"AppId": appID, "WorkspaceId": workspace, "TaskName": name, "DeliveryType": 1, "ExpiredSeconds": 600, "Title": "t", "Content": "c",
			"TargetMsgkey": `{"adtoken0001":"1578807462788"}`, "ThirdChannelCategory": map[string]any{"hms": "9"},
			"StrategyType": strategyType, "StrategyContent": content, "ClientToken": token,
		}
	}
	first := generic(t, client, "PushSimple", call("Simple test", "1", sample(time.Now(), due), "token-1"))
	again := generic(t, client, "PushSimple", call("Simple test", "1", sample(time.Now(), due), "token-2"))
	if pushResult(first)["Data"] == pushResult(again)["Data"] {
		t.Errorf("two tokens, one task: %v", first)
	}
	loopCall := call("weekly", "2", weekly(time.Now()), "token-3")
	loop, _ := pushResult(generic(t, client, "PushSimple", loopCall))["Data"].(string)
	if same := pushResult(generic(t, client, "PushSimple", loopCall))["Data"]; same != loop || len(loop) != 32 {
		t.Errorf("the same call with its token: %v, the first: %v", same, loop)
	}
	list := func() []any {
		t.Helper()
		answer := generic(t, client, "QueryMpsSchedulerList", map[string]any{
			"AppId": appID, "WorkspaceId": workspace, "UniqueId": loop, "StartTime": time.Now().UnixMilli(), "EndTime": time.Now().AddDate(0, 0, 60).UnixMilli(),
		})
		content, _ := answer["ResultContent"].(map[string]any)
		data, _ := content["Data"].(map[string]any)
		rows, _ := data["List"].([]any)
		return rows
	}
	children := list()
	if len(children) < 7 {
		t.Fatalf("children: %v", children)
	}
	one, _ := children[2].(map[string]any)
	generic(t, client, "CancelMpsScheduler", map[string]any{"AppId": appID, "WorkspaceId": workspace, "UniqueIds": one["UniqueId"], "Type": 0})
	if left := list(); len(left) != len(children)-1 {
		t.Errorf("after one was cancelled: %v", left)
	}
	onTime(t, due, p.pushed(t, "Simple test"))

	_, err = client.CallApi(params("NoSuchAction"), &openapiutil.OpenApiRequest{Body: map[string]any{}}, &dara.RuntimeOptions{})
	if err == nil || !strings.Contains(err.Error(), "InvalidApi.NotFound") {
		t.Errorf("an action that there is not: %v", err)
	}
}

func params(action string) *openapiutil.Params {
	return &openapiutil.Params{
		Action: new(action), Version: new("2020-10-28"), Protocol: new("HTTP"), Pathname: new("/"), Method: new("POST"),
		AuthType: new("AK"), Style: new("RPC"), ReqBodyType: new("formData"), BodyType: new("json"),
	}
}

func generic(t *testing.T, client *openapi.Client, action string, body map[string]any) map[string]any {
	t.Helper()
	form := make(map[string]any)
	maps.Copy(form, body)
	answer, err := client.CallApi(params(action), &openapiutil.OpenApiRequest{Body: openapiutil.ParseToMap(form)}, &dara.RuntimeOptions{})
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	out, _ := answer["body"].(map[string]any)
	if out["ResultCode"] != "OK" {
		t.Fatalf("%s: %v", action, out)
	}
	return out
}

func pushResult(answer map[string]any) map[string]any {
	result, _ := answer["PushResult"].(map[string]any)
	return result
}

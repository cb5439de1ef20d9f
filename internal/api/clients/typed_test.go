package clients_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/mpaas"
)

// The typed client (V1 signatures) schedules, lists and cancels.
func TestTypedClient(t *testing.T) {
	t.Parallel()
	p := start(t)
	client, err := mpaas.NewClientWithAccessKey("cn-hangzhou", p.keyID, p.secret)
	if err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(4 * time.Second).Truncate(time.Second)
	push := func(name, strategyType, content string) *mpaas.PushMultipleRequest {
		r := mpaas.CreatePushMultipleRequest()
		r.Scheme, r.Domain = "http", p.host
		r.AppId, r.WorkspaceId, r.TaskName, r.TemplateName = appID, workspace, name, "Test template"
		r.DeliveryType, r.ExpiredSeconds = requests.NewInteger(3), requests.NewInteger(600)
		r.StrategyType, r.StrategyContent = requests.Integer(strategyType), content
		r.TargetMsg = &[]mpaas.PushMultipleTargetMsg{{Target: "userid1024", MsgKey: "1578807462788", TemplateKeyValue: `{"name":"Zhang San","money":"200"}`}}
		return r
	}
	scheduled, err := client.PushMultiple(push("Multiple test", "1", sample(time.Now(), due)))
	if err != nil {
		t.Fatal(err)
	}
	if scheduled.ResultCode != "OK" || !scheduled.PushResult.Success || len(scheduled.PushResult.Data) != 32 {
		t.Fatalf("%+v", scheduled)
	}
	loop, err := client.PushMultiple(push("weekly", "2", weekly(time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	children := typedList(t, p, client, loop.PushResult.Data)
	if len(children) < 7 || children[0].ParentID != loop.PushResult.Data || children[0].ExecutedStatus != "0" {
		t.Fatalf("children: %+v", children)
	}
	typedCancel(t, p, client, children[1].UniqueID)
	if left := typedList(t, p, client, loop.PushResult.Data); len(left) != len(children)-1 || left[1].UniqueID != children[2].UniqueID {
		t.Errorf("after one was cancelled: %+v", left)
	}
	typedCancel(t, p, client, loop.PushResult.Data)
	if left := typedList(t, p, client, loop.PushResult.Data); len(left) != 0 {
		t.Errorf("after the loop was cancelled: %+v", left)
	}
	line := p.pushed(t, "Multiple test")
	onTime(t, due, line)
	if len(line.MsgKeys) != 1 || !strings.HasPrefix(line.MsgKeys[0], "1578807462788-") {
		t.Errorf("message keys: %q", line.MsgKeys)
	}
	// A wrong secret: the client tells its user so, from our string to sign.
	wrong, err := mpaas.NewClientWithAccessKey("cn-hangzhou", p.keyID, "wrong")
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrong.PushMultiple(push("x", "0", ""))
	server := &sdkerrors.ServerError{}
	ok := errors.As(err, &server)
	if !ok || !strings.HasPrefix(server.ErrorCode(), "SignatureDoesNotMatch") || !strings.Contains(server.Recommend(), "AccessKeySecret") {
		t.Errorf("a wrong secret: %v", err)
	}
}

type child struct {
	UniqueID       string `json:"UniqueId"`
	ParentID       string `json:"ParentId"`
	PushTime       int64
	ExecutedStatus string
}

func typedList(t *testing.T, p *program, client *mpaas.Client, parent string) []child {
	t.Helper()
	r := mpaas.CreateQueryPushSchedulerListRequest()
	r.Scheme, r.Domain, r.AppId, r.WorkspaceId, r.UniqueId = "http", p.host, appID, workspace, parent
	r.StartTime, r.EndTime = requests.NewInteger64(time.Now().UnixMilli()), requests.NewInteger64(time.Now().AddDate(0, 0, 60).UnixMilli())
	answer, err := client.QueryPushSchedulerList(r)
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		ResultContent struct {
			Data struct {
				TotalCount int
				List       []child
			}
		}
	}
	if err := json.Unmarshal(answer.GetHttpContentBytes(), &content); err != nil {
		t.Fatal(err)
	}
	data := content.ResultContent.Data
	if data.TotalCount != len(data.List) || answer.ResultContent.Data.TotalCount != data.TotalCount || len(answer.ResultContent.Data.List) != len(data.List) {
		t.Errorf("the client reads %+v of %s", answer.ResultContent.Data, answer.GetHttpContentString())
	}
	return data.List
}

func typedCancel(t *testing.T, p *program, client *mpaas.Client, id string) {
	t.Helper()
	r := mpaas.CreateCancelPushSchedulerRequest()
	r.Scheme, r.Domain, r.AppId, r.WorkspaceId, r.UniqueIds = "http", p.host, appID, workspace, id
	answer, err := client.CancelPushScheduler(r)
	if err != nil || answer.ResultCode != "OK" {
		t.Fatalf("cancel: %+v, %v", answer, err)
	}
}

package clients_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/mpaas"
)

// docs/api.md quotes this function word for word; a test of the documents compares
// them.

// schedule has a push made at a time, and returns its id. A repeated call with the
// same token schedules nothing more.
func schedule(scheme, host, keyID, secret, appID, workspaceID, token string, at time.Time) (id string, err error) {
	client, err := mpaas.NewClientWithAccessKey("cn-hangzhou", keyID, secret)
	if err != nil {
		return "", err
	}
	r := mpaas.CreatePushMultipleRequest()
	r.Scheme, r.Domain = scheme, host // such as "https", "push.example:8081"
	r.AppId, r.WorkspaceId, r.TaskName, r.TemplateName = appID, workspaceID, "sale", "sale"
	r.DeliveryType, r.ExpiredSeconds = requests.NewInteger(3), requests.NewInteger(600)
	r.StrategyType, r.StrategyContent = requests.NewInteger(1), fmt.Sprintf(`{"fixedTime":%d}`, at.UnixMilli())
	r.TargetMsg = &[]mpaas.PushMultipleTargetMsg{{Target: "user-1", MsgKey: "sale-1"}}
	r.QueryParams["ClientToken"] = token // not a parameter of mPaaS; other clients have their own way to add it
	answer, err := client.PushMultiple(r)
	if err != nil {
		return "", err
	}
	if !answer.PushResult.Success {
		return "", fmt.Errorf("schedule: %s %s", answer.ResultCode, answer.PushResult.ResultMsg)
	}
	return answer.PushResult.Data, nil
}

func TestSnippetOfTheDocuments(t *testing.T) {
	t.Parallel()
	p := start(t)
	due := time.Now().Add(4 * time.Second).Truncate(time.Second)
	first, err := schedule("http", p.host, p.keyID, p.secret, appID, workspace, "sale-2026", due)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := schedule("http", p.host, p.keyID, p.secret, appID, workspace, "sale-2026", due); err != nil || again != first {
		t.Errorf("the same token: %s, %v; the first: %s", again, err, first)
	}
	if other, err := schedule("http", p.host, p.keyID, p.secret, appID, workspace, "sale-2026", due.Add(time.Hour)); err == nil {
		t.Errorf("the same token with other content: %s", other)
	}
	onTime(t, due, p.pushed(t, "sale"))
}

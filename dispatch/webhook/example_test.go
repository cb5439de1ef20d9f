package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/webhook"
)

// A receiver in ten lines. One that must not be fooled by a recorded call also
// refuses old timestamps, and one that passes pushes on remembers each
// Idempotency-Key: an operator may have an unknown delivery sent again.
func receive(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	mac := hmac.New(sha256.New, []byte("the secret of the configuration"))
	mac.Write([]byte(r.Header.Get("X-Scheduler-Timestamp") + "." + string(body)))
	want := "v1=" + hex.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(r.Header.Get("X-Scheduler-Signature"))) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Printf("%s: %s\n", r.Header.Get("Idempotency-Key"), body)
}

func Example() {
	server := httptest.NewServer(http.HandlerFunc(receive))
	defer server.Close()
	for _, secret := range []string{"the secret of the configuration", "another"} {
		message, _ := webhook.Adapter{}.Compile(dispatch.Request{
			Channel: "webhook", TaskName: "spring", Body: json.RawMessage(`{"text": "hello"}`),
		})
		pusher, err := webhook.Adapter{}.New(dispatch.Settings{
			AppID: "coupons", Endpoint: server.URL + "/hook",
			Options: map[string]string{"secret": secret, "allow_private_addresses": "true"},
		})
		if err != nil {
			panic(err)
		}
		outcome := pusher.Push(context.Background(), &dispatch.Push{Message: message, DeliveryID: "d-1", MsgKey: "k-1"})
		fmt.Println(outcome.Class)
	}
	// Output:
	// d-1: {"delivery_id":"d-1","app_id":"coupons","workspace_id":"","task_name":"spring","msg_key":"k-1","request":{"text":"hello"}}
	// accepted
	// permanent
}

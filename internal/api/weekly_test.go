//go:build linux

package api_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/pgtest"
	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// A weekly loop is scheduled by a call, listed, one occurrence is cancelled by its
// id, and the others are pushed in their seconds. Nobody waits for weeks: the
// database's clock, by which the daemon goes, is put ahead to three seconds before
// each occurrence, and the push API's with it.
func TestWeeklyLoopIsPushedButForTheCancelledOne(t *testing.T) {
	t.Parallel()
	db, clock := pgtest.NewWithClock(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	in := installOn(t, newRigOn(t, db), now)
	d := serve(t, in.binary, in.file)
	loop := in.callAt(t, d, "crm", "PushMultiple", multipleCall(2).with("StrategyType", "2", "StrategyContent", weekly(time.Now(), 28)))
	if loop.ResultCode != "OK" {
		t.Fatalf("%s", loop.body)
	}
	listed := window(time.Now()).with("UniqueId", loop.PushResult.Data)
	total, children := in.callAt(t, d, "crm", "QueryPushSchedulerList", listed).list(t)
	if total < 7 || len(children) != total {
		t.Fatalf("%d of %d children", len(children), total)
	}
	const cancelled = 1
	a := in.callAt(t, d, "crm", "CancelPushScheduler", params{"AppId": "shop", "WorkspaceId": "test", "UniqueIds": children[cancelled].UniqueID})
	if a.status != http.StatusOK || a.ResultCode != "OK" {
		t.Fatalf("cancel: %s", a.body)
	}
	if left, _ := in.callAt(t, d, "crm", "QueryPushSchedulerList", listed).list(t); left != total-1 {
		t.Errorf("%d children are listed after one was cancelled, want %d", left, total-1)
	}
	var want []time.Time
	for i, c := range children[:4] {
		due := time.UnixMilli(c.PushTime).UTC()
		ahead.Store(int64(time.Until(due) - 3*time.Second))
		clock.Set(t, time.Duration(ahead.Load()))
		until(t, "the second of "+due.String()+" to pass", func() bool {
			return get[bool](t, in.rig, `SELECT clock_timestamp() > $1::timestamptz + interval '1 second'`, due)
		})
		until(t, "the decision on "+due.String(), func() bool {
			return get[int](t, in.rig, `SELECT count(*) FROM scheduler.decided_tasks WHERE due_at = $1`, due) == 1
		})
		wanted := "succeeded"
		if i == cancelled {
			wanted = "cancelled"
		} else {
			want = append(want, due)
		}
		if got := get[string](t, in.rig, `SELECT concat_ws(' ', status, reason) FROM scheduler.decided_tasks WHERE due_at = $1`, due); got[:len(wanted)] != wanted {
			t.Errorf("the occurrence of %s: %s, want it %s", due, got, wanted)
		}
	}
	calls, err := in.push.Calls(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) != len(want) {
		t.Fatalf("%d calls reached the push API, want those of the occurrences %v: %+v", len(calls), want, calls)
	}
	for i, c := range calls {
		// The two clocks are set one after the other, so that they differ by milliseconds.
		if late := c.ReceivedAt.Sub(want[i]); c.Outcome != sandbox.Accepted || late < -100*time.Millisecond || late > 30*time.Second {
			t.Errorf("the push of %s: %+v", want[i], c)
		}
		if key := fmt.Sprint(c.MsgKeys); i > 0 && key == fmt.Sprint(calls[i-1].MsgKeys) {
			t.Errorf("two occurrences have the message keys %s", key)
		}
	}
}

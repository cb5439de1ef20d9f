package sandbox_test

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

const (
	labelPath  = "message/label/send"
	totalPath  = "message/total/send"
	groupPath  = "message/group/send"
	singlePath = "message/single/send"
	recallPath = "life/msg/recall"

	textMaterial = `{"msg_type":"text","text":{"title":"t","content":"c"}}`
	singleBody   = `{"to_user_id":"2088","template":{"template_id":"x","context":{"first":{"value":"v"}}}}`
)

func label(template, context, material string) string {
	return fmt.Sprintf(`{"filter":{"template":%q,"context":%s},"material":%s}`, template, context, material)
}

func condition(column, op, values string) string {
	return fmt.Sprintf(`{"column_name":%q,"op":%q,"values":%s}`, column, op, values)
}

var goodLabel = label("${a}", `{"a":`+condition("label_id_list", "=", `["100509"]`)+`}`, textMaterial)

func articles(n int, first string) string {
	rest := strings.Repeat(`,{"title":"t","desc":"d","url":"u"}`, n-1)
	return `{"msg_type":"image-text","articles":[{"desc":"d","url":"u"` + first + `}` + rest + `]}`
}

func TestAlipayAnswers(t *testing.T) {
	t.Parallel()
	good := condition("label_id_list", "in", `["1","2"]`)
	tests := []struct {
		name, path, body string
		want             string // the code; empty: accepted
	}{
		{"label", labelPath, goodLabel, ""},
		{"two labels", labelPath, label("${a} and ${b}", `{"a":`+good+`,"b":`+good+`}`, articles(1, "")), ""},
		{"total", totalPath, textMaterial, ""},
		{"total of six articles", totalPath, articles(6, `,"image_url":"i"`), ""},
		{"group", groupPath, `{"group_id":"g",` + textMaterial[1:], ""},
		{"group image", groupPath, `{"group_id":"g","msg_type":"image","image":{"id":"i"}}`, ""},
		{"single", singlePath, singleBody, ""},
		{"single by open id", singlePath, strings.Replace(singleBody, "to_user_id", "to_open_id", 1), ""},

		{"no filter", labelPath, `{"material":` + textMaterial + `}`, "LABEL_GROUP_FILTER_EMPTY"},
		{"no template", labelPath, label("", `{"a":`+good+`}`, textMaterial), "LABEL_GROUP_TPL_EMPTY"},
		{"no condition", labelPath, label("${a}", `{}`, textMaterial), "LABEL_GROUP_NO_CONDITION"},
		{"three labels", labelPath, label("${a} and ${b} and ${c}", `{"a":`+good+`}`, textMaterial), "LABEL_GROUP_LABEL_OVER_LIMIT"},
		{"no column", labelPath, label("${a}", `{"a":`+condition("", "=", `["1"]`)+`}`, textMaterial), "LABEL_GROUP_KEY_EMPTY"},
		{"no op", labelPath, label("${a}", `{"a":`+condition("label_id_list", "", `["1"]`)+`}`, textMaterial), "LABEL_GROUP_ITEM_EMPTY"},
		{"no values", labelPath, label("${a}", `{"a":`+condition("label_id_list", "=", `[]`)+`}`, textMaterial), "LABEL_GROUP_VALUES_EMPTY"},
		{"a word", labelPath, label("${a}", `{"a":`+condition("label_id_list", "=", `["vip"]`)+`}`, textMaterial), "LABEL_GROUP_VALUE_NOT_NUMBER"},
		{"another column", labelPath, label("${a}", `{"a":`+condition("age", "=", `["1"]`)+`}`, textMaterial), "ILLEGAL_BIZ_PARAMS"},
		{"another op", labelPath, label("${a}", `{"a":`+condition("label_id_list", "<", `["1"]`)+`}`, textMaterial), "ILLEGAL_BIZ_PARAMS"},
		{"an unused condition", labelPath, label("${a}", `{"b":`+good+`}`, textMaterial), "ILLEGAL_BIZ_PARAMS"},
		{"image to a label", labelPath, label("${a}", `{"a":`+good+`}`, `{"msg_type":"image"}`), "MSG_TYPE_ILLEGAL"},
		{"no type", totalPath, `{}`, "MSG_TYPE_ILLEGAL"},
		{"no text", totalPath, `{"msg_type":"text"}`, "ILLEGAL_BIZ_PARAMS"},
		{"no articles", totalPath, `{"msg_type":"image-text"}`, "ILLEGAL_BIZ_PARAMS"},
		{"seven articles", totalPath, articles(7, `,"image_url":"i"`), "ILLEGAL_BIZ_PARAMS"},
		{"no first image", totalPath, articles(2, ``), "ILLEGAL_BIZ_PARAMS"},
		{"no group", groupPath, textMaterial, "ILLEGAL_BIZ_PARAMS"},
		{"two users", singlePath, `{"to_open_id":"1",` + singleBody[1:], "ILLEGAL_BIZ_PARAMS"},
		{"no user", singlePath, `{"template":{"template_id":"x","context":{}}}`, "ILLEGAL_BIZ_PARAMS"},
		{"recall of nothing", recallPath, `{"message_id":"x"}`, "ILLEGAL_BIZ_PARAMS"},
		{"not JSON", labelPath, `{`, "ILLEGAL_BIZ_PARAMS"},
		{"unknown path", "message/all/send", `{}`, "invalid-method"},
	}
	sb := setup(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sb.must(t, sb.alipay(t, tt.path, tt.body))
			code, _ := r.field("code").(string)
			if code != tt.want || (r.status == 200) != (tt.want == "") {
				t.Errorf("HTTP %d %s, want %q", r.status, r.body, tt.want)
			}
			if err := signedAnswer(r); (err == nil) == strings.Contains(tt.want, "-") {
				t.Errorf("signature of the answer: %v", err)
			}
			if r.header.Get("alipay-trace-id") == "" {
				t.Error("no trace id")
			}
			call := sb.last(t)
			if call.Signature != "ok" || (call.Outcome == sandbox.Accepted) != (tt.want == "") || call.DeliveryID != "delivery-1" {
				t.Errorf("journal: %+v", call)
			}
		})
	}
}

func TestAlipayRecall(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	r := sb.must(t, sb.alipay(t, totalPath, textMaterial))
	recall := fmt.Sprintf(`{"message_id":%q}`, r.field("message_id"))
	if r := sb.must(t, sb.alipay(t, recallPath, recall)); r.status != 200 || r.body != "{}" {
		t.Errorf("recall: HTTP %d %s", r.status, r.body)
	}
	if r := sb.must(t, sb.alipay(t, recallPath, recall)); r.status != 400 {
		t.Errorf("second recall: HTTP %d", r.status)
	}
}

func TestAlipayFreshness(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	now, nonce := time.Now(), rand.Text()
	tests := []struct {
		name  string
		at    time.Time
		nonce string
		want  string
	}{
		{"now", now, nonce, ""},
		{"the same nonce", now.Add(time.Second), nonce, "suspected-attack"},
		{"11 minutes old", now.Add(-11 * time.Minute), rand.Text(), "invalid-timestamp"},
		{"11 minutes ahead", now.Add(11 * time.Minute), rand.Text(), "invalid-timestamp"},
		{"9 minutes old", now.Add(-9 * time.Minute), rand.Text(), ""},
	}
	for _, tt := range tests {
		r := sb.must(t, sb.alipayAt(t, singlePath, singleBody, tt.at, tt.nonce))
		if code, _ := r.field("code").(string); code != tt.want {
			t.Errorf("%s: %s, want %q", tt.name, r.body, tt.want)
		}
	}
}

// Each interface and app has five sends in any rolling week; refused calls use
// none of them.
func TestAlipayQuota(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	journal := filepath.Join(t.TempDir(), "journal")
	open := func(c *sandbox.Config) { c.Now, c.JournalPath = clock, journal }
	var sb *bundle
	send := func(path, body, want string) {
		t.Helper()
		r := sb.must(t, sb.alipayAt(t, path, body, clock(), rand.Text()))
		if code, _ := r.field("code").(string); code != want {
			t.Errorf("%s: %s, want %q", path, r.body, want)
		}
	}
	sb = setup(t, open)
	send(labelPath, `{}`, "LABEL_GROUP_FILTER_EMPTY")
	for range 5 {
		send(labelPath, goodLabel, "")
	}
	send(labelPath, goodLabel, "SANDBOX_LABEL_QUOTA_OVER")
	for range 5 {
		send(totalPath, textMaterial, "")
		send(groupPath, `{"group_id":"g",`+textMaterial[1:], "")
	}
	send(totalPath, textMaterial, "MSG_BATCH_SD_OVER")
	send(groupPath, `{"group_id":"g",`+textMaterial[1:], "MSG_BATCH_SD_OVER")
	for range 7 {
		send(singlePath, singleBody, "")
	}
	if got := sb.Stats().QuotaOver; got != 3 {
		t.Errorf("stats: %d calls beyond the quota, want 3", got)
	}

	sb = setup(t, open) // a restart remembers
	send(labelPath, goodLabel, "SANDBOX_LABEL_QUOTA_OVER")
	mu.Lock()
	now = now.Add(7*24*time.Hour + time.Second)
	mu.Unlock()
	send(labelPath, goodLabel, "")
	checked, err := sandbox.CheckJournal(journal)
	if err != nil || len(checked.QuotaBreaches(5)) > 0 || len(checked.QuotaBreaches(4)) != 3 {
		t.Errorf("checker: %v, breaches of 4: %v, of 5: %v", err, checked.QuotaBreaches(4), checked.QuotaBreaches(5))
	}
}

func TestAlipayQuotaIsExactUnderConcurrency(t *testing.T) {
	t.Parallel()
	sb := setup(t)
	var calls sync.WaitGroup
	for range 20 {
		req := sb.alipay(t, labelPath, goodLabel)
		calls.Go(func() {
			if _, err := sb.do(t, req); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if s := sb.Stats(); s.Accepted != 5 || s.QuotaOver != 15 {
		t.Errorf("%d accepted and %d beyond the quota, want 5 and 15", s.Accepted, s.QuotaOver)
	}
}

package sandbox

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// alipay stands in for the OpenAPI v3 gateway. Business errors have a status
// and a code in capitals, and are signed. The gateway's own errors have codes
// in kebab-case, and are not signed.
type alipay struct {
	apps   map[string]*AlipayApp
	nonces *nonces
	ids    *ids
	now    func() time.Time
	quota  *quota
}

const (
	// codeBatchOver is the documented code for a used-up quota of group sends;
	// that of total sends is inferred from it.
	codeBatchOver = "MSG_BATCH_SD_OVER"
	// codeLabelOver is the sandbox's own. The documents limit label sends to
	// five a week and have no code for the sixth. A code with another meaning
	// would hide the breach, for which tests look in the journal.
	codeLabelOver = "SANDBOX_LABEL_QUOTA_OVER"
)

func newAlipay(cfg Config, nonces *nonces, ids *ids) (*alipay, error) {
	a := &alipay{
		apps: map[string]*AlipayApp{}, nonces: nonces, ids: ids, now: cfg.Now, quota: newQuota(cfg.WeeklyQuota),
	}
	for _, app := range cfg.Apps.Alipay {
		keys, err := parseAlipayKeys(app)
		if err != nil {
			return nil, fmt.Errorf("alipay app %q: %w", app.AppID, err)
		}
		app.keys = keys
		a.apps[app.AppID] = &app
	}
	return a, nil
}

func (a *alipay) app(id []byte) *AlipayApp {
	if app := a.apps[string(id)]; app != nil {
		return app
	}
	return a.apps[AnyApp]
}

func (a *alipay) judge(c *call) *refusal {
	c.deliveryID = c.header("alipay-request-id")
	app, refused := a.authenticate(c)
	if refused != nil {
		c.signature = refused.message
		return refused
	}
	c.signature, c.alipay = signatureOK, app
	if len(c.deliveryID) > 32 || !isTraceable(c.deliveryID) {
		return &refusal{http.StatusBadRequest, "invalid-parameter", "alipay-request-id: at most 32 of A-Za-z0-9-_"}
	}
	if c.api == apiUnknown {
		return &refusal{http.StatusNotFound, "invalid-method", "no such interface"}
	}
	body, refused := a.open(c, app)
	if refused != nil {
		return refused
	}
	return a.judgeMessage(c, body)
}

func isTraceable(id []byte) bool {
	for _, b := range id {
		ok := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_'
		if !ok {
			return false
		}
	}
	return true
}

// open decrypts the body if the app uses encryption, and checks the headers
// that say so.
func (a *alipay) open(c *call, app *AlipayApp) ([]byte, *refusal) {
	encrypted := string(c.header("alipay-encrypt-type")) == "AES"
	kind := c.header("content-type")
	switch {
	case encrypted && app.keys.block == nil:
		return nil, &refusal{http.StatusBadRequest, "missing-encrypt-key", "the app has no AES key"}
	case !encrypted && app.keys.block != nil:
		return nil, &refusal{http.StatusBadRequest, "missing-encrypt-type", "the app's bodies must be encrypted"}
	case encrypted && !bytes.HasPrefix(kind, []byte("text/plain")):
		return nil, &refusal{http.StatusBadRequest, "invalid-format", "an encrypted body is text/plain"}
	case encrypted:
		body, err := app.keys.decrypt(c.body)
		if err != nil {
			return nil, &refusal{http.StatusBadRequest, "decryption-error", err.Error()}
		}
		return body, nil
	case !bytes.HasPrefix(kind, []byte("application/json")):
		return nil, &refusal{http.StatusBadRequest, "invalid-format", "the body is application/json"}
	}
	return c.body, nil
}

func (a *alipay) take(c *call) *refusal {
	switch c.api {
	case apiLabelSend:
		if !a.quota.take(c.api, c.appID, c.received) {
			return &refusal{http.StatusBadRequest, codeLabelOver, "5 label sends in 7 days are used up"}
		}
	case apiTotalSend, apiGroupSend:
		if !a.quota.take(c.api, c.appID, c.received) {
			return &refusal{http.StatusBadRequest, codeBatchOver, "5 sends in 7 days are used up"}
		}
		c.messageID = a.ids.make()
		a.quota.issued(c.messageID)
	case apiRecall:
		if !a.quota.recall(c.messageID) {
			return &refusal{http.StatusBadRequest, "ILLEGAL_BIZ_PARAMS", "no such message"}
		}
	default:
	}
	return nil
}

func (a *alipay) confirm(c *call) {
	b := append(c.answer.body, '{')
	if c.messageID != "" && c.api != apiRecall {
		b = append(b, `"message_id":"`...)
		b = append(b, c.messageID...)
		b = append(b, '"')
	}
	c.answer.body = append(b, '}')
	a.sign(c)
}

func (a *alipay) refuse(c *call, r *refusal) {
	c.answer.status = r.status
	b := appendString(append(c.answer.body, `{"code":`...), r.code)
	b = appendField(b, "message", r.message)
	c.answer.body = append(b, `,"links":[]}`...)
	if isBusiness(r.code) {
		a.sign(c)
		return
	}
	c.answer.header("alipay-trace-id", string(c.requestID))
}

// isBusiness says whether a code is a business error's, like
// LABEL_GROUP_KEY_EMPTY, and not the gateway's, like app-call-limited.
func isBusiness(code string) bool { return code != "" && code[0] >= 'A' && code[0] <= 'Z' }

// sign encrypts the answer if the app uses encryption, and signs it.
func (a *alipay) sign(c *call) {
	c.answer.header("alipay-trace-id", string(c.requestID))
	if c.alipay == nil { // refused before the app was known
		return
	}
	keys := c.alipay.keys
	if keys.block != nil {
		c.answer.body = keys.encrypt(c.answer.body)
		c.answer.kind = "text/plain;charset=utf-8"
		c.answer.header("alipay-encrypt-type", "AES")
	}
	if c.fault != nil && c.fault.Kind == Unsigned {
		return
	}
	timestamp, nonce := strconv.FormatInt(a.now().UnixMilli(), 10), a.ids.make()
	signed := fmt.Appendf(nil, "%s\n%s\n%s\n", timestamp, nonce, c.answer.body)
	if c.fault != nil && c.fault.Kind == Forged {
		signed = append(signed, "forged"...)
	}
	signature, err := keys.sign(signed)
	if err != nil { // a client must expect answers without a signature
		return
	}
	c.answer.header("alipay-timestamp", timestamp)
	c.answer.header("alipay-nonce", nonce)
	c.answer.header("alipay-signature", base64.StdEncoding.EncodeToString(signature))
	if keys.alipaySN != "" {
		c.answer.header("alipay-sn", keys.alipaySN)
	}
}

// restore reads the week's sends back from the journal, so that the quota
// holds over a restart of the sandbox.
func (a *alipay) restore(j *journal, now time.Time) error {
	if j.last() == 0 {
		return nil
	}
	var lines lineFilter
	if _, err := j.copyFile(&lines, 0); err != nil {
		return err
	}
	calls, err := parseCalls(lines.kept)
	for _, c := range calls {
		if c.Outcome != Accepted || now.Sub(c.ReceivedAt) >= week {
			continue
		}
		for _, api := range []api{apiLabelSend, apiTotalSend, apiGroupSend} {
			if c.API == api.String() {
				a.quota.add(api, c.AppID, c.ReceivedAt)
			}
		}
		if c.MessageID != "" {
			a.quota.issued(c.MessageID)
		}
	}
	return err
}

// lineFilter keeps the lines of Alipay's calls.
type lineFilter struct{ kept []byte }

func (f *lineFilter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"api":"alipay.`)) {
		f.kept = append(f.kept, line...)
	}
	return len(line), nil
}

const week = 7 * 24 * time.Hour

// quota counts accepted sends in any rolling week, by interface and app. The
// documents do not say what a week is; the strictest reading is used.
type quota struct {
	limit int // negative: none

	mu       sync.Mutex
	sends    map[quotaKey][]time.Time
	messages []string // ids that can be recalled, the oldest first
}

type quotaKey struct {
	api api
	app string
}

// maxMessages bounds how many messages can be recalled.
const maxMessages = 10_000

func newQuota(limit int) *quota { return &quota{limit: limit, sends: map[quotaKey][]time.Time{}} }

// take uses one send, or reports false when the week's sends are used up.
func (q *quota) take(api api, app []byte, now time.Time) bool {
	if q.limit < 0 {
		return true
	}
	key := quotaKey{api, string(app)}
	q.mu.Lock()
	defer q.mu.Unlock()
	recent := slices.DeleteFunc(q.sends[key], func(t time.Time) bool { return now.Sub(t) >= week })
	free := len(recent) < q.limit
	if free {
		recent = append(recent, now)
	}
	q.sends[key] = recent
	return free
}

// add counts a send of an earlier run.
func (q *quota) add(api api, app string, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := quotaKey{api, app}
	q.sends[key] = append(q.sends[key], at)
}

func (q *quota) issued(message string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.messages) >= maxMessages {
		q.messages = slices.Delete(q.messages, 0, maxMessages/2)
	}
	q.messages = append(q.messages, message)
}

// recall takes a message back, once.
func (q *quota) recall(message string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.messages, message)
	if i < 0 {
		return false
	}
	q.messages = slices.Delete(q.messages, i, i+1)
	return true
}

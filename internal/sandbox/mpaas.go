package sandbox

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// mpaas stands in for the Message Push Service of mPaaS. Business errors are
// ResultCodes in an answer of HTTP 200; throttling is a Code with HTTP 400.
type mpaas struct {
	keys   map[string]*accessKey
	nonces *nonces
	ids    *ids
	now    func() time.Time
	tasks  *scheduler
}

const mpaasVersion = "2020-10-28"

func newMPaaS(cfg Config, nonces *nonces, ids *ids) (*mpaas, error) {
	m := &mpaas{keys: map[string]*accessKey{}, nonces: nonces, ids: ids, now: cfg.Now, tasks: newScheduler()}
	for i, app := range cfg.Apps.MPaaS {
		if app.AppID == "" || app.AccessKeyID == "" || app.AccessKeySecret == "" {
			return nil, fmt.Errorf("mpaas app %d: app id, access key id and secret are needed", i+1)
		}
		key := m.keys[app.AccessKeyID]
		if key == nil {
			key = newAccessKey(app.AccessKeyID, app.AccessKeySecret, app.SecurityToken)
			m.keys[app.AccessKeyID] = key
		}
		key.any = key.any || app.AppID == AnyApp
		key.apps[app.AppID+"\n"+app.WorkspaceID] = true
	}
	return m, nil
}

func (m *mpaas) judge(c *call) *refusal {
	key, reason := m.authenticate(c)
	c.signature = reason
	var ok bool
	c.params, ok = parseForm(c.body, c.params)
	if ok {
		// The journal has the app's name for refused calls too.
		c.appID, c.workspaceID = c.param("AppId"), c.param("WorkspaceId")
	}
	if reason != signatureOK {
		return &refusal{http.StatusOK, "-1", "SIGNATURE_MISMATCH: " + reason}
	}
	if !ok {
		return invalid("the body is not a form")
	}
	if c.api == apiUnknown {
		return &refusal{http.StatusNotFound, "InvalidAction.NotFound", "no such action"}
	}
	if len(c.appID) == 0 || len(c.workspaceID) == 0 {
		return &refusal{http.StatusOK, "3003", "NEED_APPID_WORKSPACEID"}
	}
	if !key.mayUse(c.appID, c.workspaceID) {
		return &refusal{http.StatusOK, "3007", "APPID_WRONG"}
	}
	return m.judgeAction(c)
}

// authenticate finds the access key and verifies the signature. It returns
// signatureOK or the reason why the signature is refused.
func (m *mpaas) authenticate(c *call) (*accessKey, string) {
	if string(c.method) != http.MethodPost {
		return nil, "the method is not POST"
	}
	if c.header("authorization") == nil {
		return nil, "the Authorization header is missing"
	}
	signed, err := aliyun.Decode(c.aliyunRequest())
	if err != nil {
		return nil, reasonOf(err)
	}
	if key := m.keys[signed.KeyID]; key != nil {
		if reason := key.checkSigned(&c.wire, signed.SignedHeaders()); reason != "" {
			return nil, reason
		}
	}
	if _, err := signed.Verify(m.find, m.now()); err != nil {
		return nil, reasonOf(err)
	}
	key := m.keys[signed.KeyID]
	if string(c.header("x-acs-version")) != mpaasVersion {
		return nil, "x-acs-version is not " + mpaasVersion
	}
	if !bytes.HasPrefix(c.header("content-type"), []byte("application/x-www-form-urlencoded")) {
		return nil, "the content type is not application/x-www-form-urlencoded"
	}
	nonce := c.header("x-acs-signature-nonce")
	if len(nonce) == 0 || !m.nonces.use([]byte(signed.KeyID), nonce) {
		return nil, "x-acs-signature-nonce was used before"
	}
	return key, signatureOK
}

func (m *mpaas) find(id string) *aliyun.Key {
	if key := m.keys[id]; key != nil {
		return key.Key
	}
	return nil
}

func (k *accessKey) mayUse(appID, workspaceID []byte) bool {
	if k.any {
		return true
	}
	var space [128]byte
	name := append(append(append(space[:0], appID...), '\n'), workspaceID...)
	return k.apps[string(name)]
}

// param returns the value of a parameter by its wire name, or nil.
func (c *call) param(name string) []byte {
	for i := range c.params {
		if string(c.params[i].name) == name {
			return c.params[i].value
		}
	}
	return nil
}

// invalid returns the refusal of a parameter for which there is no code of its own.
func invalid(format string, args ...any) *refusal {
	return &refusal{http.StatusOK, "3028", "INVALID_PARAM: " + fmt.Sprintf(format, args...)}
}

func (m *mpaas) take(c *call) *refusal {
	switch c.api {
	case apiPushSimple, apiPushTemplate, apiPushMultiple, apiPushBroadcast:
		c.messageID = m.ids.make()
		if c.schedule != nil {
			return m.tasks.add(c, m.now())
		}
	default:
	}
	return nil
}

// confirm answers with the documented answer for success of the action.
func (m *mpaas) confirm(c *call) {
	c.code = "OK"
	b := append(c.answer.body, `{"RequestId":"`...)
	b = append(b, c.requestID...)
	b = append(b, `","ResultCode":"OK","ResultMessage":"success",`...)
	switch c.api {
	case apiQueryScheduler:
		b = append(b, `"ResultContent":`...)
		b = m.tasks.query(b, c, m.now())
	case apiCancelScheduler:
		b = append(b, `"ResultContent":`...)
		b = m.tasks.cancel(b, c)
	default:
		b = append(b, `"PushResult":{"Success":true,"ResultMsg":"success","Data":"`...)
		b = append(b, c.messageID...)
		b = append(b, '"', '}')
	}
	c.answer.body = append(b, '}')
}

// refuse answers a business error. An error with a status of its own comes from
// the gateway, whose answers have Code instead of ResultCode.
func (m *mpaas) refuse(c *call, r *refusal) {
	c.answer.status = r.status
	b := append(c.answer.body, `{"RequestId":"`...)
	b = append(b, c.requestID...)
	b = append(b, '"')
	if r.status != http.StatusOK {
		b = appendField(b, "HostId", c.header("host"))
		b = appendField(b, "Code", r.code)
		b = appendField(b, "Message", r.message)
		c.answer.body = append(b, '}')
		return
	}
	b = appendField(b, "ResultCode", r.code)
	b = appendField(b, "ResultMessage", r.message)
	b = append(b, `,"PushResult":{"Success":false`...)
	b = appendField(b, "ResultMsg", r.message)
	c.answer.body = append(b, '}', '}')
}

// throttle answers HTTP 400 with a Code, and with headers that say how long to wait.
func (m *mpaas) throttle(c *call) {
	c.answer.header("x-ratelimit-user", "Limit:1,Remain:0,TimeLeft:200,Reset:1")
	c.answer.header("x-ratelimit-user-api", "Limit:1,Remain:0,TimeLeft:200,Reset:1")
	r := &refusal{http.StatusBadRequest, "Throttling.User", "Request was denied due to user flow control."}
	c.code = r.code
	m.refuse(c, r)
}

// signatureOK is the journal's word for a good signature.
const signatureOK = "ok"

// acsSigned are the headers that the signature of a daemon's call must cover,
// since any other could be changed on the way. Other clients of the service
// leave some out.
var acsSigned = []string{
	"content-type", "host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version",
}

// An accessKey is a key with the apps for which it may call.
type accessKey struct {
	*aliyun.Key
	token string
	apps  map[string]bool // by appKey
	any   bool
}

func newAccessKey(id, secret, token string) *accessKey {
	return &accessKey{Key: aliyun.NewKey(id, secret, token), token: token, apps: map[string]bool{}}
}

// aliyunRequest returns the call as package aliyun reads it.
func (w *wire) aliyunRequest() *aliyun.Request {
	all := make([]byte, 0, 1024) // one string for all values costs less than one for each
	for i := range w.headers {
		all = append(all, w.headers[i].value...)
	}
	values, rest := make([]string, len(w.headers)), string(all)
	for i := range w.headers {
		n := len(w.headers[i].value)
		values[i], rest = rest[:n], rest[n:]
	}
	return &aliyun.Request{
		Method: string(w.method), Path: string(w.path), Query: string(w.query), Body: w.body,
		Header: func(name string) (named []string) {
			for i := range w.headers {
				switch {
				case string(w.headers[i].name) != name:
				case named == nil:
					named = values[i : i+1 : i+1]
				default:
					named = append(named, values[i])
				}
			}
			return named
		},
	}
}

// checkSigned judges a daemon's signature: it covers all of acsSigned, in order,
// and a temporary key comes with its token.
func (k *accessKey) checkSigned(w *wire, names []string) string {
	if !slices.IsSorted(names) {
		return "SignedHeaders is not sorted"
	}
	for _, name := range acsSigned {
		if !slices.Contains(names, name) {
			return "SignedHeaders lacks " + name
		}
	}
	if k.token == "" {
		return ""
	}
	if string(w.header("x-acs-security-token")) != k.token || string(w.header("x-acs-accesskey-id")) != k.ID {
		return "the security token is not this access key's"
	}
	if !slices.Contains(names, "x-acs-security-token") || !slices.Contains(names, "x-acs-accesskey-id") {
		return "SignedHeaders lacks the security token"
	}
	return ""
}

// reasonOf returns the journal's text for why a signature was refused.
func reasonOf(err *aliyun.Error) string {
	switch {
	case strings.HasPrefix(err.Code, "InvalidAccessKeyId"):
		return "unknown access key id"
	case err.Code == "InvalidTimeStamp.Expired":
		return "x-acs-date is more than 15 minutes off"
	case strings.HasPrefix(err.Code, "InvalidSecurityToken"):
		return "the security token is not this access key's"
	case err.Code == "SignatureDoesNotMatch":
		return "the signature does not match"
	}
	return err.Message
}

package sandbox

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// An api is one call that the sandbox answers. A push has the name of its channel in
// campaigns, so that the journal and the database can be joined.
type api uint8

const (
	apiUnknown api = iota
	apiPushSimple
	apiPushTemplate
	apiPushMultiple
	apiPushBroadcast
	apiQueryScheduler
	apiCancelScheduler
	apiRevokeTask
	apiRevokeMessage
	apiLabelSend
	apiTotalSend
	apiGroupSend
	apiSingleSend
	apiRecall
	apiWebhook
	apiWebhookRevoke
	apiCount
)

var apiNames = [apiCount]string{
	apiUnknown:         "unknown",
	apiPushSimple:      "mpaas.push_simple",
	apiPushTemplate:    "mpaas.push_template",
	apiPushMultiple:    "mpaas.push_multiple",
	apiPushBroadcast:   "mpaas.push_broadcast",
	apiQueryScheduler:  "mpaas.query_push_scheduler_list",
	apiCancelScheduler: "mpaas.cancel_push_scheduler",
	apiRevokeTask:      "mpaas.revoke_push_task",
	apiRevokeMessage:   "mpaas.revoke_push_message",
	apiLabelSend:       "alipay.label_send",
	apiTotalSend:       "alipay.total_send",
	apiGroupSend:       "alipay.group_send",
	apiSingleSend:      "alipay.single_send",
	apiRecall:          "alipay.recall",
	apiWebhook:         "webhook",
	apiWebhookRevoke:   "webhook.revoke",
}

func (a api) String() string { return apiNames[a] }

// A provider is one family of APIs, with its own errors and signatures.
type provider uint8

const (
	providerNone provider = iota
	providerMPaaS
	providerAlipay
	providerWebhook
)

func (p provider) String() string {
	return [...]string{"unknown", "mpaas", "alipay", "webhook"}[p]
}

func (a api) provider() provider {
	switch {
	case a >= apiPushSimple && a <= apiRevokeMessage:
		return providerMPaaS
	case a >= apiLabelSend && a <= apiRecall:
		return providerAlipay
	case a == apiWebhook || a == apiWebhookRevoke:
		return providerWebhook
	}
	return providerNone
}

const alipayPrefix = "/v3/alipay/open/public/"

// route finds the API of a request from its head alone. The provider is known
// even where the API is not. It decides in which form the sandbox refuses.
func route(w *wire) (api, provider) {
	path := w.path
	if len(path) > len("/webhook/") && string(path[:len("/webhook/")]) == "/webhook/" {
		return apiWebhook, providerWebhook
	}
	if len(path) > len(alipayPrefix) && string(path[:len(alipayPrefix)]) == alipayPrefix {
		return routeAlipay(path[len(alipayPrefix):]), providerAlipay
	}
	if string(path) == "/" {
		return routeMPaaS(w.header("x-acs-action")), providerMPaaS
	}
	return apiUnknown, providerNone
}

func routeMPaaS(action []byte) api {
	switch string(action) {
	case "PushSimple":
		return apiPushSimple
	case "PushTemplate":
		return apiPushTemplate
	case "PushMultiple":
		return apiPushMultiple
	case "PushBroadcast":
		return apiPushBroadcast
	case "QueryPushSchedulerList":
		return apiQueryScheduler
	case "CancelPushScheduler":
		return apiCancelScheduler
	case "RevokePushTask":
		return apiRevokeTask
	case "RevokePushMessage":
		return apiRevokeMessage
	}
	return apiUnknown
}

func routeAlipay(path []byte) api {
	switch string(path) {
	case "message/label/send":
		return apiLabelSend
	case "message/total/send":
		return apiTotalSend
	case "message/group/send":
		return apiGroupSend
	case "message/single/send":
		return apiSingleSend
	case "life/msg/recall":
		return apiRecall
	}
	return apiUnknown
}

// An Outcome says whether the sandbox accepted a call.
type Outcome string

const (
	// Accepted: the push was taken. Call.AnswerDelivered says whether the client got
	// the answer.
	Accepted Outcome = "accepted"
	// Refused: the push was certainly not taken. A fault may have changed the answer,
	// so that the client cannot know this.
	Refused Outcome = "refused"
)

// A Call is one line of the journal.
type Call struct {
	// Seq counts the lines of the journal from 1, without gaps.
	Seq uint64 `json:"seq"`
	// ReceivedAt is when the first byte of the request was seen. The time that
	// the call waited for a body or a fault comes after it.
	ReceivedAt time.Time `json:"received_at"`
	// AnsweredAt is when the outcome was decided, right before the answer was sent.
	AnsweredAt  time.Time `json:"answered_at"`
	API         string    `json:"api"` // the channel's name, e.g. mpaas.push_multiple
	AppID       string    `json:"app_id,omitempty"`
	WorkspaceID string    `json:"workspace_id,omitempty"`
	// DeliveryID is the client's own id of the call: alipay-request-id, the
	// webhook's idempotency key. mPaaS has none.
	DeliveryID string `json:"delivery_id,omitempty"`
	RequestID  string `json:"request_id,omitempty"` // the sandbox's id of the call
	MessageID  string `json:"message_id,omitempty"` // of an accepted message
	// Signature is "ok" or the reason why the signature was refused. It is empty when
	// the call ended before the signature was checked.
	Signature string  `json:"signature,omitempty"`
	Outcome   Outcome `json:"outcome"`
	Code      string  `json:"code,omitempty"` // the provider's code in the answer
	Status    int     `json:"status,omitempty"`
	Fault     string  `json:"fault,omitempty"` // the fault applied
	// AnswerDelivered is false when a fault kept the answer back. The line is written
	// before the answer, so it does not say whether the client had gone away;
	// Stats.AnswersLost counts those calls.
	AnswerDelivered bool     `json:"answer_delivered"`
	TaskName        string   `json:"task_name,omitempty"`
	TargetCount     int      `json:"target_count"`
	MsgKeys         []string `json:"msg_keys,omitempty"`
	Targets         []string `json:"targets,omitempty"`
	Notes           []string `json:"notes,omitempty"` // oddities that are not refused
}

// A call is one request on its way to an answer. It belongs to a connection
// and is used again for the next request; its byte slices point into the
// connection's buffer.
type call struct {
	wire
	answer   answer
	api      api
	provider provider
	params   []param
	values   [maxRules][]byte // by the index of the action's rule

	appID, workspaceID, deliveryID, taskName []byte

	requestID   []byte
	messageID   string
	signature   string
	outcome     Outcome
	code        string
	fault       *Fault
	delivered   bool
	targetCount int
	msgKeys     [][]byte
	targets     [][]byte
	notes       []string

	schedule *schedule  // of an mPaaS push for later
	alipay   *AlipayApp // signs and encrypts the answer
	line     []byte
}

func (c *call) reset() {
	c.answer.reset()
	c.params = c.params[:0]
	c.appID, c.workspaceID, c.deliveryID, c.taskName = nil, nil, nil, nil
	c.requestID, c.messageID, c.signature = c.requestID[:0], "", ""
	c.outcome, c.code, c.fault, c.delivered = Refused, "", nil, true
	c.targetCount, c.msgKeys, c.targets, c.notes = 0, c.msgKeys[:0], c.targets[:0], nil
	c.schedule, c.alipay = nil, nil
}

// A refusal says why a call is not accepted.
type refusal struct {
	status        int // of the HTTP answer, for providers that refuse by status
	code, message string
}

// appendLine encodes the call as its journal line without the sequence number,
// which the journal adds.
func (c *call) appendLine(b []byte, answered time.Time, detail Detail) []byte {
	b = append(b, `"received_at":"`...)
	b = c.received.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","answered_at":"`...)
	b = answered.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","api":"`...)
	b = append(b, c.api.String()...)
	b = append(b, '"')
	b = appendField(b, "app_id", c.appID)
	b = appendField(b, "workspace_id", c.workspaceID)
	b = appendField(b, "signature", c.signature)
	b = appendField(b, "outcome", string(c.outcome))
	b = appendField(b, "code", c.code)
	if c.fault != nil {
		b = appendField(b, "fault", string(c.fault.Kind))
	}
	if c.delivered {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(c.answer.status), 10)
	}
	b = append(b, `,"answer_delivered":`...)
	b = strconv.AppendBool(b, c.delivered)
	b = append(b, `,"target_count":`...)
	b = strconv.AppendInt(b, int64(c.targetCount), 10)
	b = appendList(b, "msg_keys", c.msgKeys)
	b = appendField(b, "delivery_id", c.deliveryID)
	if detail == Full {
		b = c.appendDetail(b)
	}
	return append(b, "}\n"...)
}

func (c *call) appendDetail(b []byte) []byte {
	b = appendField(b, "request_id", c.requestID)
	b = appendField(b, "message_id", c.messageID)
	b = appendField(b, "task_name", c.taskName)
	if len(c.targets) <= maxTargets {
		b = appendList(b, "targets", c.targets)
	}
	return appendList(b, "notes", c.notes)
}

func appendField[T []byte | string](b []byte, name string, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

func appendList[T []byte | string](b []byte, name string, values []T) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':', '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, v)
	}
	return append(b, ']')
}

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString[T []byte | string](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}

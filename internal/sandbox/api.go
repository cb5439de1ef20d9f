package sandbox

// An api is one call the sandbox answers. Pushes bear the name of the channel
// that campaigns use, so that journal and database can be joined.
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

// A provider is one family of APIs: how it names its errors, and how it signs.
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
// where the API is not: it decides in whose words the sandbox refuses.
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

package webhook

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/dispatch/httpcall"
)

// words are what a receiver may say beside its status, in a JSON object. All of
// it is optional.
type words struct {
	Code      httpcall.Word `json:"code"`
	Message   httpcall.Word `json:"message"`
	MessageID httpcall.Word `json:"message_id"`
	RequestID httpcall.Word `json:"request_id"`
}

// judge classes an answer by its status alone: a receiver need not write a body,
// and a body that was cut changes nothing. A redirect is not followed. It is
// classed as unknown, since the receiver may have acted before it answered.
func judge(a *httpcall.Answer) dispatch.Outcome {
	o, decided := a.ByStatus()
	switch {
	case decided:
	case a.Status/100 == 2:
		o.Class = dispatch.Accepted
	default:
		o = dispatch.Outcome{
			Class: dispatch.Permanent, Reason: refusal(a.Status),
			Code: strconv.Itoa(a.Status), Message: a.Describe(),
		}
	}
	o.RequestID = a.Header.Get("X-Request-Id")
	return say(o, a)
}

func refusal(status int) dispatch.Reason {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return dispatch.ReasonAuth
	}
	return dispatch.ReasonRefused
}

// say adds the receiver's words. It leaves out words of another form: a machine
// on the way may have written the answer.
func say(o dispatch.Outcome, a *httpcall.Answer) dispatch.Outcome {
	var w words
	if a.TooLong || json.Unmarshal(a.Text(), &w) != nil {
		return o
	}
	if w.Code != "" {
		o.Code = string(w.Code)
	}
	if w.Message != "" {
		o.Message = string(w.Message)
	}
	if w.RequestID != "" {
		o.RequestID = string(w.RequestID)
	}
	o.MessageID = string(w.MessageID)
	return o
}

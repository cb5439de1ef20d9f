package aliyun

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
)

// A Field is one name and value of an answer. The value is a string, an int64, a
// bool, a Fields or a []Fields.
type Field struct {
	Name  string
	Value any
}

// Fields is an object of an answer. Its fields are written in their order.
type Fields []Field

// RequestID returns a new random id for a call: a UUID in upper case.
func RequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := strings.ToUpper(hex.EncodeToString(b[:]))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Answer writes the answer of the service with HTTP status 200. The RequestId is
// its first field.
func Answer(w http.ResponseWriter, format Format, action, requestID string, fields Fields) {
	write(w, format, http.StatusOK, action+"Response", append(Fields{{"RequestId", requestID}}, fields...))
}

// Refuse writes a refusal of the gateway, with the HTTP status of e. The host,
// which the client chose, is clipped.
func Refuse(w http.ResponseWriter, format Format, requestID, host string, e *Error) {
	write(w, format, e.Status, "Error", Fields{
		{"RequestId", requestID},
		{"HostId", clip(host)},
		{"Code", e.Code},
		{"Message", e.Message},
		{"Recommend", "https://api.aliyun.com/troubleshoot?q=" + e.Code + "&product=mPaaS"},
	})
}

func write(w http.ResponseWriter, format Format, status int, root string, fields Fields) {
	var body []byte
	kind := "application/json;charset=utf-8"
	if format == XML {
		kind = "text/xml;charset=utf-8"
		body = appendXML([]byte(xml.Header), root, fields)
	} else {
		body = appendJSON(nil, fields)
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}

func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case Fields:
		b = append(b, '{')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSON(b, f.Name), ':')
			b = appendJSON(b, f.Value)
		}
		return append(b, '}')
	case []Fields:
		b = append(b, '[')
		for i, f := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, f)
		}
		return append(b, ']')
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic("aliyun: an answer holds a value of an unknown type")
		}
		return append(b, text...)
	}
}

// appendXML appends v as an element. A list becomes an element with an Item for
// each entry, as the Java client reads lists.
func appendXML(b []byte, name string, v any) []byte {
	b = append(append(append(b, '<'), name...), '>')
	switch v := v.(type) {
	case Fields:
		for _, f := range v {
			b = appendXML(b, f.Name, f.Value)
		}
	case []Fields:
		for _, f := range v {
			b = appendXML(b, "Item", f)
		}
	case string:
		var text strings.Builder
		_ = xml.EscapeText(&text, []byte(v)) // a Builder never returns an error
		b = append(b, text.String()...)
	case int64:
		b = strconv.AppendInt(b, v, 10)
	case bool:
		b = strconv.AppendBool(b, v)
	}
	return append(append(append(b, "</"...), name...), '>')
}

// An Error is a refusal of the gateway: the call did not reach the service.
type Error struct {
	Status        int // the HTTP status of the answer
	Code, Message string
}

// Error returns the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The refusals of requests and signatures. Most are documented. The others are
// worded like them [inferred].
var (
	ErrNoAPI         = &Error{http.StatusNotFound, "InvalidApi.NotFound", "Specified api is not found, please check your url and method."}
	errMethod        = &Error{http.StatusBadRequest, "UnsupportedHTTPMethod", "This http method is not supported."}
	ErrTooLarge      = &Error{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request is larger than 1 MiB, or its query than 64 KiB."}
	errMalformed     = &Error{http.StatusBadRequest, "InvalidParameter", "The query or the form is malformed."}
	errTooMany       = &Error{http.StatusBadRequest, "InvalidParameter", "There are more than 2000 parameters."}
	errName          = &Error{http.StatusBadRequest, "InvalidParameter", "The name of a parameter is longer than 256 bytes, or has more than 8 parts."}
	errContentType   = &Error{http.StatusBadRequest, "InvalidContentType", "The body must be of type application/x-www-form-urlencoded."}
	errAuthorization = &Error{http.StatusBadRequest, "IncompleteSignature", "The Authorization header is not one of ACS3-HMAC-SHA256 with Credential, SignedHeaders and Signature."}
	errMethodOfSign  = &Error{http.StatusBadRequest, "InvalidSignatureMethod", "The signature method must be HMAC-SHA1 of version 1.0, or ACS3-HMAC-SHA256."}
	errTimeFormat    = &Error{http.StatusBadRequest, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."}
	errExpired       = &Error{http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."}
	errNoKey         = &Error{http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	errBodyHash      = &Error{http.StatusBadRequest, "SignatureDoesNotMatch", "The x-acs-content-sha256 header is not the hash of the body."}
	errToken         = &Error{http.StatusBadRequest, "InvalidSecurityToken.MismatchWithAccessKey", "Specified security token is not this access key's."}
)

// Refusals that the callers of this package make after they have read the call.
var (
	ErrNonceUsed   = &Error{http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already."}
	ErrThrottled   = &Error{http.StatusBadRequest, "Throttling.User", "Request was denied due to user flow control."}
	ErrUnavailable = &Error{http.StatusServiceUnavailable, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."}
	ErrInternal    = &Error{http.StatusInternalServerError, "InternalError", "The request processing has failed due to some unknown error, exception or failure."}
)

func missing(name string) *Error {
	return &Error{http.StatusBadRequest, "Missing" + name, name + " is mandatory for this action."}
}

func repeated(name string) *Error {
	return &Error{http.StatusBadRequest, "InvalidParameter", "The parameter " + clip(name) + " is given more than once."}
}

// notMatched says that the signature is wrong. Its message ends in the text that
// the server signed. The SDKs compare that text with their own; when both are
// equal, they tell their user that the secret is wrong.
func notMatched(text string) *Error {
	return &Error{
		http.StatusBadRequest, "SignatureDoesNotMatch",
		"Specified signature is not matched with our calculation. server string to sign is:" + text,
	}
}

func clip(s string) string {
	const longest = 64
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}

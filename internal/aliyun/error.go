package aliyun

import "net/http"

// An Error is a refusal of the gateway: the call did not reach the service.
type Error struct {
	Status        int // of HTTP
	Code, Message string
}

// Error is the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The documented refusals. Those that the documents do not have are worded like
// their neighbours [inferred].
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

// Refusals that others make when they have seen the call.
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

// notMatched ends in the text that the server signed: the SDKs compare it with
// theirs, and tell their user that the secret is wrong when it is the same.
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

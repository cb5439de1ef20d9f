package sandbox

import (
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// signatureOK is the journal's word for a good signature.
const signatureOK = "ok"

// acsSigned are the headers that a call of the daemon's must cover: one left out
// could be changed on the way. Other clients of the service leave some out.
var acsSigned = []string{
	"content-type", "host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version",
}

// An accessKey is a key and the apps it may call for.
type accessKey struct {
	*aliyun.Key
	token string
	apps  map[string]bool // by appKey
	any   bool
}

func newAccessKey(id, secret, token string) *accessKey {
	return &accessKey{Key: aliyun.NewKey(id, secret, token), token: token, apps: map[string]bool{}}
}

// aliyunRequest is the call as package aliyun reads it.
func (w *wire) aliyunRequest() *aliyun.Request {
	return &aliyun.Request{
		Method: string(w.method), Path: string(w.path), Query: string(w.query), Body: w.body,
		Header: func(name string) []string {
			var values []string
			for i := range w.headers {
				if string(w.headers[i].name) == name {
					values = append(values, string(w.headers[i].value))
				}
			}
			return values
		},
	}
}

// checkSigned judges the daemon's own manner of signing: what must be covered is,
// in order, and a temporary key brings its token.
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

// reasonOf says in the journal's words why a signature was refused.
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

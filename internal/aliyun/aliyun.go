// Package aliyun is the server's side of Alibaba Cloud's RPC calls. It parses a
// request, verifies its signature (V1, which is HMAC-SHA1, or ACS3-HMAC-SHA256),
// and writes answers and errors as the gateway does. The API in front and the
// sandbox use this package. The mPaaS adapter, which signs calls, shares no code
// with it, so that neither hides a fault of the other.
//
// The size of a request is checked before the request is parsed. A request from
// a stranger therefore costs little, and a refused one costs one hash at most.
package aliyun

import (
	"net/http"
	"strings"
)

// Bounds of a request. A PushMultiple with 100 targets, each with its own
// values, has about 450 parameters.
const (
	MaxBody   = 1 << 20  // bytes
	maxQuery  = 64 << 10 // bytes
	maxParams = 2000
	maxName   = 256  // bytes of a parameter's name
	maxDotted = 8    // parts of a dotted name
	maxIndex  = 1000 // the highest number of a list's entry
	maxNonce  = 256  // bytes
	maxSigned = 64   // headers that a signature may cover
)

// A Request is an HTTP request as it arrived.
type Request struct {
	Method string
	Path   string // before the question mark, not decoded
	Query  string // after the question mark, not decoded
	// Header returns the values of a header. The name is in lower case; "host" is
	// one of the names.
	Header func(name string) []string
	Body   []byte // at most MaxBody
}

// FromHTTP makes a Request from a request that net/http has read, and from its
// body.
func FromHTTP(r *http.Request, body []byte) *Request {
	return &Request{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Body: body,
		Header: func(name string) []string {
			if name == "host" {
				return []string{r.Host}
			}
			return r.Header.Values(name)
		},
	}
}

// one returns the only value of a header. ok is false when the header is missing
// or has several values, since it is then open which of them counts.
func (r *Request) one(name string) (value string, ok bool) {
	values := r.Header(name)
	if len(values) != 1 {
		return "", false
	}
	return strings.TrimSpace(values[0]), true
}

// A Format is the syntax of an answer.
type Format uint8

// The formats of answers.
const (
	XML Format = iota
	JSON
)

// A Call is a parsed request. Its fields are not to be trusted until Verify has
// returned no error.
type Call struct {
	Action, Version string
	KeyID           string
	Token           string // the security token of STS; empty for a permanent key
	Nonce           string
	Timestamp       string // as it was sent, in UTC: 2006-01-02T15:04:05Z
	Format          Format

	request   *Request
	acs       *authorization // nil: the signature is V1
	signature string
	query     Params
	params    Params // of query and form; set for V1 only
}

// Decode parses a request as far as its signature needs it. The Call is never
// nil: the caller answers an error in the Format of the Call.
func Decode(r *Request) (*Call, *Error) {
	c := &Call{request: r, Format: acceptedFormat(r)}
	switch {
	case r.Path != "/" && r.Path != "":
		return c, ErrNoAPI
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return c, errMethod
	case len(r.Query) > maxQuery || len(r.Body) > MaxBody:
		return c, ErrTooLarge
	}
	var err *Error
	if c.query, err = parseForm(nil, r.Query); err != nil {
		return c, err
	}
	if values := r.Header("authorization"); len(values) > 0 {
		if len(values) > 1 {
			return c, errAuthorization
		}
		return c, c.decodeACS3(values[0])
	}
	return c, c.decodeV1()
}

// acceptedFormat returns the format that the headers ask for. A V1 call asks for
// its format in a parameter, which cannot be read when the request is malformed.
func acceptedFormat(r *Request) Format {
	accept := strings.ToLower(strings.Join(r.Header("accept"), ","))
	if strings.Contains(accept, "xml") && !strings.Contains(accept, "json") {
		return XML
	}
	return JSON
}

// form decodes the body. A body without a Content-Type is read as a form too.
func (c *Call) form(into Params) (Params, *Error) {
	if len(c.request.Body) == 0 {
		return into, nil
	}
	kind, _ := c.request.one("content-type")
	if kind, _, _ = strings.Cut(kind, ";"); len(c.request.Header("content-type")) > 0 && !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return into, errContentType
	}
	return parseForm(into, string(c.request.Body))
}

// Params returns the parameters of query and form as one set, sorted by name.
// Parameters with an empty value are left out, since some clients send them and
// some do not. Call Params only after Verify has returned no error.
func (c *Call) Params() (Params, *Error) {
	all := c.params
	if c.acs != nil {
		var err *Error
		if all, err = c.form(c.query); err != nil {
			return nil, err
		}
		if err := all.sort(); err != nil {
			return nil, err
		}
		if err := c.agree(all); err != nil {
			return nil, err
		}
	}
	given := make(Params, 0, len(all))
	for _, p := range all {
		if p.Value != "" {
			given = append(given, p)
		}
	}
	return given, nil
}

// agree refuses a call whose parameters name another action or version than its
// headers do. The Java client sends both, with equal values.
func (c *Call) agree(all Params) *Error {
	for name, want := range map[string]string{"Action": c.Action, "Version": c.Version} {
		if got := all.Get(name); got != "" && got != want {
			return repeated(name)
		}
	}
	return nil
}

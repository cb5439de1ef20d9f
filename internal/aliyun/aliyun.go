// Package aliyun is the server's side of Alibaba Cloud's RPC calls: it takes a
// request apart, verifies its signature, V1 (HMAC-SHA1) or ACS3-HMAC-SHA256, and
// words answers and errors as the gateway does. The front and the sandbox use
// it; the adapter, which signs, shares nothing with it.
//
// The bounds of what is read hold before anything is parsed: a stranger's
// request costs little, and one that is refused costs no more than its hash.
package aliyun

import (
	"net/http"
	"strings"
)

// Bounds of a request. A PushMultiple of 100 targets, each with values of its
// own, has about 450 parameters.
const (
	MaxBody   = 1 << 20 // bytes
	maxQuery  = 64 << 10
	maxParams = 2000
	maxName   = 256 // bytes of a parameter's name
	maxDotted = 8   // parts of a dotted name
	maxIndex  = 1000
	maxNonce  = 256
	maxSigned = 64 // headers that a signature may cover
)

// A Request is what arrived over HTTP, as it arrived.
type Request struct {
	Method string
	Path   string // before the question mark, not decoded
	Query  string // after it, not decoded
	// Header returns the values of a header by its lower-case name, "host" too.
	Header func(name string) []string
	Body   []byte // at most MaxBody
}

// FromHTTP makes a Request of one that net/http has read, and its body.
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

// one returns a header's only value; ok is false when there is none, or when
// several leave open which of them counts.
func (r *Request) one(name string) (value string, ok bool) {
	values := r.Header(name)
	if len(values) != 1 {
		return "", false
	}
	return strings.TrimSpace(values[0]), true
}

// A Format is how an answer is written.
type Format uint8

// The formats.
const (
	XML Format = iota
	JSON
)

// A Call is a request taken apart. Nothing of it may be believed before Verify
// returned no error.
type Call struct {
	Action, Version string
	KeyID           string
	Token           string // of STS; empty for a lasting key
	Nonce           string
	Timestamp       string // as it was sent, 2006-01-02T15:04:05Z
	Format          Format

	request   *Request
	acs       *authorization // nil: V1
	signature string
	query     Params
	params    Params // V1: of query and form
}

// Decode takes a request apart as far as its signature needs it. The Call is
// never nil: an error is to be answered in its Format.
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

// acceptedFormat is the format that headers ask for. V1 says it in a parameter,
// which is not known of a request that cannot be read.
func acceptedFormat(r *Request) Format {
	accept := strings.ToLower(strings.Join(r.Header("accept"), ","))
	if strings.Contains(accept, "xml") && !strings.Contains(accept, "json") {
		return XML
	}
	return JSON
}

// form decodes the body. One that does not say what it is is a form, too.
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

// Params returns the parameters of query and form as one set, sorted by name,
// without those whose value is empty: clients differ in whether they send them.
// It is for calls that Verify let pass.
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

// agree refuses a call whose headers and parameters name two actions: Java sends
// both, and the same.
func (c *Call) agree(all Params) *Error {
	for name, want := range map[string]string{"Action": c.Action, "Version": c.Version} {
		if got := all.Get(name); got != "" && got != want {
			return repeated(name)
		}
	}
	return nil
}

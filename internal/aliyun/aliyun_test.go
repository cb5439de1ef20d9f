package aliyun_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/aliyun"
)

// A recording is a request that an official client made.
type recording struct {
	Client    string         `json:"client"`
	Action    string         `json:"action"`
	Signature string         `json:"signature"`
	STS       bool           `json:"sts"`
	Params    map[string]any `json:"params"`
	Request   struct {
		Method  string      `json:"method"`
		Path    string      `json:"path"`
		Query   string      `json:"query"`
		Headers [][2]string `json:"headers"`
		Body    string      `json:"body"`
	} `json:"request"`
}

func recordings(t *testing.T) []recording {
	t.Helper()
	text, err := os.ReadFile("testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []recording }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

func (r *recording) name(i int) string { return fmt.Sprintf("%d %s %s", i, r.Client, r.Action) }

// request rebuilds the request with headers changed as edit says.
func (r *recording) request() *aliyun.Request {
	headers := make(map[string][]string)
	for _, h := range r.Request.Headers {
		name := strings.ToLower(h[0])
		headers[name] = append(headers[name], h[1])
	}
	return &aliyun.Request{
		Method: r.Request.Method, Path: r.Request.Path, Query: r.Request.Query, Body: []byte(r.Request.Body),
		Header: func(name string) []string { return headers[name] },
	}
}

// clock is the moment the request was made.
func (r *recording) clock(t *testing.T) time.Time {
	t.Helper()
	text := ""
	for _, h := range r.Request.Headers {
		if strings.EqualFold(h[0], "x-acs-date") && r.Signature == "acs3" {
			text = h[1]
		}
	}
	for _, form := range []string{r.Request.Query, r.Request.Body} {
		if values, err := url.ParseQuery(form); err == nil && text == "" {
			text = values.Get("Timestamp")
		}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatalf("no time in the recording: %v", err)
	}
	return at
}

func find(token string) func(string) *aliyun.Key {
	key := aliyun.NewKey("testak", "testsk", token)
	return func(id string) *aliyun.Key {
		if id != "testak" {
			return nil
		}
		return key
	}
}

func verify(r *aliyun.Request, now time.Time, token string) (*aliyun.Call, aliyun.Params, *aliyun.Error) {
	call, err := aliyun.Decode(r)
	if err != nil {
		return call, nil, err
	}
	if _, err := call.Verify(find(token), now); err != nil {
		return call, nil, err
	}
	params, err := call.Params()
	return call, params, err
}

func TestRecordedRequestsVerify(t *testing.T) {
	t.Parallel()
	all := recordings(t)
	if len(all) != 95 {
		t.Errorf("%d recordings, want 95", len(all))
	}
	for i, r := range all {
		t.Run(r.name(i), func(t *testing.T) {
			t.Parallel()
			token := ""
			if r.STS {
				token = "sts-token+/="
			}
			call, params, err := verify(r.request(), r.clock(t).Add(time.Minute), token)
			if err != nil {
				t.Fatal(err)
			}
			if call.Action != r.Action || call.KeyID != "testak" || call.Format != aliyun.JSON {
				t.Errorf("action %q, key %q, format %v", call.Action, call.KeyID, call.Format)
			}
			for name, want := range r.Params {
				compareParam(t, params, name, want)
			}
			if _, _, err := verify(r.request(), r.clock(t).Add(16*time.Minute), token); err == nil || err.Code != "InvalidTimeStamp.Expired" {
				t.Errorf("16 minutes later: %v", err)
			}
		})
	}
}

// compareParam holds what was decoded against what the client was given.
func compareParam(t *testing.T, params aliyun.Params, name string, want any) {
	t.Helper()
	switch want := want.(type) {
	case []any:
		items, err := params.List(name)
		if err != nil || len(items) != len(want) {
			t.Errorf("%s: %d items, %v, want %d", name, len(items), err, len(want))
			return
		}
		for i, item := range items {
			for field, value := range want[i].(map[string]any) {
				// Python's repr of a dict is not JSON, and is the front's to refuse.
				if got := item.Fields[field]; fmt.Sprint(value) != got && !sameJSON(value, got) && !strings.HasPrefix(got, "{'") {
					t.Errorf("%s.%d.%s: got %q, want %v", name, i+1, field, got, value)
				}
			}
		}
	case map[string]any:
		if got, err := params.Tree(name); err != nil || !sameJSON(want, got) && !strings.HasPrefix(got, "{") {
			t.Errorf("%s: got %s, %v, want %v", name, got, err, want)
		}
	case float64:
		if got := params.Get(name); got != fmt.Sprintf("%.0f", want) {
			t.Errorf("%s: got %q, want %v", name, got, want)
		}
	default:
		if got, err := params.Tree(name); err != nil || got != fmt.Sprint(want) && !sameJSON(want, got) {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, want)
		}
	}
}

// sameJSON compares a value, or the text of one, with a text.
func sameJSON(want any, got string) bool {
	if s, ok := want.(string); ok && json.Unmarshal([]byte(s), &want) != nil {
		return false
	}
	var other any
	return json.Unmarshal([]byte(got), &other) == nil && cmp.Equal(want, other)
}

// A changed byte is refused, or it changed nothing of what was said: %7e for %7E.
func TestChangedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	all := recordings(t)
	rapid.Check(t, func(r *rapid.T) {
		rec := all[rapid.IntRange(0, len(all)-1).Draw(r, "recording")]
		request, now := rec.request(), rec.clock(t)
		_, want, err := verify(request, now, "")
		if err != nil {
			r.Fatal(err)
		}
		wantCall, _ := aliyun.Decode(request)
		changed := change(r, rec, request)
		if changed == "" {
			return
		}
		call, got, err := verify(request, now, "")
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" || call.Action != wantCall.Action || call.Version != wantCall.Version || call.Nonce != wantCall.Nonce {
			r.Fatalf("%s: accepted %s: %s", rec.Client, changed, diff)
		}
	})
}

// change replaces one byte of what the signature covers and says which.
func change(r *rapid.T, rec recording, request *aliyun.Request) string {
	headers := make(map[string][]string)
	var signed []string
	for _, h := range rec.Request.Headers {
		name := strings.ToLower(h[0])
		headers[name] = append(headers[name], h[1])
		if name == "authorization" {
			_, list, _ := strings.Cut(h[1], "SignedHeaders=")
			list, _, _ = strings.Cut(list, ",")
			signed = append(strings.Split(list, ";"), "authorization")
		}
	}
	signed = slices.DeleteFunc(signed, func(name string) bool { return len(headers[name]) == 0 })
	places := []string{"query", "body"}
	places = append(places, signed...)
	place := rapid.SampledFrom(places).Draw(r, "place")
	flip := func(text string) string {
		if text == "" {
			return ""
		}
		b := []byte(text)
		at := rapid.IntRange(0, len(b)-1).Draw(r, "at")
		to := rapid.Byte().Draw(r, "to")
		if b[at] == to {
			return ""
		}
		b[at] = to
		return string(b)
	}
	switch place {
	case "query":
		if request.Query = flip(rec.Request.Query); request.Query == "" {
			return ""
		}
	case "body":
		if request.Body = []byte(flip(rec.Request.Body)); len(request.Body) == 0 {
			return ""
		}
	default:
		value := flip(headers[place][0])
		if strings.TrimSpace(value) == strings.TrimSpace(headers[place][0]) {
			return "" // HTTP leaves it out
		}
		headers[place] = []string{value}
		request.Header = func(name string) []string { return headers[name] }
	}
	return place
}

// Every byte of one request of each signature, to each of a few values.
func TestEveryByteIsCovered(t *testing.T) {
	t.Parallel()
	done := make(map[string]bool)
	for i, rec := range recordings(t) {
		if done[rec.Client+rec.Signature+rec.Request.Method] {
			continue
		}
		done[rec.Client+rec.Signature+rec.Request.Method] = true
		t.Run(rec.name(i), func(t *testing.T) {
			t.Parallel()
			now := rec.clock(t)
			_, want, err := verify(rec.request(), now, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"query", "body"} {
				text := rec.Request.Query
				if part == "body" {
					text = rec.Request.Body
				}
				for at := range len(text) {
					for _, to := range []byte("a&=%+ .\x00") {
						if text[at] == to {
							continue
						}
						request := rec.request()
						bad := text[:at] + string(to) + text[at+1:]
						if part == "body" {
							request.Body = []byte(bad)
						} else {
							request.Query = bad
						}
						if _, got, err := verify(request, now, ""); err == nil && !cmp.Equal(want, got) {
							t.Errorf("%s, byte %d to %q: accepted", part, at, to)
						}
					}
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	good := url.Values{
		"Action": {"PushSimple"}, "Version": {"2020-10-28"}, "AccessKeyId": {"testak"}, "Timestamp": {"2026-11-28T12:00:00Z"},
		"SignatureNonce": {"n"}, "SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"}, "Signature": {"x"}, "Format": {"JSON"},
	}
	with := func(name, value string) string {
		form := maps.Clone(good)
		form.Set(name, value)
		return form.Encode()
	}
	acs := func(header string) map[string][]string { return map[string][]string{"authorization": {header}} }
	tests := []struct {
		name, method, path, query, body string
		header                          map[string][]string
		want                            string
	}{
		{name: "wrong signature", query: good.Encode(), want: "SignatureDoesNotMatch"},
		{name: "unknown key", query: with("AccessKeyId", "x"), want: "InvalidAccessKeyId.NotFound"},
		{name: "no key", query: with("AccessKeyId", ""), want: "MissingAccessKeyId"},
		{name: "no signature", query: with("Signature", ""), want: "MissingSignature"},
		{name: "no nonce", query: with("SignatureNonce", ""), want: "MissingSignatureNonce"},
		{name: "a long nonce", query: with("SignatureNonce", strings.Repeat("n", 257)), want: "InvalidParameter"},
		{name: "no action", query: with("Action", ""), want: "MissingAction"},
		{name: "no version", query: with("Version", ""), want: "MissingVersion"},
		{name: "no time", query: with("Timestamp", ""), want: "MissingTimestamp"},
		{name: "local time", query: with("Timestamp", "2026-11-28T20:00:00Z"), want: "InvalidTimeStamp.Expired"},
		{name: "fractions of a second", query: with("Timestamp", "2026-11-28T12:00:00.1Z"), want: "InvalidTimeStamp.Format"},
		{name: "another zone", query: with("Timestamp", "2026-11-28T12:00:00+08:00"), want: "InvalidTimeStamp.Format"},
		{name: "SHA256withRSA", query: with("SignatureMethod", "SHA256withRSA"), want: "InvalidSignatureMethod"},
		{name: "bearer token", query: with("SignatureType", "BEARERTOKEN"), want: "InvalidSignatureMethod"},
		{name: "nothing", want: "MissingAction"},
		{name: "another path", path: "/x", want: "InvalidApi.NotFound"},
		{name: "PUT", method: "PUT", want: "UnsupportedHTTPMethod"},
		{name: "JSON body", body: "{}", header: map[string][]string{"content-type": {"application/json"}}, want: "InvalidContentType"},
		{name: "no equals sign", query: "Action", want: "InvalidParameter"},
		{name: "an empty pair", query: "a=1&&b=2", want: "InvalidParameter"},
		{name: "no name", query: "=1", want: "InvalidParameter"},
		{name: "a broken escape", query: "a=%4", want: "InvalidParameter"},
		{name: "a raw space", query: "a=b c", want: "InvalidParameter"},
		{name: "twice", query: good.Encode() + "&Action=PushMultiple", want: "InvalidParameter"},
		{name: "a long name", query: strings.Repeat("n", 257) + "=1", want: "InvalidParameter"},
		{name: "a deep name", query: "a.b.c.d.e.f.g.h.i=1", want: "InvalidParameter"},
		{name: "many parameters", query: strings.TrimSuffix(strings.Repeat("a=1&", 2001), "&"), want: "InvalidParameter"},
		{name: "a large query", query: "a=" + strings.Repeat("1", 64<<10), want: "RequestEntityTooLarge"},
		{name: "a large body", body: "a=" + strings.Repeat("1", 1<<20), want: "RequestEntityTooLarge"},
		{name: "another scheme", header: acs("Bearer x"), want: "IncompleteSignature"},
		{name: "no credential", header: acs("ACS3-HMAC-SHA256 SignedHeaders=a,Signature=b"), want: "IncompleteSignature"},
		{name: "two signatures", header: acs("ACS3-HMAC-SHA256 Credential=testak,SignedHeaders=a,Signature=b,Signature=c"), want: "IncompleteSignature"},
		{name: "two headers", header: map[string][]string{"authorization": {"a", "b"}}, want: "IncompleteSignature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			request := &aliyun.Request{
				Method: "GET", Path: "/", Query: tt.query, Body: []byte(tt.body), Header: func(name string) []string { return tt.header[name] },
			}
			if tt.method != "" {
				request.Method = tt.method
			}
			if tt.path != "" {
				request.Path = tt.path
			}
			if _, _, err := verify(request, now, ""); err == nil || err.Code != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// The three SDKs that compare the text of the answer with theirs need all of it.
func TestMismatchNamesTheTextThatIsSigned(t *testing.T) {
	t.Parallel()
	request := &aliyun.Request{
		Method: "GET", Path: "/", Header: func(string) []string { return nil },
		Query: "AccessKeyId=testak&Action=CancelPushScheduler&AppId=ONEX570DA89211721&Format=JSON&Signature=x&SignatureMethod=HMAC-SHA1&SignatureNonce=1" +
			"&SignatureType=&SignatureVersion=1.0&Timestamp=2026-11-28T13%3A46%3A13Z&Type=1&Version=2020-10-28",
	}
	_, _, err := verify(request, time.Date(2026, 11, 28, 13, 46, 13, 0, time.UTC), "")
	want := "Specified signature is not matched with our calculation. server string to sign is:GET&%2F&AccessKeyId%3Dtestak%26Action%3DCancelPushScheduler%26" +
		"AppId%3DONEX570DA89211721%26Format%3DJSON%26SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D1%26SignatureType%3D%26SignatureVersion%3D1.0%26" +
		"Timestamp%3D2026-11-28T13%253A46%253A13Z%26Type%3D1%26Version%3D2020-10-28"
	if err == nil || err.Status != 400 || err.Message != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestSecurityToken(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 13, 46, 13, 0, time.UTC)
	for _, tt := range []struct{ sent, key, want string }{
		{"sts-token+/=", "sts-token+/=", ""},
		{"", "sts-token+/=", "InvalidSecurityToken.MismatchWithAccessKey"},
		{"other", "sts-token+/=", "InvalidSecurityToken.MismatchWithAccessKey"},
		{"sts-token+/=", "", ""}, // a lasting key takes no notice
	} {
		request := signV1(url.Values{
			"AccessKeyId": {"testak"}, "Action": {"PushSimple"}, "Version": {"2020-10-28"}, "SecurityToken": {tt.sent}, "SignatureNonce": {"n"},
			"SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"}, "Timestamp": {"2026-11-28T13:46:13Z"},
		})
		_, _, err := verify(request, now, tt.key)
		if (err == nil) != (tt.want == "") || err != nil && err.Code != tt.want {
			t.Errorf("sent %q to a key with %q: %v, want %q", tt.sent, tt.key, err, tt.want)
		}
	}
}

// signV1 signs a GET the plain way.
func signV1(form url.Values) *aliyun.Request {
	encode := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%7E", "~")
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(form)) {
		pairs = append(pairs, encode(name)+"="+encode(form.Get(name)))
	}
	mac := hmac.New(sha1.New, []byte("testsk&"))
	mac.Write([]byte("GET&%2F&" + encode(strings.Join(pairs, "&"))))
	form.Set("Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return &aliyun.Request{Method: "GET", Path: "/", Query: form.Encode(), Header: func(string) []string { return nil }}
}

func TestListsAndMaps(t *testing.T) {
	t.Parallel()
	params := aliyun.Params{
		{"A.1.T", "one"},
		{"A.10.T", "ten"},
		{"A.2.K.x", "1"},
		{"A.2.K.y.z", "2"},
		{"A.2.T", "two"},
		{"D.a.1", "p"},
		{"D.a.2", "q"},
		{"D.b", "r"},
		{"J", `{"k":1}`},
		{"L.01.T", "x"},
		{"M.0.T", "x"},
		{"N.x", "1"},
		{"N.x.y", "2"},
		{"O", "1"},
		{"O.x", "2"},
	}
	items, err := params.List("A")
	want := []aliyun.Item{
		{1, map[string]string{"T": "one"}},
		{2, map[string]string{"T": "two", "K": `{"x":"1","y.z":"2"}`}},
		{10, map[string]string{"T": "ten"}},
	}
	if diff := cmp.Diff(want, items); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for name, want := range map[string][2]string{ // as a map of texts, as an object of any depth
		"D": {`{"a.1":"p","a.2":"q","b":"r"}`, `{"a":["p","q"],"b":"r"}`}, "J": {`{"k":1}`, `{"k":1}`}, "none": {}, "D.b": {"r", "r"},
		"N": {`{"x":"1","x.y":"2"}`, ""}, "O": {},
	} {
		flat, err1 := params.Map(name)
		deep, err2 := params.Tree(name)
		if flat != want[0] || deep != want[1] || (err1 != nil) != (name == "O") || (err2 != nil) != (name == "O" || name == "N") {
			t.Errorf("%s: got %s, %v and %s, %v, want %s", name, flat, err1, deep, err2, want)
		}
	}
	for _, name := range []string{"L", "M"} {
		if got, err := params.List(name); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("Action=PushSimple&a.1.b=c", "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=b;c,Signature=d", "x=%7E+y")
	f.Fuzz(func(t *testing.T, query, authorization, body string) {
		for _, header := range []map[string][]string{{"authorization": {authorization}}, {}} {
			header["content-type"] = []string{"application/x-www-form-urlencoded"}
			request := &aliyun.Request{Method: "POST", Path: "/", Query: query, Body: []byte(body), Header: func(name string) []string { return header[name] }}
			call, err := aliyun.Decode(request)
			if call == nil {
				t.Fatal("no call")
			}
			if err == nil {
				_, _ = call.Verify(find(""), time.Now())
				if params, err := call.Params(); err == nil {
					_, _ = params.List("a")
					_, _ = params.Map("a")
					_, _ = params.Tree("a")
				}
			}
		}
	})
}

// The new generation of clients signs the names of a query as they are, and writes
// them percent-encoded: dotted maps have names that differ.
func TestNamesOfAQueryAreSignedAsTheyAre(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 13, 46, 13, 0, time.UTC)
	for _, tt := range []struct {
		name, query, canonical string
		good                   bool
	}{
		{"encoded", "TargetMsgkey.a%40b.com=k%201", "TargetMsgkey.a%40b.com=k%201", true},
		{"as it is", "TargetMsgkey.a%40b.com=k%201", "TargetMsgkey.a@b.com=k%201", true},
		{"unicode", "M.%E7%94%A8=1&N=", "M.用=1&N=", true},
		{"stars", "M.%2A%2B%20~=1", "M.%2A%20 ~=1", true},
		{"another name", "TargetMsgkey.a%40c.com=1", "TargetMsgkey.a@b.com=1", false},
		{"two parameters for one", "%E7=1%26b=2", "\xe7=1&b=2", false},
		{"one parameter for two", "%E7%3D1%26b=2", "\xe7=1&b=2", false},
		{"a name that is encoded itself", "a%2540=1", "a%40=1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := verify(signACS3(tt.query, tt.canonical), now, ""); (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

// signACS3 signs a POST without a body, whose query has a canonical form that the
// client has made.
func signACS3(query, canonical string) *aliyun.Request {
	const names = "x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	empty := fmt.Sprintf("%x", sha256.Sum256(nil))
	header := map[string][]string{
		"x-acs-action": {"PushSimple"}, "x-acs-content-sha256": {empty}, "x-acs-date": {"2026-11-28T13:46:13Z"}, "x-acs-signature-nonce": {"n"},
		"x-acs-version": {"2020-10-28"},
	}
	text := "POST\n/\n" + canonical + "\n"
	for name := range strings.SplitSeq(names, ";") {
		text += name + ":" + header[name][0] + "\n"
	}
	text += "\n" + names + "\n" + empty
	mac := hmac.New(sha256.New, []byte("testsk"))
	fmt.Fprintf(mac, "ACS3-HMAC-SHA256\n%x", sha256.Sum256([]byte(text)))
	header["authorization"] = []string{fmt.Sprintf("ACS3-HMAC-SHA256 Credential=testak,SignedHeaders=%s,Signature=%x", names, mac.Sum(nil))}
	return &aliyun.Request{Method: "POST", Path: "/", Query: query, Header: func(name string) []string { return header[name] }}
}

// A form that comes without a Content-Type is read as one; what says that it is
// something else is not.
func TestBodyWithoutContentType(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 13, 46, 13, 0, time.UTC)
	for kind, good := range map[string]bool{"": true, "application/x-www-form-urlencoded": true, "Application/X-WWW-form-urlencoded; charset=UTF-8": true, "application/json": false} {
		signed := signV1(url.Values{
			"AccessKeyId": {"testak"}, "Action": {"PushSimple"}, "Version": {"2020-10-28"}, "SignatureNonce": {"n"},
			"SignatureMethod": {"HMAC-SHA1"}, "SignatureVersion": {"1.0"}, "Timestamp": {"2026-11-28T13:46:13Z"},
		})
		signed.Query, signed.Body = "", []byte(signed.Query) // GET with a body, too
		if kind != "" {
			signed.Header = func(name string) []string {
				if name == "content-type" {
					return []string{kind}
				}
				return nil
			}
		}
		if _, _, err := verify(signed, now, ""); (err == nil) != good {
			t.Errorf("%q: %v", kind, err)
		}
	}
}

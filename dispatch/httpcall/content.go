package httpcall

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"io"
	"slices"
	"strings"
)

// byteOrderMark is U+FEFF in UTF-8. Some programs put it before their JSON.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Text returns the body without a byte order mark and without spaces around it,
// as a JSON reader wants it. Body itself stays as it came, since a signature may
// cover it.
func (a *Answer) Text() []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(a.Body, byteOrderMark))
}

// decode undoes the content encodings that an answer names although the request
// asked for none. A body that cannot be decoded stays as it came: an adapter
// that needs to read it takes it for an answer that cannot be read.
func (a *Answer) decode() {
	if a.TooLong || len(a.Body) == 0 {
		return
	}
	encodings := strings.Split(strings.Join(a.Header.Values("Content-Encoding"), ","), ",")
	body, tooLong := a.Body, false
	for _, encoding := range slices.Backward(encodings) { // the last one was applied last
		var r io.Reader
		var err error
		switch strings.ToLower(strings.TrimSpace(encoding)) {
		case "", "identity":
			continue
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(bytes.NewReader(body))
		case "deflate":
			r, err = zlib.NewReader(bytes.NewReader(body))
		default:
			return
		}
		if err != nil {
			return
		}
		// The bound is that of a plain body: a small one may unfold to gigabytes.
		if body, err = io.ReadAll(io.LimitReader(r, MaxAnswer+1)); err != nil {
			return
		}
		if tooLong = len(body) > MaxAnswer; tooLong {
			body = body[:MaxAnswer]
			break
		}
	}
	a.Body, a.TooLong = body, tooLong
}

// A Word is a member of an answer whose type providers do not agree on: the
// text of a string, the literal of a number (digit by digit, also beyond 2^53)
// or boolean, the JSON text of a list or object, and nothing for null.
type Word string

// UnmarshalJSON never fails, so that one odd member hides no other.
func (w *Word) UnmarshalJSON(b []byte) error {
	var s string
	switch {
	case string(b) == "null":
	case json.Unmarshal(b, &s) != nil:
		s = string(b)
	}
	*w = Word(s)
	return nil
}

package httpcall

import (
	"io"
	"net/http"
)

// readAnswer reads the rest of an answer whose header was read. With an error
// the answer is not whole.
func readAnswer(res *http.Response) (*Answer, error) {
	a := &Answer{Status: res.StatusCode, Header: res.Header}
	if res.StatusCode < 200 {
		// After "101 Switching Protocols" the body is the bare connection, and
		// reading it would outlast the call.
		return a, nil
	}
	b, err := readBody(res)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxAnswer {
		b, a.TooLong = b[:MaxAnswer], true
	}
	a.Body = b
	a.decode()
	return a, nil
}

// readBody reads one byte more than MaxAnswer, so that the caller can tell a
// body of just that length from a longer one.
func readBody(res *http.Response) ([]byte, error) {
	limited := io.LimitReader(res.Body, MaxAnswer+1)
	if n := res.ContentLength; n >= 0 && n <= 64<<10 {
		b := make([]byte, n)
		_, err := io.ReadFull(limited, b)
		return b, err
	}
	return io.ReadAll(limited)
}

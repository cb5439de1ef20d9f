package httpcall

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// roundTrip makes a call through a transport of somebody else's. GetBody is nil,
// which keeps net/http's own from repeating it.
func roundTrip(ctx context.Context, transport http.RoundTripper, r *Request) (*Answer, *Failure) {
	header := make(http.Header, len(r.Header))
	for _, f := range r.Header {
		header.Add(f.Name, f.Value)
	}
	header.Set("Accept-Encoding", "identity")
	req := &http.Request{
		Method:        http.MethodPost,
		URL:           r.URL,
		Host:          r.URL.Host,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(r.Body)),
		ContentLength: int64(len(r.Body)),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
	}
	res, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, unknown(err)
	}
	defer func() { _ = res.Body.Close() }()
	a, err := readAnswer(res)
	if err != nil {
		return nil, cutShort(err, res)
	}
	return a, nil
}

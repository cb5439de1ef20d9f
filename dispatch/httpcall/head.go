package httpcall

import (
	"fmt"
	"strconv"
	"strings"
)

// userAgent is what every call says of itself.
const userAgent = "campaign-scheduler"

// appendRequest appends the request as it is sent.
func appendRequest(b []byte, r *Request) []byte {
	b = append(append(b, "POST "...), r.URL.RequestURI()...)
	b = appendField(append(b, " HTTP/1.1\r\n"...), "Host", r.URL.Host)
	for _, f := range r.Header {
		b = appendField(b, f.Name, f.Value)
	}
	b = appendField(b, "User-Agent", userAgent)
	b = appendField(b, "Accept-Encoding", "identity")
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	return append(append(b, "\r\n\r\n"...), r.Body...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// checkHeader refuses what could not be sent as one header: a value with a line
// break would begin another. Names are the adapters' own and not in question.
func checkHeader(header []Field) error {
	for _, f := range header {
		for _, c := range []byte{'\n', '\r', 0} {
			if strings.IndexByte(f.Value, c) >= 0 {
				return fmt.Errorf("the header %s holds a line break or a NUL", f.Name)
			}
		}
	}
	return nil
}

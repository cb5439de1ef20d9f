package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/listen"
)

// The sandbox speaks HTTP/1.1 itself. net/http's server costs about as much per
// call as the daemon under test does. A stand-in that is the bottleneck would
// measure only itself.
const (
	maxHead = 64 << 10
	maxBody = 8 << 20
	// A connection without a request holds at most maxHead; it begins with usualBuf.
	usualBuf = 8 << 10
)

// A wireError says that a request is not HTTP as the sandbox understands it.
type wireError struct {
	status int
	text   string
}

func (e *wireError) Error() string { return e.text }

type header struct{ name, value []byte } // name in lower case

// A wire reads requests from one connection and writes their answers. The
// slices of a request point into its buffer and are valid until the next
// readHead.
type wire struct {
	conn     net.Conn
	bounds   listen.Config
	patience func(time.Duration) // bounds further reads
	bounded  bool                // ReadTimeout counts for this request
	sendBy   time.Time           // the bound of writes
	buf      []byte
	from, to int // buf[from:to] is read from the connection and not yet used
	out      []byte

	received time.Time // when the first byte of the request was seen
	method   []byte
	path     []byte
	query    []byte // without the question mark
	headers  []header
	body     []byte
	length   int64 // of the body; -1 when chunked
	expects  bool  // the client waits for 100 Continue
	last     bool  // the connection ends after this answer
}

func newWire(conn net.Conn, bounds listen.Config) *wire {
	return &wire{conn: conn, bounds: bounds, patience: func(time.Duration) {}, buf: make([]byte, usualBuf), out: make([]byte, 0, 1<<10)}
}

// readHead waits for a request and reads its head. It returns io.EOF when the
// client closed the connection between two requests.
func (w *wire) readHead(now func() time.Time) error {
	w.shrink()
	w.to = copy(w.buf, w.buf[w.from:w.to])
	w.from, w.body, w.headers, w.last, w.bounded = 0, nil, w.headers[:0], false, false
	if w.to > 0 {
		w.received = now()
	} else {
		w.patience(w.bounds.IdleTimeout)
	}
	searched := 0
	for {
		if i := bytes.Index(w.buf[searched:w.to], []byte("\r\n\r\n")); i >= 0 {
			end := searched + i
			w.from = end + 4
			return w.parseHead(w.buf[:end])
		}
		searched = max(0, w.to-3)
		if w.to >= maxHead {
			return &wireError{http.StatusRequestHeaderFieldsTooLarge, "the head of the request is too large"}
		}
		first := w.to == 0
		if err := w.fill(w.to + 1); err != nil {
			if first && errors.Is(err, io.ErrUnexpectedEOF) {
				return io.EOF
			}
			return err
		}
		if first {
			w.received = now()
		}
	}
}

// shrink gives back the memory of a large request.
func (w *wire) shrink() {
	if len(w.buf) > maxHead && w.to-w.from <= maxHead {
		w.buf = append(make([]byte, 0, maxHead), w.buf[w.from:w.to]...)[:maxHead]
		w.from, w.to = 0, w.to-w.from
	}
}

// fill reads until at least n bytes are in the buffer. The buffer grows with the
// bytes that have come, and not with the number that a header announces. A request
// that came in one piece never needs ReadTimeout.
func (w *wire) fill(n int) error {
	for w.to < n {
		if w.to > 0 && !w.bounded {
			w.bounded = true
			w.patience(w.bounds.ReadTimeout)
		}
		if w.to == len(w.buf) {
			w.buf = append(w.buf, make([]byte, len(w.buf))...)
		}
		m, err := w.conn.Read(w.buf[w.to:])
		w.to += m
		if err != nil && w.to < n {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (w *wire) parseHead(head []byte) error {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	method, line, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(line, []byte(" "))
	if !ok1 || !ok2 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return &wireError{http.StatusBadRequest, "not an HTTP/1.1 request"}
	}
	w.method = method
	w.path, w.query, _ = bytes.Cut(target, []byte("?"))
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || name[0] <= ' ' || name[len(name)-1] <= ' ' {
			return &wireError{http.StatusBadRequest, "a header line without a name, or with a space beside it"}
		}
		lower(name)
		w.headers = append(w.headers, header{name, bytes.TrimSpace(value)})
	}
	return w.parseFraming(bytes.Equal(version, []byte("HTTP/1.0")))
}

// parseFraming finds out where the body ends and whether the connection stays.
func (w *wire) parseFraming(old bool) error {
	w.length, w.expects = 0, false
	for _, name := range []string{"host", "content-length", "transfer-encoding"} {
		if w.count(name) > 1 {
			return &wireError{http.StatusBadRequest, "the header " + name + " stands twice"}
		}
	}
	w.last = old || bytes.EqualFold(w.header("connection"), []byte("close"))
	w.expects = bytes.EqualFold(w.header("expect"), []byte("100-continue"))
	if v := w.header("content-length"); v != nil {
		n, err := strconv.ParseUint(string(v), 10, 63)
		if err != nil {
			return &wireError{http.StatusBadRequest, "content-length is not a number"}
		}
		w.length = int64(n) //nolint:gosec // it has 63 bits
	}
	if v := w.header("transfer-encoding"); v != nil {
		if !bytes.EqualFold(v, []byte("chunked")) {
			return &wireError{http.StatusNotImplemented, "the only transfer encoding is chunked"}
		}
		if w.header("content-length") != nil {
			return &wireError{http.StatusBadRequest, "a body has a content-length or a transfer-encoding, not both"}
		}
		w.length = -1
	}
	if w.length > maxBody {
		return &wireError{http.StatusRequestEntityTooLarge, "the body is too large"}
	}
	return nil
}

// header returns the first value of a header given in lower case, or nil.
func (w *wire) header(name string) []byte {
	for i := range w.headers {
		if string(w.headers[i].name) == name {
			return w.headers[i].value
		}
	}
	return nil
}

func (w *wire) count(name string) (n int) {
	for i := range w.headers {
		if string(w.headers[i].name) == name {
			n++
		}
	}
	return n
}

// readBody reads the body that readHead announced.
func (w *wire) readBody() error {
	if w.expects {
		if _, err := io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return err
		}
	}
	if w.length < 0 {
		return w.readChunks()
	}
	end := w.from + int(w.length)
	if err := w.fill(end); err != nil {
		return err
	}
	w.body, w.from = w.buf[w.from:end:end], end
	return nil
}

// readChunks reads a chunked body. Such bodies are rare, so it is simple: bytes
// after the body are lost in the reader, so that the connection ends
// afterwards.
func (w *wire) readChunks() error {
	r := httputil.NewChunkedReader(io.MultiReader(bytes.NewReader(w.buf[w.from:w.to]), w.conn))
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return fmt.Errorf("read chunked body: %w", err)
	}
	if len(body) > maxBody {
		return &wireError{http.StatusRequestEntityTooLarge, "the body is too large"}
	}
	w.body, w.from, w.to, w.last = body, 0, 0, true
	return nil
}

// An answer is the sandbox's answer to one request.
type answer struct {
	status int
	kind   string // the content type
	extra  []byte // further header lines, each ending in \r\n
	body   []byte
}

func (a *answer) reset() {
	a.status, a.kind, a.extra, a.body = http.StatusOK, "application/json;charset=utf-8", a.extra[:0], a.body[:0]
}

func (a *answer) header(name, value string) {
	a.extra = append(a.extra, name...)
	a.extra = append(a.extra, ": "...)
	a.extra = append(a.extra, value...)
	a.extra = append(a.extra, "\r\n"...)
}

// write sends an answer in one system call.
func (w *wire) write(a *answer) error {
	b := append(w.out[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(a.status)...)
	b = append(b, "\r\nContent-Type: "...)
	b = append(b, a.kind...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(a.body)), 10)
	b = append(b, "\r\n"...)
	b = append(b, a.extra...)
	if w.last {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	b = append(b, a.body...)
	w.out = b
	return w.send(b)
}

// send writes within the time that an answer may take.
func (w *wire) send(b []byte) error {
	// The bound is set anew once half of it is over, since each setting stops a timer
	// and starts another.
	if now := time.Now(); w.sendBy.Sub(now) < w.bounds.WriteTimeout/2 {
		w.sendBy = now.Add(w.bounds.WriteTimeout)
		if err := w.conn.SetWriteDeadline(w.sendBy); err != nil {
			return err
		}
	}
	_, err := w.conn.Write(b)
	return err
}

// Write makes a wire an io.Writer, for answers that are sent piece by piece.
func (w *wire) Write(b []byte) (int, error) {
	if err := w.send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// cut ends the connection with a reset and no answer, as a broken network does.
func (w *wire) cut() {
	if tcp, ok := w.conn.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = w.conn.Close()
}

func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// A param is one pair of a form, decoded.
type param struct{ name, value []byte }

// parseForm decodes a form body in place, so that nothing is copied: a decoded
// value is never longer than its encoding. It appends to params, and reports
// false when an escape is malformed.
func parseForm(body []byte, params []param) ([]param, bool) {
	for len(body) > 0 {
		var pair []byte
		pair, body, _ = bytes.Cut(body, []byte("&"))
		if len(pair) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(pair, []byte("="))
		n, ok1 := unescape(name)
		v, ok2 := unescape(value)
		if !ok1 || !ok2 {
			return params, false
		}
		params = append(params, param{n, v})
	}
	return params, true
}

func unescape(b []byte) ([]byte, bool) {
	to := bytes.IndexAny(b, "%+")
	if to < 0 {
		return b, true
	}
	for from := to; from < len(b); from++ {
		c := b[from]
		switch c {
		case '+':
			c = ' '
		case '%':
			if from+2 >= len(b) {
				return nil, false
			}
			hi, lo := unhex(b[from+1]), unhex(b[from+2])
			if hi > 15 || lo > 15 {
				return nil, false
			}
			c = hi<<4 | lo
			from += 2
		}
		b[to] = c
		to++
	}
	return b[:to], true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

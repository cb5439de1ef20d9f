package sandbox_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/campaign-scheduler/scheduler/internal/sandbox"
)

// BenchmarkCalls drives signed PushMultiple calls through keep-alive
// connections with a client that does as little as can be, so that calls/s is
// about the sandbox. Client and sandbox share the machine.
func BenchmarkCalls(b *testing.B) {
	for _, detail := range []sandbox.Detail{sandbox.Full, sandbox.Brief, sandbox.Off} {
		for _, targets := range []int{1, 100} {
			b.Run(fmt.Sprintf("journal=%s/targets=%d", detail, targets), func(b *testing.B) {
				sb := setup(b, func(c *sandbox.Config) {
					c.JournalPath, c.JournalDetail = filepath.Join(b.TempDir(), "journal"), detail
				})
				body := []byte(multiple(targets).Encode())
				var nonce atomic.Int64
				const connections = 16
				b.SetParallelism(connections / 2)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					c := dialBench(b, sb.Addr(), body)
					defer c.conn.Close()
					for pb.Next() {
						c.call(b, nonce.Add(1))
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
				if s := sb.Stats(); s.Accepted != uint64(b.N) {
					b.Fatalf("%d of %d calls accepted", s.Accepted, b.N)
				}
			})
		}
	}
}

// benchClient signs and sends one call at a time from one buffer.
type benchClient struct {
	conn  net.Conn
	r     *bufio.Reader
	body  []byte
	sum   string
	host  string
	buf   []byte
	canon []byte
}

func dialBench(b *testing.B, addr string, body []byte) *benchClient {
	b.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	return &benchClient{conn: conn, r: bufio.NewReader(conn), body: body, sum: hexSum(string(body)), host: addr}
}

const benchNames = "content-type;host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"

func (c *benchClient) call(b *testing.B, nonce int64) {
	b.Helper()
	headers := c.headers(nonce)
	c.canon = append(c.canon[:0], "POST\n/\n\n"...)
	c.canon = append(c.canon, headers...)
	c.canon = append(c.canon, '\n')
	c.canon = append(c.canon, benchNames+"\n"...)
	c.canon = append(c.canon, c.sum...)
	sum := sha256.Sum256(c.canon)
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(sum[:])))
	c.buf = append(c.buf[:0], "POST / HTTP/1.1\r\n"...)
	c.buf = append(c.buf, bytes.ReplaceAll(headers, []byte("\n"), []byte("\r\n"))...)
	c.buf = fmt.Appendf(c.buf, "authorization: ACS3-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%x\r\ncontent-length: %d\r\n\r\n",
		testKeyID, benchNames, mac.Sum(nil), len(c.body))
	c.buf = append(c.buf, c.body...)
	if _, err := c.conn.Write(c.buf); err != nil {
		b.Error(err)
		return
	}
	c.readAnswer(b)
}

func (c *benchClient) headers(nonce int64) []byte {
	return fmt.Appendf(nil, "content-type:application/x-www-form-urlencoded\nhost:%s\nx-acs-action:PushMultiple\n"+
		"x-acs-content-sha256:%s\nx-acs-date:%s\nx-acs-signature-nonce:%d\nx-acs-version:2020-10-28\n",
		c.host, c.sum, time.Now().UTC().Format("2006-01-02T15:04:05Z"), nonce)
}

func (c *benchClient) readAnswer(b *testing.B) {
	b.Helper()
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			b.Error(err)
			return
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
		}
		if len(line) == 2 {
			break
		}
	}
	if _, err := c.r.Discard(length); err != nil && err != io.EOF {
		b.Error(err)
	}
}

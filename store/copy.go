package store

import (
	"encoding/binary"
	"time"
)

// A copyBuffer builds the binary form of COPY, which is the cheapest way to
// store many rows: PostgreSQL neither parses nor plans per row, and writes whole
// pages. A field is its length and its binary form, as PostgreSQL's own
// documents of COPY and of each type's receive function describe them.
type copyBuffer struct{ b []byte }

func newCopyBuffer(size int) *copyBuffer {
	c := &copyBuffer{b: make([]byte, 0, size)}
	c.b = append(c.b, "PGCOPY\n\xff\r\n\x00"...)
	c.b = append(c.b, 0, 0, 0, 0, 0, 0, 0, 0) // no flags, no header extension
	return c
}

// row begins a row.
func (c *copyBuffer) row(fields int16) { c.b = binary.BigEndian.AppendUint16(c.b, uint16(fields)) }

// end completes the buffer.
func (c *copyBuffer) end() []byte { return append(c.b, 0xff, 0xff) }

func (c *copyBuffer) null() { c.b = append(c.b, 0xff, 0xff, 0xff, 0xff) }

func (c *copyBuffer) int64(v int64) {
	c.b = binary.BigEndian.AppendUint32(c.b, 8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(v))
}

func (c *copyBuffer) int32(v int32) {
	c.b = binary.BigEndian.AppendUint32(c.b, 4)
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(v))
}

func (c *copyBuffer) int16(v int16) {
	c.b = binary.BigEndian.AppendUint32(c.b, 2)
	c.b = binary.BigEndian.AppendUint16(c.b, uint16(v))
}

// text writes a text or a label of an enum.
func (c *copyBuffer) text(v string) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(v)))
	c.b = append(c.b, v...)
}

// textOrNull writes NULL for an empty text.
func (c *copyBuffer) textOrNull(v string) {
	if v == "" {
		c.null()
		return
	}
	c.text(v)
}

// epoch is the zero of PostgreSQL's timestamps, which count microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *copyBuffer) time(t time.Time) { c.int64(t.UnixMicro() - epoch.UnixMicro()) }

// timeOrNull writes NULL for the zero time.
func (c *copyBuffer) timeOrNull(t time.Time) {
	if t.IsZero() {
		c.null()
		return
	}
	c.time(t)
}

const textOID = 25

// texts writes a text[].
func (c *copyBuffer) texts(list []string) {
	at := len(c.b)
	c.b = append(c.b, 0, 0, 0, 0) // the length, once it is known
	dimensions := min(len(list), 1)
	for _, v := range []uint32{uint32(dimensions), 0, textOID} {
		c.b = binary.BigEndian.AppendUint32(c.b, v)
	}
	if dimensions > 0 {
		c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(list)))
		c.b = binary.BigEndian.AppendUint32(c.b, 1) // the lower bound
	}
	for _, v := range list {
		c.text(v)
	}
	binary.BigEndian.PutUint32(c.b[at:], uint32(len(c.b)-at-4))
}

package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"
)

// ids makes the identifiers in answers: unique over restarts by a random
// prefix, cheap by a counter.
type ids struct {
	prefix string
	next   atomic.Uint64
}

func newIDs() *ids {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return &ids{prefix: hex.EncodeToString(b[:])}
}

// append appends an identifier of 32 hexadecimal digits.
func (i *ids) append(b []byte) []byte {
	b = append(b, i.prefix...)
	const width = 16
	n := strconv.AppendUint(make([]byte, 0, width), i.next.Add(1), 16)
	for range width - len(n) {
		b = append(b, '0')
	}
	return append(b, n...)
}

func (i *ids) make() string { return string(i.append(nil)) }

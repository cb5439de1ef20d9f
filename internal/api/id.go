package api

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// An id names a campaign, or one of its occurrences, to clients, in 32 hexadecimal
// digits. It needs no table and is the same on every daemon, since it holds the
// campaign's number and the due time. They are encrypted, so that nobody relies on
// their form; the key is no secret. The database decides who may see what.
type id struct {
	campaign int64
	due      time.Time // zero: the campaign
}

var idCipher = func() cipher.Block {
	block, err := aes.NewCipher([]byte("scheduler api id"))
	if err != nil {
		panic(err)
	}
	return block
}()

// idMark makes it unlikely that other digits are taken for an id.
const idMark = 0xc5

func (i id) String() string {
	var b [aes.BlockSize]byte
	b[0] = idMark
	binary.BigEndian.PutUint64(b[1:9], uint64(i.campaign))
	if !i.due.IsZero() {
		seconds := uint64(i.due.Unix())
		b[9] = 1
		b[10], b[11] = byte(seconds>>40), byte(seconds>>32)
		binary.BigEndian.PutUint32(b[12:], uint32(seconds))
	}
	idCipher.Encrypt(b[:], b[:])
	return hex.EncodeToString(b[:])
}

// parseID reads an id; false: the text is no id.
func parseID(text string) (id, bool) {
	var b [aes.BlockSize]byte
	raw, err := hex.DecodeString(strings.ToLower(text))
	if err != nil || len(raw) != len(b) {
		return id{}, false
	}
	idCipher.Decrypt(b[:], raw)
	out := id{campaign: int64(binary.BigEndian.Uint64(b[1:9]))}
	if b[9] == 1 {
		seconds := int64(b[10])<<40 | int64(b[11])<<32 | int64(binary.BigEndian.Uint32(b[12:]))
		out.due = time.Unix(seconds, 0).UTC()
	}
	return out, b[0] == idMark && b[9] <= 1 && out.campaign > 0 && out.String() == hex.EncodeToString(raw)
}

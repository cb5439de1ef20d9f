package engine

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"time"
)

// MsgKey names one message to one target: the same for every attempt, another
// for every occurrence. With a key of the author's own it is that key, the
// campaign and the occurrence; else campaign, occurrence and a hash of the
// target, which may be a person's id. target is empty for pushes without one.
func MsgKey(campaignID int64, due time.Time, target, author string) string {
	b := make([]byte, 0, 64)
	if author != "" {
		b = append(append(b, author...), '-')
	} else {
		b = append(b, 'c')
	}
	b = strconv.AppendInt(b, campaignID, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, due.UnixMicro(), 36)
	if author == "" && target != "" {
		sum := sha256.Sum256([]byte(target))
		b = append(b, '-')
		b = keyEncoding.AppendEncode(b, sum[:10])
	}
	return string(b)
}

var keyEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// deliveryID names one delivery in every attempt: at most 32 characters of
// [0-9a-z-].
func deliveryID(taskID int64, slice int32) string {
	b := strconv.AppendInt([]byte{'t'}, taskID, 36)
	b = append(b, '-')
	return string(strconv.AppendInt(b, int64(slice), 36))
}

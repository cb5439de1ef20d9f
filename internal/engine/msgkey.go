package engine

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"time"

	"github.com/campaign-scheduler/scheduler/store"
)

// Keys name messages and deliveries to the push APIs: the same for every attempt,
// and never the same for two messages of two installations.
type Keys struct {
	Installation string // at most 10 characters of [0-9a-f]
	// What was sent before the installation had a key goes on without: campaigns and
	// tasks up to these numbers.
	Campaigns, Tasks int64
}

func keysOf(k store.Keys) Keys {
	return Keys{Installation: k.Installation, Campaigns: k.Campaigns, Tasks: k.Tasks}
}

// Message names one message to one target: another for every occurrence. With a
// key of the author's own it is that key, the campaign and the occurrence; else
// campaign, occurrence and a hash of the target, which may be a person's id.
// target is empty for pushes without one.
func (k Keys) Message(campaignID int64, due time.Time, target, author string) string {
	b := make([]byte, 0, 80)
	if author != "" {
		b = append(append(b, author...), '-')
	} else {
		b = append(b, 'c')
	}
	b = strconv.AppendInt(b, campaignID, 10)
	if campaignID > k.Campaigns && k.Installation != "" {
		b = append(append(b, 'i'), k.Installation...)
	}
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

// Delivery names one delivery in every attempt: at most 32 characters of
// [0-9a-z-].
func (k Keys) Delivery(taskID int64, slice int32) string {
	b := strconv.AppendInt([]byte{'t'}, taskID, 36)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(slice), 36)
	if taskID > k.Tasks && k.Installation != "" {
		b = append(append(b, '-'), k.Installation...)
	}
	return string(b)
}

// msgKey names one of the campaign's messages.
func (v *compiled) msgKey(due time.Time, target, author string) string {
	return v.keys.Message(v.campaign.ID, due, target, author)
}

// deliveryID names one of the campaign's deliveries.
func (v *compiled) deliveryID(taskID int64, slice int32) string {
	return v.keys.Delivery(taskID, slice)
}

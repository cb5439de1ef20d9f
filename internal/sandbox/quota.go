package sandbox

import (
	"slices"
	"sync"
	"time"
)

const week = 7 * 24 * time.Hour

// quota counts accepted sends in any rolling week, by interface and app. The
// documents do not say what a week is; the strictest reading is used.
type quota struct {
	limit int // negative: none

	mu       sync.Mutex
	sends    map[quotaKey][]time.Time
	messages []string // ids that can be recalled, the oldest first
}

type quotaKey struct {
	api api
	app string
}

// maxMessages bounds how many messages can be recalled.
const maxMessages = 10_000

func newQuota(limit int) *quota { return &quota{limit: limit, sends: map[quotaKey][]time.Time{}} }

// take uses one send, or reports false when the week's are used up.
func (q *quota) take(api api, app []byte, now time.Time) bool {
	if q.limit < 0 {
		return true
	}
	key := quotaKey{api, string(app)}
	q.mu.Lock()
	defer q.mu.Unlock()
	recent := slices.DeleteFunc(q.sends[key], func(t time.Time) bool { return now.Sub(t) >= week })
	free := len(recent) < q.limit
	if free {
		recent = append(recent, now)
	}
	q.sends[key] = recent
	return free
}

// add counts a send of an earlier run.
func (q *quota) add(api api, app string, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := quotaKey{api, app}
	q.sends[key] = append(q.sends[key], at)
}

func (q *quota) issued(message string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.messages) >= maxMessages {
		q.messages = slices.Delete(q.messages, 0, maxMessages/2)
	}
	q.messages = append(q.messages, message)
}

// recall takes a message back, once.
func (q *quota) recall(message string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.messages, message)
	if i < 0 {
		return false
	}
	q.messages = slices.Delete(q.messages, i, i+1)
	return true
}

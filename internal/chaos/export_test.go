//go:build linux

package chaos

import "time"

// ParseKey reads a message key's campaign and due time, in microseconds.
func ParseKey(key string) (campaign, due int64, ok bool) {
	o, ok := parseKey(key)
	return o.campaign, o.due, ok
}

// Ahead sets a clock at the given moments and returns what it was ahead at
// another.
func Ahead(moments []time.Time, settings []time.Duration, at time.Time) (least, most time.Duration) {
	c := &clock{}
	for i := range moments {
		c.history = append(c.history, setting{moments[i], settings[i]})
	}
	return c.ahead(at)
}

// WallEdits are the changes that give a daemon a wall clock of its own.
var WallEdits = wallEdits

//go:build linux

package chaos

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/engine"
)

// The oracle ties a call to its occurrence by the message keys of the journal.
func TestKeysNameTheirOccurrence(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		campaign := rapid.Int64Range(1, 1<<40).Draw(t, "campaign")
		due := time.UnixMicro(rapid.Int64Range(1, 1<<52).Draw(t, "due"))
		keys := engine.Keys{Installation: rapid.StringMatching(`([0-9a-f]{10})?`).Draw(t, "installation")}
		key := keys.Message(campaign, due, rapid.String().Draw(t, "target"), rapid.StringMatching(`(k[0-9]{1,5})?`).Draw(t, "author"))
		if o, ok := parseKey(key); !ok || o.campaign != campaign || o.due != due.UnixMicro() {
			t.Fatalf("%s is of campaign %d at %d, read %d at %d, %v", key, campaign, due.UnixMicro(), o.campaign, o.due, ok)
		}
	})
}

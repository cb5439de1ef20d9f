package mpaas

import (
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch/spelling"
)

// nearest returns the documents' name of the parameter most like what the author
// wrote, or "" when none is near.
func nearest(wrote string, table []param, a action) string {
	best, least := "", 1+max(1, len(wrote)/3)
	for i := range table {
		p := &table[i]
		if !p.in.has(a) {
			continue
		}
		for _, name := range []string{p.docName(), p.wire} {
			if d := spelling.Distance(plain(wrote), plain(name)); d < least {
				best, least = p.docName(), d
			}
		}
	}
	return best
}

// plain strips what spellings of one name differ by: expired_seconds.
func plain(name string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
}

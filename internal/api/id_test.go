package api

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestIDsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		in := id{campaign: rapid.Int64Min(1).Draw(r, "campaign")}
		if rapid.Bool().Draw(r, "occurrence") {
			in.due = time.Unix(rapid.Int64Range(1, 253402300799).Draw(r, "due"), 0).UTC()
		}
		text := in.String()
		if out, ok := parseID(text); !ok || out != in || len(text) != 32 {
			r.Fatalf("%v became %s became %v, %v", in, text, out, ok)
		}
	})
	for _, bad := range []string{"", "0", "00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff", "zz"} {
		if out, ok := parseID(bad); ok {
			t.Errorf("%q is taken for %v", bad, out)
		}
	}
}

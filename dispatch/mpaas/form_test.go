package mpaas_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"testing"

	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

// Escaping is url.QueryEscape's, of which the official SDK's is a use.
func TestEscape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		if got, want := mpaas.Escape(s), url.QueryEscape(s); got != want {
			t.Fatalf("%q: got %s, want %s", s, got, want)
		}
	})
}

// A JSON object is escaped as if it had been compacted before, and its members
// are counted.
func TestEscapeJSON(t *testing.T) {
	t.Parallel()
	values := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.String(), anything[string]), rapid.Map(rapid.Int(), anything[int]),
		rapid.Map(rapid.SliceOf(rapid.StringMatching(`["\\:,{} \[\]]*`)), anything[[]string]),
		rapid.Map(rapid.MapOf(rapid.String(), rapid.Bool()), anything[map[string]bool]),
	)
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOf(rapid.String(), values).Draw(t, "object")
		raw, err := json.MarshalIndent(object, " ", "\t ")
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			t.Fatal(err)
		}
		got, n := mpaas.EscapeJSON(raw)
		if want := url.QueryEscape(compact.String()); got != want || n != len(object) {
			t.Fatalf("%s: got %s with %d members, want %s with %d", raw, got, n, want, len(object))
		}
	})
}

func anything[T any](v T) any { return v }

package main

import "testing"

func TestReasonInWords(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"":                         "",
		"quota":                    "the weekly quota is used up",
		"waits for quota":          "waits until the weekly quota frees up",
		"refused: 40004: no, it's": "refused by the push API (40004: no, it's)",
		"not sent within the catch-up window: connect: no route": "not sent within the catch-up window: no connection to the push API (no route)",
		"campaign cancelled": "campaign cancelled",
	} {
		if got := reasonInWords(reason); got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
	}
}

package main

import "strings"

// words are what the short reasons of a call's outcome mean; quota is also why
// a task waits. Whatever else is stored as a reason is words already.
var words = map[string]string{
	"connect":         "no connection to the push API",
	"throttled":       "the push API limits the rate",
	"quota":           "the weekly quota is used up",
	"waits for quota": "waits until the weekly quota frees up",
	"refused":         "refused by the push API",
	"auth":            "the push API refused the signature or the credentials",
	"invalid":         "the request cannot be pushed",
	"timeout":         "no answer in time; it may have been pushed",
	"cut":             "the connection broke before the answer; it may have been pushed",
	"cancelled":       "given up before it was sent",
	"server error":    "the push API failed; it may have been pushed",
	"redirect":        "the push API's address redirects, which is not followed",
	"bad answer":      "the answer cannot be read; it may have been pushed",
	"bad signature":   "the answer's signature is wrong; it may have been pushed",
}

// tooLate begins the reason of what was given up after attempts.
const tooLate = "not sent within the catch-up window: "

// reasonInWords writes a stored reason for people. It is "reason", "reason:
// code" or "reason: code: message"; what comes after the first part is kept.
func reasonInWords(reason string) string {
	if last, ok := strings.CutPrefix(reason, tooLate); ok {
		return tooLate + reasonInWords(last)
	}
	head, rest, more := strings.Cut(reason, ": ")
	text, known := words[head]
	switch {
	case !known:
		return reason
	case !more:
		return text
	}
	return text + " (" + rest + ")"
}

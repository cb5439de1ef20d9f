package config

import (
	"fmt"
	"io"
	"log/slog"
)

// placeholder stands wherever a secret would have been printed.
const placeholder = "[secret]"

// A Secret is a value that must not be seen: it prints as a placeholder in
// fmt, slog, JSON and YAML, so that printing a whole Config is always safe. An
// empty Secret prints as nothing, which tells "not set" from "set".
type Secret string

// Reveal returns the value itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String returns the placeholder.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return placeholder
}

// Format prints the placeholder whatever the verb: %x and %q would otherwise
// print the string beneath.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue gives slog the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText gives encoders of JSON and YAML the placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

package strategy

import "strings"

// A Problem is one reason to refuse a Spec.
type Problem struct {
	// Field is a key of StrategyContent such as "circleValue", or a column:
	// strategy_type, strategy_content (as a whole), time_zone,
	// short_month_policy, dst_gap_policy, catch_up_window, times or
	// calendar_policy.
	Field string
	// Message is the rule, worded to follow the field: "must not be empty".
	Message string
	// Value is what stands there now, cut to 80 characters; JSON values are
	// shown as JSON. Empty when nothing does.
	Value string
	// Hint says how to fix it.
	Hint string
}

// Error returns the field and its rule.
func (p Problem) Error() string { return p.Field + " " + p.Message }

// Problems is everything wrong with a Spec, in a fixed order: the columns, the
// content as a whole, its unknown and repeated keys as they stand in the text,
// its known keys.
type Problems []Problem

// Error joins the problems with semicolons.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "; ")
}

// A Warning is something an author should know of that refuses nothing.
type Warning struct {
	Field   string // as in Problem
	Message string // worded to follow the field
}

// String returns the field and the message.
func (w Warning) String() string { return w.Field + " " + w.Message }

const maxValue = 80

func (j *judge) problem(field, message, value, hint string) {
	j.problems = append(j.problems, Problem{Field: field, Message: message, Value: clip(value), Hint: hint})
}

func (j *judge) warn(field, message string) {
	j.warnings = append(j.warnings, Warning{Field: field, Message: message})
}

// clip cuts s to maxValue characters, so that no log line or error carries
// whatever an author pasted.
func clip(s string) string {
	count := 0
	for i := range s {
		if count == maxValue {
			return s[:i] + "..."
		}
		count++
	}
	return s
}

//go:build !failpoint

// Package failpoint names the moments at which the chaos harness
// (internal/chaos) may make a daemon die or freeze. They are right before and
// after each step on which the promise of at most one push rests.
//
// A production build has none: Hit is an empty function that the compiler
// leaves out. In a build with the tag "failpoint" the variable
// CHAOS_FAILPOINT arms one.
package failpoint

// Hit marks a moment with a name.
func Hit(string) {}

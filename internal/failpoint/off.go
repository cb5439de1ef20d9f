//go:build !failpoint

// Package failpoint names the moments at which a daemon may be made to die or
// freeze by the chaos harness (internal/chaos): right before and after each
// step that the promise of at most one push rests on.
//
// A production build has none: Hit is an empty function that the compiler
// leaves out. In a build with the tag "failpoint" the variable
// CHAOS_FAILPOINT arms one.
package failpoint

// Hit is a moment with a name.
func Hit(string) {}

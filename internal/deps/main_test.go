package main

import (
	"os"
	"strings"
	"testing"
)

// TestEachHasItsReason holds the decision to what is imported: no dependency
// without a reason, and none whose licence would bind us.
func TestEachHasItsReason(t *testing.T) {
	t.Chdir("../..")
	text, err := os.ReadFile("docs/decisions/0007-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := direct(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 5 {
		t.Fatalf("found only %v", modules)
	}
	for _, m := range modules {
		if !strings.Contains(string(text), "`"+m.Path+"`") {
			t.Errorf("%s %s has no reason in docs/decisions/0007-dependencies.md", m.Path, m.Version)
		}
		switch l := licence(m.Dir); l {
		case "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause":
		case "MPL-2.0": // binds its own files only
		default:
			t.Errorf("%s has licence %s", m.Path, l)
		}
	}
}

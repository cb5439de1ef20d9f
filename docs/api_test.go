package docs_test

import (
	"strings"
	"testing"
)

// The Go of docs/api.md is code that CI runs; what is not run says so.
func TestSnippetsOfTheAPIAreRun(t *testing.T) {
	t.Parallel()
	document, tested := read(t, "api.md"), read(t, "../internal/api/clients/snippet_test.go")
	lines := strings.Split(document, "\n")
	found := 0
	for _, b := range blocks(document) {
		switch b.language {
		case "go":
			found++
			if !strings.Contains(tested, "\n"+b.text) {
				t.Errorf("line %d: this is not in internal/api/clients/snippet_test.go:\n%s", b.line, b.text)
			}
		case "java", "python":
			found++
			if before := strings.Join(lines[max(0, b.line-5):b.line-2], "\n"); !strings.Contains(before, "(not run here") {
				t.Errorf("line %d: nothing says that this %s is not run", b.line, b.language)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d snippets, want one each in Go, Java and Python", found)
	}
}

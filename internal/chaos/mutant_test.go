//go:build linux

package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fits holds an edit's text against the file as it is.
func fits(t *testing.T, what, path string, e Edit) {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), e.Old); n != 1 {
		t.Errorf("%s: %s holds the text to change %d times, want once:\n%s", what, e.File, n, e.Old)
	}
}

// A mutant whose text to break is gone breaks nothing, and would be found by
// nobody.
func TestMutantsFitTheSource(t *testing.T) {
	t.Parallel()
	for _, m := range Mutants {
		for _, e := range m.Edits {
			fits(t, "mutant "+m.Name, filepath.Join("..", "..", e.File), e)
		}
		if m.Break == "" || len(m.Shows) == 0 {
			t.Errorf("mutant %s does not say what it breaks and what shows it", m.Name)
		}
	}
}

// A scale that is not laid over the source leaves audiences of a run in one
// statement, which proves nothing.
func TestScaleFitsTheSource(t *testing.T) {
	t.Parallel()
	for _, e := range scaleEdits {
		fits(t, "scale", filepath.Join("..", "..", e.File), e)
	}
}

//go:build linux

package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// A mutant that does not compile is found by nobody either. Those whose changes fit into
// one source are compiled together.
func TestMutantsCompile(t *testing.T) {
	t.Parallel()
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for left := Mutants; len(left) > 0; {
		var edits []Edit
		var overlay string
		var names []string
		var later []Mutant
		for _, m := range left {
			laid, err := lay(slices.Concat(edits, m.Edits), root, t.TempDir())
			if err != nil {
				later = append(later, m)
				continue
			}
			edits, overlay, names = append(edits, m.Edits...), laid, append(names, m.Name)
		}
		if len(names) == 0 {
			t.Fatalf("%d mutants do not fit the source", len(left))
		}
		left = later
		args := []string{"build", "-tags", "failpoint", "-overlay", overlay}
		for _, e := range edits {
			args = append(args, "./"+filepath.Dir(e.File))
		}
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("one of %v does not compile: %v\n%s", names, err, out)
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

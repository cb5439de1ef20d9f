//go:build linux

package chaos_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/chaos"
)

// A mutant whose text to break is gone breaks nothing, and would be found by
// nobody.
func TestMutantsFitTheSource(t *testing.T) {
	t.Parallel()
	for _, m := range chaos.Mutants {
		for _, e := range m.Edits {
			source, err := os.ReadFile(filepath.Join("..", "..", e.File))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), e.Old); n != 1 {
				t.Errorf("mutant %s: %s holds the text to break %d times, want once:\n%s", m.Name, e.File, n, e.Old)
			}
		}
		if m.Break == "" || len(m.Shows) == 0 {
			t.Errorf("mutant %s does not say what it breaks and what shows it", m.Name)
		}
	}
}

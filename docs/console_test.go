package docs_test

import (
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/config"
)

// The program reads each configuration of docs/console.md, and would sign people
// in as the text above it says.
func TestConsoleConfigurationsAreRead(t *testing.T) {
	t.Parallel()
	var ways []string
	for _, b := range blocks(read(t, "console.md")) {
		if b.language == "yaml" {
			c := loadSettings(t, b.text)
			ways = append(ways, c.Console.SignIn)
			if len(c.Console.Roles) != 2 || c.Console.DatabaseURL == "" {
				t.Errorf("line %d: %+v", b.line, c.Console)
			}
		}
	}
	if len(ways) != 2 || ways[0] != config.SignInOIDC || ways[1] != config.SignInProxy {
		t.Errorf("the configurations sign people in by %q", ways)
	}
}

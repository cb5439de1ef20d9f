//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// build makes the scheduler with its failpoints and a wall clock that can be
// set, and with the named mutant's break when there is one. All that is changed
// is laid over the source by the compiler, so that no file is touched.
func build(ctx context.Context, dir string, m *Mutant) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	edits, err := wallEdits(ctx)
	if err != nil {
		return "", err
	}
	edits = append(edits, scaleEdits...)
	if m != nil {
		edits = append(edits, m.Edits...)
	}
	overlay, err := lay(edits, root, dir)
	if err != nil {
		return "", fmt.Errorf("change the build: %w", err)
	}
	bin := filepath.Join(dir, "scheduler")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-tags", "failpoint,wallclock", "-overlay", overlay, "-o", bin, "./cmd/scheduler")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the scheduler: %w\n%s", err, out)
	}
	return bin, nil
}

// placedAtOnce is how many deliveries the build under test ends in one statement,
// and scaleEdits make it so few that the audiences of a run take many.
const placedAtOnce = 200

var scaleEdits = []Edit{{"internal/engine/settle.go", "placeAtOnce  = 5000 //", fmt.Sprintf("placeAtOnce  = %d //", placedAtOnce)}}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return string(out[:len(out)-1]), nil
}

// lay writes the changed files and the list that tells the compiler of them.
func lay(edits []Edit, root, dir string) (string, error) {
	replace := make(map[string]string)
	for i, e := range edits {
		path := e.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, path)
		}
		from := path
		if done := replace[path]; done != "" {
			from = done
		}
		source, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		changed, err := e.apply(string(source))
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("changed%d-%s", i, filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(changed), 0o644); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, list, 0o644)
}

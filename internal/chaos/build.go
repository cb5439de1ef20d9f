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

// build makes the scheduler with its failpoints, and with the named mutant's
// break when there is one. A mutant is laid over the source by the compiler, so
// that no file of the project is touched.
func build(ctx context.Context, dir string, m *Mutant) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "scheduler")
	args := []string{"build", "-buildvcs=false", "-tags", "failpoint", "-o", bin}
	if m != nil {
		overlay, err := m.overlay(root, dir)
		if err != nil {
			return "", fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/scheduler")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the scheduler: %w\n%s", err, out)
	}
	return bin, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return string(out[:len(out)-1]), nil
}

// overlay writes the broken files and the list that tells the compiler of them.
func (m *Mutant) overlay(root, dir string) (string, error) {
	replace := make(map[string]string)
	for i, e := range m.Edits {
		path := filepath.Join(root, e.File)
		from := path
		if done := replace[path]; done != "" {
			from = done
		}
		source, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		broken, err := e.apply(string(source))
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, fmt.Sprintf("mutant%d-%s", i, filepath.Base(e.File)))
		if err := os.WriteFile(replace[path], []byte(broken), 0o644); err != nil {
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

//go:build unix

package embedpg_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/campaign-scheduler/scheduler/internal/embedpg"
)

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"/var/lib/scheduler": "/var/lib/scheduler",
		"":                   "''",
		"my data":            "'my data'",
		"it's":               `'it'\''s'`,
		"$(id)":              "'$(id)'",
	} {
		if got := embedpg.ShellQuote(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}

func TestChooseInstallation(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		found map[string]int
		major int
		want  string
		err   error
	}{
		{"the newest", map[string]int{"/a": 15, "/b": 17, "/c": 16}, 0, "/b", nil},
		{"the one that fits the data", map[string]int{"/a": 15, "/b": 17}, 15, "/a", nil},
		{"none fits the data", map[string]int{"/a": 15}, 16, "", embedpg.ErrVersionMismatch},
		{"only too old ones", map[string]int{"/a": 13}, 0, "", embedpg.ErrNoBinaries},
		{"data too old, and its binaries too", map[string]int{"/a": 13}, 13, "", embedpg.ErrVersionMismatch},
		{"none", nil, 15, "", embedpg.ErrNoBinaries},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := embedpg.Choose(tc.found, tc.major)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestClosedParentIsNamed(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	inside := filepath.Join(closed, "inside")
	if err := os.MkdirAll(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	err := embedpg.CanReach(inside)
	if err == nil || !strings.Contains(err.Error(), "stranger, who may not enter "+inside) {
		t.Errorf("got %v", err)
	}
}

func TestLongDirectoryGetsShortSocket(t *testing.T) {
	t.Parallel()
	got, err := embedpg.SocketDir("/"+strings.Repeat("long/", 30), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(got) })
	if len(got) > 80 {
		t.Errorf("%s has %d characters", got, len(got))
	}
}

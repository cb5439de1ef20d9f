//go:build unix

package embedpg

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// MinMajor is the oldest major version of PostgreSQL that is used.
const MinMajor = 14

// ErrNoBinaries says that no usable PostgreSQL installation was found. The
// error that wraps it tells what to install on this machine.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found")

// ErrVersionMismatch says that the data were made by a major version that is
// not installed.
var ErrVersionMismatch = errors.New("the data are of another PostgreSQL major version")

// An installation is a directory of PostgreSQL binaries.
type installation struct {
	dir   string
	major int
}

// Find returns the binary directory of the newest usable installation and its
// major version. The error is ErrNoBinaries, with what to install.
func Find() (dir string, major int, err error) {
	in, err := find("", 0)
	return in.dir, in.major, err
}

// find looks in the explicit directory, or where PostgreSQL is usually
// installed. If major is not zero, only that major version is accepted.
func find(explicit string, major int) (installation, error) {
	dirs := []string{explicit}
	if explicit == "" {
		dirs = candidates()
	}
	var found []installation
	for _, dir := range dirs {
		if v := binaryMajor(dir); v > 0 && !slices.Contains(found, installation{dir, v}) {
			found = append(found, installation{dir, v})
		}
	}
	return choose(found, explicit, major)
}

func choose(found []installation, explicit string, major int) (installation, error) {
	usable := slices.DeleteFunc(slices.Clone(found), func(in installation) bool {
		return in.major < MinMajor || (major != 0 && in.major != major)
	})
	if len(usable) > 0 {
		return slices.MaxFunc(usable, func(a, b installation) int { return cmp.Compare(a.major, b.major) }), nil
	}
	switch {
	case major != 0 && len(found) > 0:
		return installation{}, fmt.Errorf("%w: made by %d, installed: %s", ErrVersionMismatch, major, list(found))
	case len(found) > 0:
		return installation{}, fmt.Errorf("%w: only %s, and %d or later is needed. %s", ErrNoBinaries, list(found), MinMajor, InstallHint())
	case explicit != "":
		return installation{}, fmt.Errorf("%w in %s. %s", ErrNoBinaries, explicit, InstallHint())
	}
	return installation{}, fmt.Errorf("%w. %s", ErrNoBinaries, InstallHint())
}

// explain adds to a version mismatch how it can be fixed.
func explain(err error, data string) error {
	if !errors.Is(err, ErrVersionMismatch) {
		return err
	}
	return fmt.Errorf("%w; install that version too, bring %s to the installed one with pg_upgrade, or move it away to begin anew", err, data)
}

func list(found []installation) string {
	words := make([]string, len(found))
	for i, in := range found {
		words[i] = fmt.Sprintf("%d (%s)", in.major, in.dir)
	}
	return strings.Join(words, ", ")
}

// candidates lists the directories to look into: those of the PATH with their
// symbolic links resolved, the one that pg_config names, and the usual places.
func candidates() []string {
	var dirs []string
	for _, exe := range []string{"postgres", "initdb"} {
		if path, err := exec.LookPath(exe); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				dirs = append(dirs, filepath.Dir(path))
			}
		}
	}
	if out, err := exec.CommandContext(context.Background(), "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // Red Hat, packages of postgresql.org
		"/usr/lib/postgresql*/bin",  // Gentoo, SUSE
		"/usr/libexec/postgresql*",  // Alpine
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		"/usr/local/pgsql/bin", // built from source
	} {
		matches, _ := filepath.Glob(pattern)
		dirs = append(dirs, matches...)
	}
	return dirs
}

// binaryMajor is the major version of the installation in dir, 0 when there is
// none. The output reads "postgres (PostgreSQL) 15.18 (Debian …)" or "… 18beta1".
func binaryMajor(dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(context.Background(), filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	major, _ := strconv.Atoi(version[:max(digits, 0)])
	return major
}

// InstallHint says how PostgreSQL is installed on this machine.
func InstallHint() string {
	if runtime.GOOS == "darwin" {
		return "Install PostgreSQL: brew install postgresql@17"
	}
	for _, family := range osFamilies() {
		if cmd, ok := installCommands[family]; ok {
			return "Install PostgreSQL, as root: " + cmd
		}
	}
	return fmt.Sprintf("Install the PostgreSQL server, version %d or later, from your system's packages", MinMajor)
}

var installCommands = map[string]string{
	"debian": "apt-get install postgresql",
	"ubuntu": "apt-get install postgresql",
	"fedora": "dnf install postgresql-server",
	"rhel":   "dnf install postgresql-server",
	"suse":   "zypper install postgresql-server",
	"alpine": "apk add postgresql",
	"arch":   "pacman -S postgresql",
}

// osFamilies reads ID and ID_LIKE of os-release, the nearest first.
func osFamilies() []string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return nil
	}
	defer f.Close()
	var id, like []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch words := strings.Fields(strings.Trim(value, `"'`)); key {
		case "ID":
			id = words
		case "ID_LIKE":
			like = words
		}
	}
	return append(id, like...)
}

//go:build unix

package embedpg

import (
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// Running returns the URL of a database of the server that runs on dir now, and
// false when none does. It is for other processes of the same user, or of root:
// the connection goes through the unix socket, and needs no password. It starts
// and changes nothing.
func Running(dir, database string) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	// The lines of postmaster.pid: pid, data, start time, port, socket directory,
	// listen address, shared memory, status.
	data := filepath.Join(dir, "data")
	lines := pidFile(data)
	if len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return "", false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || !servesData(pid, data) {
		return "", false
	}
	query := url.Values{"host": {strings.TrimSpace(lines[4])}, "port": {strings.TrimSpace(lines[3])}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String(), true
}

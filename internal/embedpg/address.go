//go:build unix

package embedpg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketDir leaves room for "/.s.PGSQL.65535" within the 104 bytes that the
// smallest sun_path has (108 on Linux).
const maxSocketDir = 80

// socketDir makes the private directory of the unix socket: inside dir, or with
// a short name under the temporary directory when that path would be too long.
func socketDir(dir string, a *account) (string, error) {
	path := filepath.Join(dir, "sock")
	if len(path) > maxSocketDir {
		sum := sha256.Sum256([]byte(dir))
		path = filepath.Join(os.TempDir(), fmt.Sprintf("embedpg-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:5])))
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(path) // not Stat: under /tmp another user could have laid a link
	if err != nil {
		return "", err
	}
	uid, _ := owner(info)
	if ours := uid == os.Geteuid() || (a != nil && uid == a.uid); !info.IsDir() || !ours {
		return "", fmt.Errorf("socket directory %s belongs to someone else; remove it", path)
	}
	if err := a.own(path); err != nil {
		return "", err
	}
	return path, os.Chmod(path, 0o700)
}

// choosePort keeps the port of the last run while it is free, so that what
// people saved in their tools goes on working.
func (s *Server) choosePort(ctx context.Context) (int, error) {
	if s.cfg.Ephemeral {
		return 5432, nil // only part of the socket's name
	}
	if s.cfg.Port != 0 {
		return s.cfg.Port, nil // when it is taken, the server's own message says so
	}
	file := filepath.Join(s.cfg.Dir, "port")
	content, _ := os.ReadFile(file)
	last, _ := strconv.Atoi(strings.TrimSpace(string(content)))
	for _, port := range []int{last, 0} {
		if free, err := freePort(ctx, port); err == nil {
			return free, os.WriteFile(file, []byte(strconv.Itoa(free)+"\n"), 0o600)
		}
	}
	return 0, errors.New("no free TCP port on 127.0.0.1")
}

// freePort tries one port of 127.0.0.1; zero means any.
func freePort(ctx context.Context, port int) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil // a TCP listener has no other
}

// URL connects to a database through the unix socket, which needs no password:
// only the server's owner and root may enter its directory.
func (s *Server) URL(database string) string {
	query := url.Values{"host": {s.sockets}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL connects through 127.0.0.1. It names the password file instead of
// holding the password, so it may be printed; libpq and pgx both read it.
func (s *Server) TCPURL() string {
	query := url.Values{"passfile": {s.passFile()}, "sslmode": {"disable"}}
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path: "/" + s.database(), RawQuery: query.Encode(),
	}
	return u.String()
}

// PSQL is a command line to paste into a shell of the same user, or of root. It
// holds no secret.
func (s *Server) PSQL() string {
	psql := "psql"
	if _, err := exec.LookPath(psql); err != nil {
		psql = filepath.Join(s.bin.dir, "psql")
	}
	words := []string{psql, "-h", s.sockets, "-p", strconv.Itoa(s.port), "-U", superuser, "-d", s.database()}
	for i, word := range words {
		words[i] = shellQuote(word)
	}
	return strings.Join(words, " ")
}

func (s *Server) database() string {
	if s.cfg.Database == "" {
		return "postgres"
	}
	return s.cfg.Database
}

// shellQuote leaves plain words as they are, for the sake of the reader.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("/._-+:@", r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

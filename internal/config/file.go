package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// secret finds the secret at path, given as it is or as the name of a file that
// holds it. The environment wins over the file, in either form.
func (l *loader) secret(n *node, path string) Secret {
	if l.given(n, path) {
		l.lookup(n, path, false)
		l.lookup(n, path+fileTwin, true)
		l.problem(path, "is given both as it is and as %s; keep one", lastKey(path)+fileTwin)
		return ""
	}
	fileEnv := l.env[envName(path+fileTwin)] != ""
	if plainEnv := l.env[envName(path)] != ""; plainEnv || !fileEnv {
		if found, ok := l.lookup(n, path, false); ok {
			l.lookupEnv(path + fileTwin)
			return Secret(found.text)
		}
	}
	found, ok := l.lookup(n, path+fileTwin, true)
	if !ok || found.text == "" {
		return ""
	}
	l.origins[path] = found.from
	return l.readSecret(path, l.absolute(found))
}

// given reports whether both forms stand on the same side, so that neither wins.
func (l *loader) given(n *node, path string) bool {
	twin := path + fileTwin
	plainEnv, fileEnv := l.env[envName(path)] != "", l.env[envName(twin)] != ""
	if plainEnv || fileEnv {
		return plainEnv && fileEnv
	}
	plain, hasPlain := n.find(lastKey(path))
	file, hasFile := n.find(lastKey(twin))
	return hasPlain && hasFile && plain.value.kind != nothing && file.value.kind != nothing
}

// readSecret reads the file that holds a secret. A byte order mark and the line
// ends that editors and echo leave behind are not part of it.
func (l *loader) readSecret(path, name string) Secret {
	text, err := readSmall(name)
	if err != nil {
		l.problem(path, "cannot read %s: %s", name, reason(err))
		return ""
	}
	trimmed, err := textfile.Clean(text)
	if err != nil {
		l.problem(path, "the file %s %s", name, err)
		return ""
	}
	if trimmed == "" {
		l.problem(path, "the file %s is empty", name)
	}
	return Secret(trimmed)
}

// readSmall reads a file of at most maxFile bytes.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return text, err
}

// reason says why a file could not be read, without its name, which the message
// has already.
func reason(err error) string {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// maxFile bounds the configuration and every file that a setting names.
const maxFile = 1 << 20

// A Provider tells the configuration which keys an app of a push API may have, and
// judges them. Every dispatch.Adapter is a Provider.
type Provider interface {
	Provider() string
	Channels() []dispatch.Channel
	Options() []dispatch.Option
	New(dispatch.Settings) (dispatch.Pusher, error)
}

// Load reads the file at path and checks all settings. path may be "" for no file.
// environ, in the form of os.Environ, overrides the file. Load only reads files; it
// changes nothing and may be called again at any time, also concurrently.
//
// If the configuration has problems, the error is of type Problems.
func Load(path string, environ []string, providers []Provider) (*Config, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = readSmall(path); err != nil {
			return nil, Problems{{File: path, Text: "cannot be read: " + reason(err)}}
		}
		clean, err := textfile.Clean(text)
		if err != nil {
			return nil, Problems{{File: path, Text: err.Error()}}
		}
		text = []byte(clean)
	}
	l := newLoader(path, text, environ, providers)
	root, err := parse(text)
	if err != nil {
		return nil, l.unreadable(err)
	}
	config := Default()
	l.bindConfig(root, &config)
	l.check(&config)
	if len(l.problems) > 0 {
		return nil, l.sorted()
	}
	config.Warnings = append(l.warnings, l.strangers()...)
	return &config, nil
}

// A loader is the state of one Load.
type loader struct {
	file      string
	dir       string // paths in the file are relative to this directory
	lines     []string
	env       map[string]string
	envUsed   map[string]bool
	providers []Provider

	origins  map[string]origin // of every value that was set, by path
	faulty   map[string]bool   // the paths that have a problem
	problems Problems
	warnings []string
}

func newLoader(path string, text []byte, environ []string, providers []Provider) *loader {
	l := &loader{
		file: path, dir: filepath.Dir(path), lines: strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"),
		env: make(map[string]string, len(environ)), envUsed: map[string]bool{},
		providers: providers, origins: map[string]origin{}, faulty: map[string]bool{},
	}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			l.env[name] = value
		}
	}
	return l
}

func (l *loader) bindConfig(root *node, config *Config) {
	l.bindStruct(root, "", reflect.ValueOf(config).Elem(), nil)
	if _, set := l.origins["database.url"]; !set {
		config.Database.URL = Secret(l.env["DATABASE_URL"])
	}
	l.fillTracing(&config.Tracing)
	if config.DataDir == "" {
		config.DataDir = l.stateDir()
	}
	if config.Sandbox.Journal == "" && config.DataDir != "" {
		config.Sandbox.Journal = filepath.Join(config.DataDir, "sandbox.ndjson")
	}
}

// stateDir returns the default of data_dir. A relative XDG_STATE_HOME counts as
// unset, as the XDG specification says.
func (l *loader) stateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/scheduler"
	}
	if state := l.env["XDG_STATE_HOME"]; filepath.IsAbs(state) {
		return filepath.Join(state, "scheduler")
	}
	if home := l.env["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "scheduler")
	}
	return ""
}

// unreadable returns the problem of a text that cannot be parsed.
func (l *loader) unreadable(err error) Problems {
	p := Problem{File: l.file, Text: err.Error()}
	if at, ok := err.(*treeError); ok && at.line > 0 { //nolint:errorlint // parse returns this type unwrapped
		p.Line, p.Column = at.line, at.column
		p.Excerpt = excerpt(l.lines, origin{line: at.line, column: at.column})
	}
	return Problems{p}
}

// problem records a problem of the setting at path. Only the first problem of a
// path is kept. The problem is located at the value, or else at its section.
func (l *loader) problem(path, format string, args ...any) {
	if l.faulty[path] {
		return
	}
	l.faulty[path] = true
	at := l.originOf(path)
	if at.env != "" {
		l.problems = append(l.problems, Problem{Key: at.env, Text: fmt.Sprintf(format, args...)})
		return
	}
	l.problemAt(at, path, fmt.Sprintf(format, args...))
}

func (l *loader) problemAt(at origin, key, text string) {
	p := Problem{Key: key, Text: text}
	if at.line > 0 {
		p.File, p.Line, p.Column, p.Excerpt = l.file, at.line, at.column, excerpt(l.lines, at)
	}
	l.problems = append(l.problems, p)
}

func (l *loader) originOf(path string) origin {
	for at := path; at != ""; at = parent(at) {
		if o, ok := l.origins[at]; ok {
			return o
		}
	}
	return origin{}
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// sorted returns the problems in the order of the file. Problems without a line
// come last.
func (l *loader) sorted() Problems {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		switch {
		case a.Line == 0 || b.Line == 0:
			return b.Line - a.Line
		case a.Line != b.Line:
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return l.problems
}

// secret returns the secret at path. It is given as it is, or as the name of a file
// that holds it. The environment, in either form, overrides the file.
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
	return Secret(l.readText(path, l.absolute(found)))
}

// given reports whether both forms of a secret are given in the same place, the
// environment or the file, so that neither overrides the other.
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

// readText reads the file that a setting names. It removes a byte order mark and
// the line ends that editors and echo add. If the file cannot be read or is empty,
// readText reports a problem of the setting and returns "".
func (l *loader) readText(path, name string) string {
	content, err := readSmall(name)
	if err != nil {
		l.problem(path, "cannot read %s: %s", name, reason(err))
		return ""
	}
	text, err := textfile.Clean(content)
	if err != nil {
		l.problem(path, "the file %s %s", name, err)
		return ""
	}
	if text == "" {
		l.problem(path, "the file %s is empty", name)
	}
	return text
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

// reason returns why a file could not be read. The name of the file is left out,
// since the message holds it already.
func reason(err error) string {
	if wrapped, ok := errors.AsType[*fs.PathError](err); ok {
		return wrapped.Err.Error()
	}
	return err.Error()
}

// prefix is the start of the name of every variable that overrides a setting.
const prefix = "SCHEDULER_"

// envName returns the variable of a path: database.url is
// SCHEDULER_DATABASE_URL, apps[0].app_id is SCHEDULER_APPS_0_APP_ID.
func envName(path string) string {
	return prefix + strings.ToUpper(strings.NewReplacer("].", "_", ".", "_", "[", "_", "]", "").Replace(path))
}

// lookupEnv returns the value of a path's variable. An empty variable counts as
// unset, since container tools often set variables without a value.
func (l *loader) lookupEnv(path string) (string, bool) {
	name := envName(path)
	value, set := l.env[name]
	if set {
		l.envUsed[name] = true
	}
	return value, value != ""
}

// hasEnvBelow reports whether a variable sets a value below the path.
func (l *loader) hasEnvBelow(path string) bool {
	start := envName(path) + "_"
	for name, value := range l.env {
		if value != "" && strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

// foreign matches variables that start with the prefix and are not settings.
// Kubernetes sets such variables in every pod beside a Service named scheduler.
// SCHEDULER_CONFIG belongs to the command line.
var foreign = regexp.MustCompile(`^SCHEDULER_(CONFIG|(.*_)?SERVICE_(HOST|PORT.*)|(.*_)?PORT(_\d+_(TCP|UDP).*)?)$`)

// strangers returns warnings of variables that look like settings and are none.
// They are not errors, since other programs may use the prefix too.
func (l *loader) strangers() []string {
	var warnings []string
	for name := range l.env {
		if strings.HasPrefix(name, prefix) && !l.envUsed[name] && !foreign.MatchString(name) {
			warnings = append(warnings, "the variable "+name+" is no setting and was ignored")
		}
	}
	slices.Sort(warnings)
	return warnings
}

// reference matches $${ (the escape), a complete ${…}, and a ${ that is not closed.
var reference = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}|\$\{`)

// variable matches the content of the braces: a name and, after :-, the text that
// is used when the variable is unset or empty.
var variable = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?$`)

// expand replaces ${NAME} and ${NAME:-default} in a value. It works on parsed
// values, so a variable cannot add a key or a line to the file. The text of a
// variable is not expanded again.
func expand(text string, env map[string]string) (string, error) {
	var firstErr error
	out := reference.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		value, err := resolve(match, env)
		if firstErr == nil {
			firstErr = err
		}
		return value
	})
	return out, firstErr
}

func resolve(match string, env map[string]string) (string, error) {
	inner := strings.TrimSuffix(strings.TrimPrefix(match, "${"), "}")
	parts := variable.FindStringSubmatch(inner)
	if parts == nil || !strings.HasSuffix(match, "}") {
		return "", fmt.Errorf("holds a ${ that is not followed by a variable's name and }; write $${ for the characters themselves")
	}
	name, hasDefault := parts[1], parts[2] != ""
	value, set := env[name]
	switch {
	case hasDefault && value == "":
		return parts[3], nil
	case !set:
		return "", fmt.Errorf("the variable %s is not set; set it, or write ${%s:-} if it may be empty", name, name)
	}
	return value, nil
}

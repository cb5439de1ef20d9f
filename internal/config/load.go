package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/campaign-scheduler/scheduler/dispatch"
	"github.com/campaign-scheduler/scheduler/internal/textfile"
)

// maxFile bounds the configuration and every file a _file key names.
const maxFile = 1 << 20

// A Provider is what the configuration must know of a push API's adapter:
// which keys its apps may have, and whether it could work with them. Every
// dispatch.Adapter is one.
type Provider interface {
	Provider() string
	Channels() []dispatch.Channel
	Options() []dispatch.Option
	New(dispatch.Settings) (dispatch.Pusher, error)
}

// Load reads the file at path ("" for none), lets the environment, given as
// os.Environ gives it, override it, and checks the whole. It reads files and
// nothing else, changes nothing, and may be called again at any time.
//
// The error is Problems when the configuration is at fault.
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
	dir       string // relative paths in the file start here
	lines     []string
	env       map[string]string
	envUsed   map[string]bool
	providers []Provider

	origins  map[string]origin // by path, of every value that was set
	faulty   map[string]bool   // paths with a problem: one is enough
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

// stateDir is the default of data_dir. The XDG rules say that a relative
// XDG_STATE_HOME counts as unset.
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

// unreadable makes the one problem of a text that is no configuration.
func (l *loader) unreadable(err error) Problems {
	p := Problem{File: l.file, Text: err.Error()}
	if at, ok := err.(*treeError); ok && at.line > 0 { //nolint:errorlint // parse returns this type unwrapped
		p.Line, p.Column = at.line, at.column
		p.Excerpt = excerpt(l.lines, origin{line: at.line, column: at.column})
	}
	return Problems{p}
}

// problem notes what is wrong with the setting at path; only the first problem
// of a path is kept. The place is the value's own, else its section's.
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

// sorted returns the problems in the order of the file, those without a place
// last.
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

package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

var (
	secretType = reflect.TypeFor[Secret]()
	appsType   = reflect.TypeFor[[]App]()
	textsType  = reflect.TypeFor[[]string]()
)

// fileTwin is the end of a secret's key when its value is the name of a file that
// holds the secret.
const fileTwin = "_file"

// A value is the text of one setting and where it was found.
type value struct {
	text string
	from origin
}

// bindStruct sets the fields of v from the mapping n and the environment. The
// caller binds the keys in extra. Every other key of n is reported as unknown.
func (l *loader) bindStruct(n *node, path string, v reflect.Value, extra []string) {
	if n != nil && n.kind != mapping && n.kind != nothing {
		at := l.originOf(path)
		if path == "" {
			at = origin{line: n.line, column: n.column}
		}
		l.problemAt(at, path, "must be a mapping of keys to values")
		return
	}
	known := slices.Clone(extra)
	for field, fieldValue := range v.Fields() {
		key := field.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		known = append(known, key)
		if field.Type == secretType {
			known = append(known, key+fileTwin)
		}
		l.bindField(n, join(path, key), field, fieldValue)
	}
	l.refuseUnknown(n, path, known)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (l *loader) bindField(n *node, path string, field reflect.StructField, v reflect.Value) {
	switch {
	case field.Type == secretType:
		v.SetString(string(l.secret(n, path)))
	case field.Type == appsType:
		v.Set(reflect.ValueOf(l.bindApps(l.section(n, path), path)))
	case field.Type == clientsType:
		v.Set(reflect.ValueOf(l.bindClients(l.section(n, path), path)))
	case field.Type == roleRulesType:
		v.Set(reflect.ValueOf(l.bindRoleRules(l.section(n, path), path)))
	case field.Type == textsType:
		if list, given := l.texts(n, path); given {
			v.Set(reflect.ValueOf(list))
		}
	case field.Type.Kind() == reflect.Struct:
		l.bindStruct(l.section(n, path), path, v, nil)
	case field.Type.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(l.quotas(n, path)))
	default:
		l.bindScalar(n, path, field, v)
	}
}

// texts reads a list of texts. The file holds a list; the environment separates
// the texts by commas.
func (l *loader) texts(n *node, path string) (items []string, given bool) {
	if text, ok := l.lookupEnv(path); ok {
		l.origins[path] = origin{env: envName(path)}
		for item := range strings.SplitSeq(text, ",") {
			items = append(items, strings.TrimSpace(item))
		}
		return items, true
	}
	section := l.section(n, path)
	if section == nil || section.kind == nothing {
		return nil, false
	}
	if section.kind != list {
		l.problem(path, "must be a list: each item begins with a dash")
		return nil, false
	}
	for i, item := range section.items {
		at := fmt.Sprintf("%s[%d]", path, i)
		l.origins[at] = origin{line: item.line, column: item.column, shown: true}
		text, err := expand(item.text, l.env)
		switch {
		case item.kind != scalar:
			l.problem(at, "must be a text")
		case err != nil:
			l.problem(at, "%s", err)
		default:
			items = append(items, text)
		}
	}
	return items, true
}

// section returns the node of a key that holds further keys, or nil.
func (l *loader) section(n *node, path string) *node {
	e, ok := n.find(lastKey(path))
	if !ok {
		return nil
	}
	l.origins[path] = origin{line: e.line, column: e.column}
	return e.value
}

func lastKey(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

func (l *loader) bindScalar(n *node, path string, field reflect.StructField, v reflect.Value) {
	found, ok := l.lookup(n, path, true)
	if !ok {
		return
	}
	if err := setScalar(v, found.text); err != nil {
		l.problem(path, "%s", err)
		return
	}
	if words := field.Tag.Get("oneof"); words != "" && !slices.Contains(strings.Split(words, ","), found.text) {
		l.problem(path, "must be one of %s, not %q", strings.ReplaceAll(words, ",", ", "), found.text)
	}
	if field.Tag.Get("as") == "path" {
		v.SetString(l.absolute(found))
	}
}

// lookup returns the text of the setting at path: from the environment, else from
// the file with its variables expanded. shown says that problems may print the
// line of the file that holds the value.
func (l *loader) lookup(n *node, path string, shown bool) (value, bool) {
	if text, ok := l.lookupEnv(path); ok {
		from := origin{env: envName(path)}
		l.origins[path] = from
		return value{withoutLineEnds(text), from}, true
	}
	e, ok := n.find(lastKey(path))
	if !ok || e.value.kind == nothing {
		return value{}, false
	}
	// A value with an @ or ? may be a URL that holds a password or token.
	from := origin{line: e.line, column: e.column, shown: shown && !strings.ContainsAny(e.value.text, "@?")}
	if e.value.line == e.line {
		from.column = e.value.column
	}
	l.origins[path] = from
	if e.value.kind != scalar {
		l.problem(path, "takes a single value, not a list or mapping")
		return value{}, false
	}
	text, err := expand(e.value.text, l.env)
	if err != nil {
		l.problem(path, "%s", err)
		return value{}, false
	}
	return value{withoutLineEnds(text), from}, true
}

// withoutLineEnds removes line ends at the end of a text. A block scalar of YAML
// keeps them, and echo adds one to a variable; they are never a part of a setting.
func withoutLineEnds(text string) string { return strings.TrimRight(text, "\r\n") }

// absolute makes a path absolute. A path in the file is relative to the folder of
// the file; a path in the environment is relative to the working directory.
func (l *loader) absolute(v value) string {
	if v.text == "" || filepath.IsAbs(v.text) {
		return v.text
	}
	dir := "."
	if v.from.env == "" {
		dir = l.dir
	}
	abs, err := filepath.Abs(filepath.Join(dir, v.text))
	if err != nil {
		return v.text
	}
	return abs
}

func (l *loader) refuseUnknown(n *node, path string, known []string) {
	if n == nil {
		return
	}
	for _, e := range n.entries {
		if !slices.Contains(known, e.key) {
			at := origin{line: e.line, column: e.column}
			l.problemAt(at, join(path, printable(e.key)), "unknown key"+didYouMean(e.key, known))
		}
	}
}

// printable returns a key as it may be printed. A long key, or one with control
// characters, is replaced by its length: it may be a secret in the wrong place.
func printable(key string) string {
	const longest = 40
	for _, r := range key {
		if r < ' ' || len(key) > longest {
			return fmt.Sprintf("(a key of %d bytes)", len(key))
		}
	}
	return key
}

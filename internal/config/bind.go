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

// fileTwin is what a secret's key ends in when its value is a file's name.
const fileTwin = "_file"

// A value is the text of one setting and where it was found.
type value struct {
	text string
	from origin
}

// bindStruct sets the fields of v from the mapping n and the environment. The
// keys of extra are left alone: the caller binds them. Any other is unknown.
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

// texts reads a list of texts: in the file a list, in the environment with commas
// between them.
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

// lookup finds the text of the setting at path: the environment's, else the
// file's with its variables expanded. Shown says that the value may be seen.
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
	// A value with an @ or ? may be a URL with a password or token in it.
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

// withoutLineEnds drops the line ends that a block scalar of YAML keeps, and that
// echo leaves in what becomes a variable: no setting ends in one.
func withoutLineEnds(text string) string { return strings.TrimRight(text, "\r\n") }

// absolute makes a path absolute: what the file says starts at the file's
// folder, what the environment says at the working directory.
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

// printable cuts a key that is no key: it may be a secret in the wrong place.
func printable(key string) string {
	const longest = 40
	for _, r := range key {
		if r < ' ' || len(key) > longest {
			return fmt.Sprintf("(a key of %d bytes)", len(key))
		}
	}
	return key
}

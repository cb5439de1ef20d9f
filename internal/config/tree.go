package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// A node is a value of the file with its line and column. The parser's own tree has
// some 24 kinds of nodes; a configuration needs three.
type node struct {
	kind         kind
	line, column int
	text         string // of a scalar, as it is written in the file
	entries      []entry
	items        []*node
}

type kind uint8

const (
	nothing kind = iota // null, or no value at all
	scalar
	mapping
	list
)

// An entry is one key of a mapping, in the order of the file.
type entry struct {
	key          string
	line, column int
	value        *node
}

// find returns the entry of that name. A nil node has no entries.
func (n *node) find(key string) (entry, bool) {
	if n == nil {
		return entry{}, false
	}
	for _, e := range n.entries {
		if e.key == key {
			return e, true
		}
	}
	return entry{}, false
}

// A treeError says why a text cannot be parsed.
type treeError struct {
	line, column int
	text         string
}

func (e *treeError) Error() string { return e.text }

// parse parses YAML. Anchors, aliases, merge keys and tags are refused, since with
// them a value may come from another place of the file than the reader sees.
func parse(text []byte) (*node, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(err)
	}
	if len(file.Docs) > 1 {
		second := file.Docs[1]
		if second.Body != nil {
			return nil, errorAt(second.Body, "a second document begins here; only one is read")
		}
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return &node{}, nil
	}
	return convert(file.Docs[0].Body)
}

func syntaxError(err error) error {
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		at := located.GetToken().Position
		return &treeError{line: at.Line, column: at.Column, text: "not valid YAML: " + located.GetMessage()}
	}
	return &treeError{text: "not valid YAML"}
}

func errorAt(n ast.Node, text string) error {
	at := place(n)
	return &treeError{line: at.line, column: at.column, text: text}
}

func place(n ast.Node) node {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return node{line: tk.Position.Line, column: tk.Position.Column}
	}
	return node{}
}

func convert(n ast.Node) (*node, error) {
	out := place(n)
	switch n := n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		return &out, nil
	case *ast.MappingNode:
		return convertMapping(out, n.Values)
	case *ast.MappingValueNode:
		return convertMapping(out, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return convertList(out, n.Values)
	case *ast.StringNode:
		out.kind, out.text = scalar, n.Value
	case *ast.LiteralNode:
		out.kind, out.text = scalar, n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		// The text is taken as written, so that an app_id of digits keeps its leading
		// zeros.
		out.kind, out.text = scalar, n.GetToken().Value
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return nil, errorAt(n, "anchors, aliases and tags are not supported; write the value out")
	default:
		return nil, errorAt(n, "a value of this kind is not supported")
	}
	return &out, nil
}

func convertMapping(out node, values []*ast.MappingValueNode) (*node, error) {
	out.kind = mapping
	for _, pair := range values {
		key, ok := pair.Key.(*ast.StringNode)
		if !ok {
			return nil, errorAt(pair.Key, "keys must be plain words")
		}
		if _, twice := out.find(key.Value); twice {
			return nil, errorAt(key, fmt.Sprintf("the key %q stands here a second time", key.Value))
		}
		value, err := convert(pair.Value)
		if err != nil {
			return nil, err
		}
		at := place(key)
		if len(out.entries) == 0 {
			// The parser gives a mapping the position of its first colon.
			out.line, out.column = at.line, at.column
		}
		out.entries = append(out.entries, entry{key: key.Value, line: at.line, column: at.column, value: value})
	}
	return &out, nil
}

func convertList(out node, values []ast.Node) (*node, error) {
	out.kind = list
	for _, value := range values {
		item, err := convert(value)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, item)
	}
	return &out, nil
}

var durationType = reflect.TypeFor[time.Duration]()

// setScalar parses text by the type of the field and sets the field. The error says
// which form is valid and holds the text, so setScalar is not for secrets.
func setScalar(v reflect.Value, text string) error {
	if v.Type() == durationType {
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false, not %q", text)
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be a whole number, not %q", text)
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("must be a number, not %q", text)
		}
		v.SetFloat(f)
	default:
		panic("config: no way to read a " + v.Type().String())
	}
	return nil
}

// parseDuration is time.ParseDuration with days of 24 hours, as in 90d and 1d12h.
func parseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("must be a duration such as 30s, 5m, 1h30m or 90d, not %q", text)
	var days time.Duration
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, wrong
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, wrong
	}
	if d < 0 || days+d < 0 {
		return 0, errors.New("must not be negative")
	}
	return days + d, nil
}

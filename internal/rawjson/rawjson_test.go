package rawjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/internal/rawjson"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	lists := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for _, c := range []struct {
		raw  string
		want error
	}{
		{`{}`, nil},
		{" \t\r\n[1] ", nil},
		{`"{}"`, nil},
		{`null`, nil},
		{`-1.5e+7`, nil},
		{lists(rawjson.MaxDepth), nil},
		{`"` + strings.Repeat("[", 99) + `"`, nil},
		{``, rawjson.ErrSyntax},
		{` `, rawjson.ErrSyntax},
		{`x`, rawjson.ErrSyntax},
		{`{`, rawjson.ErrSyntax},
		{`{"a":1`, rawjson.ErrSyntax},
		{`{"a" 1}`, rawjson.ErrSyntax},
		{`{,}`, rawjson.ErrSyntax},
		{`{"a":1}{`, rawjson.ErrTrailing},
		{`{"a":1} 2`, rawjson.ErrTrailing},
		{`[1],`, rawjson.ErrTrailing},
		{lists(rawjson.MaxDepth + 1), rawjson.ErrTooDeep},
		{strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33), rawjson.ErrTooDeep},
		{lists(20_000), rawjson.ErrSyntax}, // encoding/json's own bound
	} {
		if got := rawjson.Check([]byte(c.raw)); !errors.Is(got, c.want) {
			t.Errorf("%.40q: %v, want %v", c.raw, got, c.want)
		}
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"": "invalid", " ": "invalid", "null": "null", " true": "a boolean", "false": "a boolean", "-1": "a number", "0": "a number",
		`"0"`: "a string", "\n[]": "a list", "{}": "an object",
	} {
		if got := rawjson.KindOf(raw).String(); got != want {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
	}
}

// Objects come apart as encoding/json's decoder takes them, token by token.
func TestMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkMembers(t, []byte(object(t, 0))) })
}

// Lists come apart as encoding/json takes them.
func TestElements(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		items := make([]string, rapid.IntRange(0, 3).Draw(t, "elements"))
		for i := range items {
			items[i] = rapid.OneOf(rapid.Just(object(t, 1)), rapid.SampledFrom([]string{"0 ", ` "],["`, "[]", "\tnull", `[[1], {"]": 2}] `})).Draw(t, "element")
		}
		checkElements(t, []byte("["+strings.Join(items, ",")+" ]"))
	})
}

func TestMembersStop(t *testing.T) {
	t.Parallel()
	for name, value := range rawjson.Members(`{"a": 1, "b": 2}`) {
		if name != "a" || value != "1" {
			t.Errorf("%s: %s", name, value)
		}
		break
	}
	for value := range rawjson.Elements(`[1, 2]`) {
		if value != "1" {
			t.Error(value)
		}
		break
	}
}

// What is quoted is read back as it was, here and by encoding/json, and holds no
// escape that JSON does not demand.
func TestAppendQuoted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { checkQuoted(t, rapid.String().Draw(t, "text")) })
	const all = "\x00\b\t\n\v\f\r\x1f\"\\/<>&\u2028é"
	const want = `"\u0000\b\t\n\u000b\f\r\u001f\"\\/<>&` + "\u2028é\""
	if got := string(rawjson.AppendQuoted([]byte("["), all)); got != "["+want {
		t.Errorf("%s, want [%s", got, want)
	}
}

// Whatever stands in a request, what Check lets through comes apart without a
// panic, and as encoding/json has it.
func FuzzText(f *testing.F) {
	for _, seed := range []string{
		`{"a": 1, "a": [2, {"b": "}]\"\\"}], "\u00e9\ud800": null}`, ` [ "],[", {"]": 2} , -1.5e+7 ,true ] `,
		`"\u2028\n` + "\xff" + `"`, `{} {}`, `[`, `0`, strings.Repeat("[", 33) + strings.Repeat("]", 33),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		checkQuoted(t, strings.ToValidUTF8(string(raw), "?"))
		if err := rawjson.Check(raw); (err == nil || errors.Is(err, rawjson.ErrTooDeep)) != json.Valid(raw) {
			t.Fatalf("%q: %v", raw, err)
		} else if err != nil {
			return
		}
		switch rawjson.KindOf(raw) {
		case rawjson.Object:
			checkMembers(t, raw)
		case rawjson.List:
			checkElements(t, raw)
		case rawjson.String:
			var want string
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got, ok := rawjson.Unquote(bytes.TrimSpace(raw)); !ok || got != want {
				t.Errorf("%q: %q, want %q", raw, got, want)
			}
		default:
		}
	})
}

// A tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func checkMembers(t tester, raw []byte) {
	t.Helper()
	var got, fromString [][2]string
	for name, value := range rawjson.Members(raw) {
		got = append(got, [2]string{name, string(value)})
	}
	for name, value := range rawjson.Members(string(raw)) {
		fromString = append(fromString, [2]string{name, value})
	}
	want := decoded(t, raw)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", raw, diff)
	}
	if diff := cmp.Diff(want, fromString); diff != "" {
		t.Errorf("%s as a string: %s", raw, diff)
	}
}

func checkElements(t tester, raw []byte) {
	t.Helper()
	var want []json.RawMessage
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, slices.Collect(rawjson.Elements(json.RawMessage(raw))), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: %s", raw, diff)
	}
}

func checkQuoted(t tester, text string) {
	t.Helper()
	quoted := rawjson.AppendQuoted(nil, text)
	var back string
	if err := json.Unmarshal(quoted, &back); err != nil || back != text {
		t.Errorf("%q came back as %q, %v", text, back, err)
	}
	if own, ok := rawjson.Unquote(quoted); !ok || own != text {
		t.Errorf("%q came back as %q", text, own)
	}
}

// decoded is what the decoder makes of an object.
func decoded(t tester, raw []byte) (list [][2]string) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		list = append(list, [2]string{name.(string), string(value)})
	}
	return list
}

// object draws a JSON object as odd as they come: repeated names, spaces
// anywhere, brackets and quotes in strings.
func object(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\t\n", "\r "})
	text := rapid.SampledFrom([]string{`""`, `"a"`, `"A"`, `"}{"`, `"\\"`, `"\""`, `"\\\""`, `"],["`, `"\u00e9 é"`, "\"\xff\"", `"a:b,c"`})
	plain := rapid.SampledFrom([]string{"0", "-1.5e+7", "true", "false", "null", "[]", "{}", `["]", {"}": 1}]`})
	var parts []string
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		value := plain.Draw(t, "value")
		switch {
		case depth < 2 && rapid.Bool().Draw(t, "nested"):
			value = object(t, depth+1)
		case rapid.Bool().Draw(t, "string"):
			value = text.Draw(t, "text")
		}
		parts = append(parts, space.Draw(t, "s")+text.Draw(t, "name")+space.Draw(t, "s")+":"+space.Draw(t, "s")+value+space.Draw(t, "s"))
	}
	return space.Draw(t, "s") + "{" + space.Draw(t, "s") + strings.Join(parts, ",") + "}" + space.Draw(t, "s")
}

package mpaas_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/campaign-scheduler/scheduler/dispatch/mpaas"
)

// Objects come apart as encoding/json's decoder takes them, token by token.
func TestMembers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(object(t, 0))
		got, err := mpaas.Members(raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(decoded(t, raw), got); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	})
}

// Lists come apart as encoding/json takes them.
func TestElements(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		items := make([]string, rapid.IntRange(0, 3).Draw(t, "elements"))
		for i := range items {
			items[i] = rapid.OneOf(rapid.Just(object(t, 1)), rapid.SampledFrom([]string{"0 ", ` "],["`, "[]", "\tnull", `[[1], {"]": 2}] `})).Draw(t, "element")
		}
		raw := []byte("[" + strings.Join(items, ",") + " ]")
		var want []json.RawMessage
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, mpaas.Elements(raw), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	})
}

func TestMembersOfWhatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", " ", "x", "[1]", `"{}"`, "null", "{", `{"a":1`, `{"a":1}{`, `{"a":1} 2`, `{"a" 1}`, `{,}`} {
		if got, err := mpaas.Members([]byte(raw)); err == nil {
			t.Errorf("%s: got %v", raw, got)
		}
	}
}

// decoded is what the decoder makes of an object.
func decoded(t *rapid.T, raw []byte) (list [][2]string) {
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

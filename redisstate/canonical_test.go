package redisstate

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCanonical_has_one_form(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		` null `:                    `null`,
		"[ 1 ,\t2,\r\n3 ]":          `[1,2,3]`,
		`{"b":1,"a":2}`:             `{"a":2,"b":1}`,
		`{"a":1,"b":2}`:             `{"a":1,"b":2}`,
		`{"":1,"a":{"d":1,"c":[]}}`: `{"":1,"a":{"c":[],"d":1}}`,
		`{"b":{"y":1,"x":2},"a":[{"q":1,"p":2}]}`:      `{"a":[{"p":2,"q":1}],"b":{"x":2,"y":1}}`,
		`"\u0061\/\u003c\u2028"`:                       "\"a/<\u2028\"",
		`"\u00E9\uD83D\uDE00"`:                         `"é😀"`,
		`"\b\f\n\r\t\"\\\u0000\u001F"`:                 `"\b\f\n\r\t\"\\\u0000\u001f"`,
		`"\u0008\u000c\u000A\u000d\u0009\u0022\u005C"`: `"\b\f\n\r\t\"\\"`,
		`"\uD800"`:                               `"\ud800"`,
		`"\uD800\u0041"`:                         `"\ud800A"`,
		`"\uDC00\uD800\uDC00"`:                   "\"\\udc00\U00010000\"",
		`[1.0,1e5,1E+5,-0,12345678901234567890]`: `[1.0,1e5,1E+5,-0,12345678901234567890]`,
		`{"\u0062":1,"a":2}`:                     `{"a":2,"b":1}`,
		"{\"\\n\":1,\"\\t\":2,\"!\":3}":          "{\"\\t\":2,\"\\n\":1,\"!\":3}", // by the name's bytes, not by its escapes
		`{"é":1,"z":2,"\ud800":3}`:               `{"z":2,"é":1,"\ud800":3}`,
	} {
		got, err := canonical([]byte(in), false)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
		if again, err := canonical(got, false); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: not stable: %s, %v", in, again, err)
		}
	}
}

func TestCanonical_sorts_large_objects(t *testing.T) {
	t.Parallel()
	names := make(map[string]int)
	for i := range 500 {
		names[strings.Repeat("k", i%7)+string(rune('a'+i%26))+strings.Repeat("z", i/26)] = i
	}
	want, err := json.Marshal(names) // encoding/json sorts the names of a map
	if err != nil {
		t.Fatal(err)
	}
	members := make([]string, 0, len(names))
	for name, i := range names {
		text, _ := json.Marshal(map[string]int{name: i})
		members = append(members, strings.Trim(string(text), "{}"))
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	got, err := canonical([]byte("{"+strings.Join(members, ",")+"}"), false)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %s, %v; want %s", got, err, want)
	}
}

// anyJSON draws values as encoding/json decodes them.
func anyJSON(depth int) *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Float64().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	inner := anyJSON(depth - 1)
	return rapid.OneOf(append(scalars, rapid.SliceOfN(inner, 0, 4).AsAny(), rapid.MapOfN(rapid.String(), inner, 0, 20).AsAny())...)
}

func TestCanonical_keeps_the_meaning(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := anyJSON(3).Draw(t, "value")
		plain, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, plain, "\t", "  "); err != nil {
			t.Fatal(err)
		}
		a, errA := canonical(plain, true)
		b, errB := canonical(indented.Bytes(), false)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%s, %v and %s, %v", a, errA, b, errB)
		}
		var before, after any
		if err := json.Unmarshal(plain, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(a, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s means %v, %v; want %v", a, after, err, before)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, text := range []string{
		`{"b":[1,{"y":null,"x":true}],"a":"\ud83d\ude00\u00e9\n"}`, `"\ud800\udc00"`, `[[[]]]`, ` 1 `, `{"a":1,"a":2}`, `{"\ud800":1,"\udfff":2}`, "\"\xff\"", `{`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := canonical(text, false)
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q, which is not JSON", text, got)
		}
		if again, err := canonical(got, false); err != nil || !bytes.Equal(got, again) {
			t.Fatalf("%q is not stable: %q, %v", got, again, err)
		}
		var before, after any
		if errBefore, errAfter := json.Unmarshal(text, &before), json.Unmarshal(got, &after); (errBefore == nil) != (errAfter == nil) ||
			!reflect.DeepEqual(before, after) {
			t.Fatalf("%q means %v (%v); %q means %v (%v)", text, before, errBefore, got, after, errAfter)
		}
	})
}

package redisstate

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// picky fails in ways that repeat what it was given.
type picky struct{ Secret string }

func (p picky) MarshalJSON() ([]byte, error) { return nil, errors.New("cannot marshal " + p.Secret) }

func (p *picky) UnmarshalJSON(text []byte) error {
	return errors.New("cannot unmarshal " + string(text))
}

func TestCodec_errors_hold_no_values_and_keep_their_cause(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry"
	_, err := NewConfig("a", "", picky{canary})
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v; want %v without the value", what, err, want)
		}
	}
	check("marshal", err, ErrInvalidValue)
	config, err := NewConfig("a", "", map[string]any{"n": canary, "list": []any{1, canary}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Decode[picky](config)
	check("unmarshal", err, ErrCorrupt)
	check("unmarshal into the caller's", config.Unmarshal(new(picky)), ErrCorrupt)
	check("unmarshal into nothing", config.Unmarshal(nil), ErrInvalidValue)
	check("unmarshal into a nil pointer", config.Unmarshal((*doc)(nil)), ErrInvalidValue)
	check("unmarshal into a value", config.Unmarshal(doc{}), ErrInvalidValue)
	_, err = Decode[struct{ N int }](config)
	check("wrong type of field", err, ErrCorrupt)
	var cause *json.UnmarshalTypeError
	if !errors.As(err, &cause) || !strings.Contains(err.Error(), "N needs a int") {
		t.Errorf("the cause or the field is missing: %v", err)
	}
	_, err = Decode[struct{ List []time.Time }](config)
	check("custom field", err, ErrCorrupt)
	_, err = Decode[[]int](config)
	check("wrong type", err, ErrCorrupt)
	if _, err := Decode[doc](Config{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("the zero Config gave %v", err)
	}
	check("unmarshal the zero Config", Config{}.Unmarshal(new(doc)), ErrNotFound)
	_, err = NewConfig("a", "", math.Inf(1))
	check("infinite", err, ErrInvalidValue)
}

// A Codec may name keys of maps in the path of a field, as encoding/json/v2 does.
func TestDecodeError_names_fields_only(t *testing.T) {
	t.Parallel()
	type step struct {
		Name  string `json:"name,omitempty"`
		Limit int
	}
	type base struct{ ID int }
	type task struct {
		base
		Steps map[string][]*step `json:"steps"`
		Any   any
	}
	for path, want := range map[string]string{
		"":                     "into redisstate.task",
		"C4n4ry":               "into redisstate.task",
		"ID":                   "field ID needs a int",
		"steps.name":           "field steps.name needs a int",
		"steps.Limit":          "field steps.Limit needs a int",
		"steps.C4n4ry.0.name":  "something in field steps needs to be a int",
		"Any.C4n4ry":           "something in field Any needs to be a int",
		"steps.name.C4n4ry":    "something in field steps.name needs to be a int",
		"steps.name,omitempty": "something in field steps needs to be a int",
	} {
		err := decodeError(new(task), &json.UnmarshalTypeError{Value: "string", Type: reflect.TypeFor[int](), Field: path})
		if !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "C4n4ry") {
			t.Errorf("%s: got %v; want %q", path, err, want)
		}
	}
	if err := decodeError(new(task), &json.UnmarshalTypeError{Field: "ID"}); !strings.HasSuffix(err.Error(), "redisstate.task") {
		t.Errorf("without a type: %v", err)
	}
}

// A type may hold itself.
type tree map[string]tree

func TestDecodeError_ends_for_a_type_of_itself(t *testing.T) {
	t.Parallel()
	config, err := NewConfig("a", "", map[string]any{"a": 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode[tree](config); !errors.Is(err, ErrCorrupt) || !strings.HasSuffix(err.Error(), "into redisstate.tree") {
		t.Errorf("got %v", err)
	}
	if err := decodeError(new(tree), &json.UnmarshalTypeError{Type: reflect.TypeFor[int](), Field: "a.b"}); !strings.HasSuffix(err.Error(), "into redisstate.tree") {
		t.Errorf("got %v", err)
	}
}

func TestConfig_JSON_is_a_copy(t *testing.T) {
	t.Parallel()
	config, err := NewConfig("a", "wf", json.RawMessage(` [1, 2] `))
	if err != nil {
		t.Fatal(err)
	}
	config.JSON()[1] = '9'
	if got := string(config.JSON()); got != "[1,2]" || config.Size() != 5 {
		t.Fatalf("got %s of size %d", got, config.Size())
	}
	if (Config{}).JSON() != nil || (Config{}).Size() != 0 || !(Config{}).IsZero() || config.IsZero() {
		t.Fatal("the zero Config is not empty")
	}
}

func TestContext_carries_store_and_config(t *testing.T) {
	t.Parallel()
	store := newStore(t, newClient(t, newServer(t)), quiet())
	config, err := NewConfig("a", "wf", 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithConfig(NewContext(t.Context(), store), config)
	if got, ok := StoreFromContext(ctx); !ok || got != ConfigStore(store) {
		t.Error("the store is not in the context")
	}
	if got, ok := FromContext(ctx); !ok || got != config {
		t.Error("the config is not in the context")
	}
	if _, ok := StoreFromContext(t.Context()); ok {
		t.Error("a store from nowhere")
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("a config from nowhere")
	}
}

func TestTyped_refuses_nil(t *testing.T) {
	t.Parallel()
	store := newStore(t, newClient(t, newServer(t)), quiet())
	if _, err := For[doc](store).Set(t.Context(), "", "a", nil); !errors.Is(err, ErrInvalidValue) {
		t.Fatalf("got %v", err)
	}
}

func TestTyped_GetMany_gives_what_decodes(t *testing.T) {
	t.Parallel()
	store := newStore(t, newClient(t, newServer(t)), quiet())
	if _, err := store.Set(t.Context(), Entry{ID: "a", Value: doc{"a", 1}}, Entry{ID: "b", Value: "no doc"}); err != nil {
		t.Fatal(err)
	}
	found, err := For[doc](store).GetMany(t.Context(), ID("a"), ID("b"), ID("c"))
	if !errors.Is(err, ErrCorrupt) || len(found) != 1 || found[ID("a")].N != 1 {
		t.Fatalf("got %v, %v", found, err)
	}
}

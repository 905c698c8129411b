package spec

import (
	"encoding"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills the types of this package from YAML nodes. It is stricter than
// the library's own decoding and remembers the line of every field, so that
// later checks can name it.
type decoder struct {
	file  string
	lines map[string]int // field path -> line
}

func (d *decoder) problem(n *yaml.Node, path, what, remedy string) error {
	return &FileError{File: d.file, Line: n.Line, Field: path, What: what, Remedy: remedy}
}

// into decodes n into v.
func (d *decoder) into(n *yaml.Node, path string, v reflect.Value) error {
	d.lines[path] = n.Line
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return d.problem(n, path, "anchors and aliases are not supported", "write the value out")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && v.Kind() != reflect.Interface:
		return d.problem(n, path, "has no value", "give it one or remove the field")
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return d.text(n, path, text)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.into(n, path, v.Elem())
	case reflect.Struct:
		return d.fields(n, path, v)
	case reflect.Slice:
		return d.elements(n, path, v)
	case reflect.Map:
		return d.entries(n, path, v)
	case reflect.Interface:
		value, err := d.value(n, path)
		if err == nil && value != nil {
			v.Set(reflect.ValueOf(value))
		}
		return err
	default:
		return d.scalar(n, path, v)
	}
}

func (d *decoder) text(n *yaml.Node, path string, into encoding.TextUnmarshaler) error {
	if n.Kind != yaml.ScalarNode {
		return d.problem(n, path, "is "+kindOf(n), "write a duration such as 500ms, 30s or 5m")
	}
	if err := into.UnmarshalText([]byte(n.Value)); err != nil {
		return d.problem(n, path, err.Error(), "write a duration such as 500ms, 30s or 5m")
	}
	return nil
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value) error {
	if n.Kind != yaml.ScalarNode {
		return d.problem(n, path, "is "+kindOf(n), "write a single value")
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.ShortTag() != "!!bool" {
			return d.problem(n, path, quote(n.Value)+" is not a boolean", "write true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if err != nil {
			return d.problem(n, path, quote(n.Value)+" is not a whole number", "write one such as 3")
		}
		v.SetInt(i)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return d.problem(n, path, quote(n.Value)+" is not a number", "write one such as 1.5")
		}
		v.SetFloat(f)
	default:
		panic("spec: no decoding for " + v.Type().String())
	}
	return nil
}

// fields decodes a mapping into a struct and refuses what the struct does not
// have.
func (d *decoder) fields(n *yaml.Node, path string, v reflect.Value) error {
	known := map[string]int{}
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("yaml"); name != "" && name != "-" {
			known[name] = i
		}
	}
	return d.pairs(n, path, func(key, value *yaml.Node, at string) error {
		i, ok := known[key.Value]
		if !ok {
			return d.problem(key, join(path, quoteKey(key.Value)), "unknown field",
				"use "+list(slices.Sorted(maps.Keys(known))))
		}
		return d.into(value, at, v.Field(i))
	})
}

func (d *decoder) elements(n *yaml.Node, path string, v reflect.Value) error {
	if n.Kind != yaml.SequenceNode {
		return d.problem(n, path, "is "+kindOf(n), "write a list")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, child := range n.Content {
		if err := d.into(child, fmt.Sprintf("%s[%d]", path, i), v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) entries(n *yaml.Node, path string, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	return d.pairs(n, path, func(key, value *yaml.Node, at string) error {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.into(value, at, e); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
		return nil
	})
}

// pairs walks a mapping whose keys are unique scalars.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node, at string) error) error {
	if n.Kind != yaml.MappingNode {
		return d.problem(n, path, "is "+kindOf(n), "write a mapping (name: value)")
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" || key.Anchor != "" {
			return d.problem(key, path, "has a key that is not a plain name", "write name: value")
		}
		at := join(path, quoteKey(key.Value))
		if seen[key.Value] {
			return d.problem(key, at, "is there twice", "remove one of them")
		}
		seen[key.Value] = true
		if err := each(key, value, at); err != nil {
			return err
		}
	}
	return nil
}

// value decodes n into what encoding/json would make of it.
func (d *decoder) value(n *yaml.Node, path string) (any, error) {
	d.lines[path] = n.Line
	switch n.Kind {
	case yaml.MappingNode:
		var m map[string]any
		err := d.entries(n, path, reflect.ValueOf(&m).Elem())
		return m, err
	case yaml.SequenceNode:
		var s []any
		err := d.elements(n, path, reflect.ValueOf(&s).Elem())
		return s, err
	default:
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, d.problem(n, path, quote(n.Value)+" is not a value of its kind", "put it in quotes to have it as text")
	}
	switch v := v.(type) {
	case nil, bool, int, int64, uint64, string:
		return v, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, d.problem(n, path, quote(n.Value)+" has no JSON form", "write a finite number")
		}
		return v, nil
	}
	return n.Value, nil // dates and the like stay what was written
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// quoteKey leaves ordinary names as they are.
func quoteKey(name string) string {
	if len(name) <= 40 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }) {
		return name
	}
	return quote(name)
}

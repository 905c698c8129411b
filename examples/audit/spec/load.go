package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes bounds a workflow file.
const MaxFileBytes = 8 << 20

// Load reads the workflow file at path. What is wrong with it is a *FileError.
func Load(path string) (*Workflow, error) {
	refuse := func(what string) error {
		return &FileError{File: path, What: what, Remedy: "name a workflow file (YAML)"}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse("no such file")
	case err == nil && !info.Mode().IsRegular():
		return nil, refuse("is not a file")
	case err == nil && info.Size() > MaxFileBytes:
		return nil, refuse(fmt.Sprintf("is larger than %d bytes", MaxFileBytes))
	}
	data, err := os.ReadFile(path)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, refuse("cannot be read: " + pathErr.Err.Error())
	}
	return Parse(path, data)
}

// Parse is Load for data at hand; file is the name used in errors.
func Parse(file string, data []byte) (*Workflow, error) {
	w := &Workflow{With: map[string]any{}, file: file}
	if err := yaml.Unmarshal(data, &w.root); err != nil {
		return nil, w.misread(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	switch err := dec.Decode(w); {
	case errors.Is(err, io.EOF):
		return nil, w.problem(0, "", "is empty", "write a workflow: id and tasks")
	case err != nil:
		return nil, w.misread(err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, w.problem(0, "", "holds more than one document", "keep one workflow per file")
	}
	return w, nil
}

// What the library says in the text of its errors only.
var (
	yamlLine     = regexp.MustCompile(`line (\d+): (.*)`)
	unknownField = regexp.MustCompile(`field (.*) not found in type spec\.(\w+)`)
	wrongKind    = regexp.MustCompile("^cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.*)$")
)

// misread tells what the library could not read, the first thing if there are
// several.
func (w *Workflow) misread(err error) error {
	line, what := 0, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		line, _ = strconv.Atoi(m[1])
		what = m[2]
	}
	if m := unknownField.FindStringSubmatch(what); m != nil {
		return w.problem(line, m[1], "unknown field", "use "+list(fieldsOf(m[2])))
	}
	if m := wrongKind.FindStringSubmatch(what); m != nil {
		return w.wrongKind(line, m[1], m[2], m[3])
	}
	if _, ok := errors.AsType[*yaml.TypeError](err); ok {
		return w.problem(line, "", what, "mend that line")
	}
	return w.problem(line, "", "is not YAML: "+what, "mend the syntax")
}

// wrongKind tells of a value that is of another kind than its field; tag and
// goType are the library's words for the two, shown is the start of a scalar.
func (w *Workflow) wrongKind(line int, tag, shown, goType string) error {
	what := "is " + kindOf(tag)
	if shown != "" {
		what += ", " + quote(shown)
	}
	return w.problem(line, keyOf(&w.root, line, "!!"+tag, shown), what, "it needs "+wanted(goType))
}

func kindOf(tag string) string {
	switch tag {
	case "str":
		return "text"
	case "int", "float":
		return "a number"
	case "bool":
		return "true or false"
	case "map":
		return "a mapping"
	case "seq":
		return "a list"
	}
	return "of another kind"
}

// wanted is what a field of a Go type takes.
func wanted(goType string) string {
	switch name, ours := strings.CutPrefix(strings.TrimPrefix(goType, "*"), "spec."); {
	case goType == "time.Duration":
		return "a time like 30s or 5m"
	case goType == "int":
		return "a whole number"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["):
		return "a mapping, like {name: value}"
	case ours && name != "Type":
		return "a mapping with " + list(fieldsOf(name))
	}
	return "text"
}

// keyOf is the key of the first value on a line that is of a kind and, if it is
// a scalar, starts as shown; "" if there is none.
func keyOf(n *yaml.Node, line int, tag, shown string) string {
	if n.Kind == yaml.MappingNode {
		for pair := range slices.Chunk(n.Content, 2) {
			start := strings.TrimSuffix(shown, "...") // the library shortens
			if v := pair[1]; v.Line == line && v.ShortTag() == tag && strings.HasPrefix(v.Value, start) {
				return pair[0].Value
			}
		}
	}
	for _, inner := range n.Content { // not through aliases, which may lead in circles
		if key := keyOf(inner, line, tag, shown); key != "" {
			return key
		}
	}
	return ""
}

// line is where a field is written, or else what should have held it.
func (w *Workflow) line(field string) int {
	at := &w.root
	path := "[0]." + field // the root is the document
	for name := range strings.FieldsFuncSeq(path, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		next := child(at, name)
		if next == nil {
			break
		}
		at = next
	}
	return at.Line
}

// child finds a node by its key or its index.
func child(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for pair := range slices.Chunk(n.Content, 2) {
			if pair[0].Value == name {
				return pair[1]
			}
		}
		return nil
	}
	if i, err := strconv.Atoi(name); err == nil && i < len(n.Content) {
		return n.Content[i]
	}
	return nil
}

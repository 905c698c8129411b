package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFileBytes bounds a workflow file.
const MaxFileBytes = 8 << 20

// ErrTooLarge is wrapped by the problem of a file that exceeds MaxFileBytes, or
// of a task config that exceeds Rules.MaxConfigBytes.
var ErrTooLarge = errors.New("too large")

// Rules are what a workflow file is checked against.
type Rules struct {
	Tools          Tools // what basic tasks can run
	MaxConfigBytes int   // bound of one normalized config, in bytes of JSON
	// Settle may complete and change the inputs that the file gives; its error
	// is Parse's. Defaults to leaving them as they are.
	Settle func(with map[string]any) error
}

// Tools tells what tools there are.
type Tools interface {
	// Names lists the tools, sorted.
	Names() []string
	// Params lists the fields that a tool reads from with.
	Params(tool string) (required, optional []string, ok bool)
}

// Load reads the workflow file at path and checks it. What is wrong with it is
// a *FileError.
func Load(path string, rules Rules) (*Workflow, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, rules)
}

func readFile(path string) ([]byte, error) {
	refuse := func(what, remedy string, cause error) error {
		return &FileError{File: shown(path), What: what, Remedy: remedy, Err: cause}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refuse("no such file", "name a workflow file (YAML)", err)
	case err != nil:
		return nil, refuse("cannot be read: "+plain(err), "name a readable workflow file (YAML)", err)
	case !info.Mode().IsRegular():
		return nil, refuse("is not a file", "name a workflow file (YAML)", nil)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, refuse("cannot be read: "+plain(err), "name a readable workflow file (YAML)", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	_ = f.Close() // read to its end
	if err != nil {
		return nil, refuse("cannot be read: "+plain(err), "name a readable workflow file (YAML)", err)
	}
	if len(data) > MaxFileBytes {
		return nil, refuse(fmt.Sprintf("is larger than %d bytes", MaxFileBytes), "split the workflow", ErrTooLarge)
	}
	return data, nil
}

// plain is err without the path that is said already.
func plain(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// Parse is Load for data at hand; file is the name used in problems.
func Parse(file string, data []byte, rules Rules) (*Workflow, error) {
	file = shown(file)
	root, err := parseYAML(file, data)
	if err != nil {
		return nil, err
	}
	w := &Workflow{file: file, lines: map[string]int{}}
	d := decoder{file: file, lines: w.lines}
	if err := d.into(root, "", reflect.ValueOf(w).Elem()); err != nil {
		return nil, err
	}
	if w.With == nil {
		w.With = map[string]any{}
	}
	if rules.Settle != nil {
		if err := rules.Settle(w.With); err != nil {
			return nil, err
		}
	}
	if err := w.validate(rules); err != nil {
		return nil, err
	}
	w.normalize()
	if err := w.checkSizes(rules.MaxConfigBytes); err != nil {
		return nil, err
	}
	return w, nil
}

// yamlLine finds the line in the library's syntax errors, which have no type
// of their own.
var yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)

func parseYAML(file string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, &FileError{File: file, What: "is empty", Remedy: "write a workflow: id and tasks"}
	}
	if err != nil {
		return nil, syntax(file, err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, &FileError{File: file, Line: more.Line, What: "holds more than one document", Remedy: "keep one workflow per file"}
	case !errors.Is(err, io.EOF):
		return nil, syntax(file, err)
	}
	return doc.Content[0], nil
}

func syntax(file string, err error) error {
	p := &FileError{File: file, What: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "), Remedy: "mend the syntax", Err: err}
	if m := yamlLine.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: ")); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.What = "is not YAML: " + m[2]
	}
	return p
}

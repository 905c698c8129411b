package spec

import (
	"fmt"
	"strings"
	"unicode"
)

// FileError is what is wrong with a workflow file. Its text is one line.
type FileError struct {
	File   string // as the caller named it
	Line   int    // 1-based; 0 if the problem has no line
	Field  string // path of the field, for example tasks[2].on_success.next; "" for the file as a whole
	What   string // what is wrong
	Remedy string // what would be right
}

// Error gives file, line, field, problem and remedy in one line.
func (e *FileError) Error() string {
	at := cut(e.File)
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, e.Line)
	}
	if e.Field != "" {
		at += ": " + cut(e.Field)
	}
	return fmt.Sprintf("%s: %s; %s", at, cut(e.What), cut(e.Remedy))
}

func (w *Workflow) problem(line int, field, what, remedy string) error {
	return &FileError{File: w.file, Line: line, Field: field, What: what, Remedy: remedy}
}

// at makes the problem of a field.
func (w *Workflow) at(field, what, remedy string) error {
	return w.problem(w.line(field), field, what, remedy)
}

// cut makes one line of text, of a length that can be read: it may repeat parts
// of the file.
func cut(s string) string {
	const limit = 200
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// quote shows the start of a value from the file, control characters escaped.
func quote(s string) string {
	const limit = 40
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:limit], ""))
}

// list joins names for a remedy: "a, b or c".
func list(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

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
	Err    error  // cause, if there is one
}

// Error gives file, line, field, problem and remedy in one line.
func (p *FileError) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	b.WriteString(": ")
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(oneLine(p.What))
	if p.Remedy != "" {
		b.WriteString("; " + oneLine(p.Remedy))
	}
	return b.String()
}

// oneLine makes text that may repeat parts of the file fit for one.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	const limit = 300
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// Unwrap gives the cause.
func (p *FileError) Unwrap() error { return p.Err }

// quote shows the start of a value from the file: long ones are cut, control
// characters are escaped.
func quote(s string) string {
	const limit = 40
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:limit], ""))
}

// shown is a file name fit for a line of text.
func shown(file string) string {
	if len(file) <= 200 && !strings.ContainsFunc(file, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return file
	}
	return quote(file)
}

// list joins names for a remedy: "a, b or c".
func list(names []string) string {
	switch len(names) {
	case 0:
		return "none"
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

package check

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var outside = regexp.MustCompile(`^(\..+|_.*|vendor|testdata|node_modules)$`)

// count counts the Go files of the tree at root, by directory: slash-separated,
// relative to the tree.
func count(root string) (map[string]Package, error) {
	packages := map[string]Package{}
	for dirs := []string{"."}; len(dirs) > 0; dirs = dirs[1:] {
		entries, err := os.ReadDir(filepath.Join(root, dirs[0])) // sorted by name
		if err != nil {
			return nil, err
		}
		p, sum := Package{Package: filepath.ToSlash(dirs[0])}, sha256.New()
		for _, e := range entries {
			switch file := filepath.Join(dirs[0], e.Name()); {
			case e.IsDir() && !outside.MatchString(e.Name()):
				dirs = append(dirs, file)
			case e.Type().IsRegular() && strings.HasSuffix(file, ".go"):
				data, err := os.ReadFile(filepath.Join(root, file))
				if err != nil {
					return nil, err
				}
				_, _ = fmt.Fprintf(sum, "%s\x00%d\x00%s", e.Name(), len(data), data) // a hash takes everything
				p.add(data, strings.HasSuffix(file, "_test.go"))
			}
		}
		if p.SHA256 = fmt.Sprintf("%x", sum.Sum(nil)); p.Files > 0 {
			packages[p.Package] = p
		}
	}
	return packages, nil
}

var testName = regexp.MustCompile(`^Test($|[^\p{Ll}])`)

// add counts one file. It finds declarations of functions among the tokens: the
// word func at the start of a statement outside of all brackets. What follows
// is the name, or a receiver in parentheses.
func (p *Package) add(src []byte, tests bool) {
	p.Files++
	for range bytes.Lines(src) {
		p.Lines++
	}
	fset := token.NewFileSet()
	var s scanner.Scanner
	s.Init(fset.AddFile("", fset.Base(), len(src)), src, nil, 0)
	depth, previous, declared := 0, token.SEMICOLON, false
	for _, tok, text := s.Scan(); tok != token.EOF; _, tok, text = s.Scan() {
		switch tok {
		case token.LBRACE, token.LPAREN, token.LBRACK:
			depth++
		case token.RBRACE, token.RPAREN, token.RBRACK:
			depth--
		default:
		}
		if tests && declared && tok == token.IDENT && text != "TestMain" && testName.MatchString(text) {
			p.Tests++
		}
		declared = tok == token.FUNC && depth == 0 && previous == token.SEMICOLON
		if declared {
			p.Functions++
		}
		previous = tok
	}
}

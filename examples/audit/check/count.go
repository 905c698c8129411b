package check

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// Package is what was counted in one directory of Go files.
type Package struct {
	Package   string `json:"package"`
	Files     int    `json:"files"`
	Lines     int    `json:"lines"`
	Functions int    `json:"functions"`
	Tests     int    `json:"tests"`
	SHA256    string `json:"sha256"`
}

// Tree is what was counted in a source tree.
type Tree struct {
	Packages map[string]Package // by directory, slash-separated, relative to the tree
	Files    int                // of every kind
	Bytes    int64
	Kinds    map[string]int
	goFiles  map[string][]string // directory -> files
}

var outside = regexp.MustCompile(`^(\..+|_.*|vendor|testdata|node_modules)$`)

// Count counts the tree at root, except for the directory skip ("" for none).
func Count(root, skip string) (*Tree, error) {
	t := &Tree{Packages: map[string]Package{}, Kinds: map[string]int{}, goFiles: map[string][]string{}}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != root && (outside.MatchString(d.Name()) || skip != "" && file == filepath.Clean(skip)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return t.addFile(file, d)
	})
	if err != nil {
		return nil, err
	}
	for dir, files := range t.goFiles {
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return nil, err
		}
		p := Package{Package: filepath.ToSlash(rel)}
		if err := p.read(files); err != nil {
			return nil, err
		}
		t.Packages[p.Package] = p
	}
	return t, nil
}

func (t *Tree) addFile(file string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	t.Files++
	t.Bytes += info.Size()
	kind := d.Name()
	if dot := strings.LastIndexByte(kind, '.'); dot >= 0 {
		kind = kind[dot:]
	}
	t.Kinds[kind]++
	if kind == ".go" {
		t.goFiles[filepath.Dir(file)] = append(t.goFiles[filepath.Dir(file)], file)
	}
	return nil
}

func (p *Package) read(files []string) error {
	sort.Strings(files)
	var all bytes.Buffer
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s\x00%d\x00%s", filepath.Base(file), len(data), data)
		p.Files++
		p.Lines += countLines(data)
		functions, tests := countFunctions(data)
		p.Functions += functions
		if strings.HasSuffix(file, "_test.go") {
			p.Tests += tests
		}
	}
	p.SHA256 = hash(all.Bytes())
	return nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func countLines(data []byte) int {
	n := 0
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			n++
		}
		if err != nil {
			return n
		}
	}
}

var testName = regexp.MustCompile(`^Test($|[^\p{Ll}])`)

// countFunctions finds declarations among the tokens: the word func at the
// start of a statement outside of all brackets. What follows is the name, or a
// receiver in parentheses.
func countFunctions(src []byte) (functions, tests int) {
	fset := token.NewFileSet()
	var s scanner.Scanner
	s.Init(fset.AddFile("", fset.Base(), len(src)), src, nil, 0)
	depth, previous := 0, token.SEMICOLON
	declared := false // the last token was the func of a declaration
	for {
		_, tok, text := s.Scan()
		switch tok {
		case token.EOF:
			return functions, tests
		case token.LBRACE, token.LPAREN, token.LBRACK:
			depth++
		case token.RBRACE, token.RPAREN, token.RBRACK:
			depth--
		default:
		}
		if declared && tok == token.IDENT && text != "TestMain" && testName.MatchString(text) {
			tests++
		}
		declared = tok == token.FUNC && depth == 0 && previous == token.SEMICOLON
		if declared {
			functions++
		}
		previous = tok
	}
}

// countMarkers counts, per word, the lines of the tree's Go files that have it.
func (t *Tree) countMarkers(words map[string]int) (map[string]int, error) {
	out := make(map[string]int, len(words))
	for _, files := range t.goFiles {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for word := range words {
				for line := range strings.SplitSeq(string(data), "\n") {
					if strings.Count(line, word) > 0 {
						out[word]++
					}
				}
			}
		}
	}
	return out, nil
}

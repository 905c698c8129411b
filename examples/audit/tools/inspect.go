package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

type inspectInput struct {
	Tree    string `json:"tree"`
	Package string `json:"package"`
}

// packageFacts is what is known of one package.
type packageFacts struct {
	Package   string `json:"package"`
	Files     int    `json:"files"`
	Lines     int    `json:"lines"`
	Functions int    `json:"functions"` // declared, methods included
	Tests     int    `json:"tests"`     // functions TestXxx in _test.go files, TestMain aside
	SHA256    string `json:"sha256"`    // over name, size and content of its Go files, by name
}

// inspectPackage parses the Go files of one directory.
func inspectPackage(ctx context.Context, _ Call, in inspectInput) (any, error) {
	facts := packageFacts{Package: in.Package}
	root, err := openTree(in.Tree)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	entries, err := fs.ReadDir(root.FS(), in.Package)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, fmt.Errorf("%w: package: %w", ErrInput, err)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	for _, entry := range entries { // ReadDir sorts by name
		if !entry.Type().IsRegular() || path.Ext(entry.Name()) != ".go" {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		name := path.Join(in.Package, entry.Name())
		data, err := root.ReadFile(filepath.FromSlash(name))
		if err != nil {
			return nil, err
		}
		sum.Write(fmt.Appendf(nil, "%s\x00%d\x00", entry.Name(), len(data)))
		sum.Write(data)
		if err := parsing.within(ctx, func() error { return facts.add(name, data) }); err != nil {
			return nil, err
		}
	}
	facts.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return facts, nil
}

func (f *packageFacts) add(name string, data []byte) error {
	file, err := parser.ParseFile(token.NewFileSet(), name, data, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("%w: a Go file does not parse: %w", ErrInput, err)
	}
	f.Files++
	f.Lines += bytes.Count(data, []byte("\n"))
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		f.Lines++
	}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		f.Functions++
		if strings.HasSuffix(name, "_test.go") && fn.Recv == nil && isTest(fn.Name.Name) {
			f.Tests++
		}
	}
	return nil
}

func isTest(name string) bool {
	rest, ok := strings.CutPrefix(name, "Test")
	r, _ := utf8.DecodeRuneInString(rest)
	return ok && name != "TestMain" && !unicode.IsLower(r)
}

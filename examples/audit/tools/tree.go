package tools

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// openTree opens a source tree so that nothing outside it can be read, not
// even through a symbolic link.
func openTree(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: tree: %w", ErrInput, err)
	}
	return root, nil
}

// skipped tells whether a directory is no part of the sources: hidden ones,
// those that the go command leaves out, and dependencies.
func skipped(name string) bool {
	switch name {
	case "vendor", "testdata", "node_modules":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

type listInput struct {
	Tree string `json:"tree"`
}

// listPackages lists the directories that hold Go files, slash-separated and
// relative to the tree, "." being the tree.
func listPackages(ctx context.Context, _ Call, in listInput) (any, error) {
	root, err := openTree(in.Tree)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	packages := []string{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		dir := path.Dir(name)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir() && name != "." && skipped(d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular() && path.Ext(name) == ".go" && !slices.Contains(packages, dir):
			packages = append(packages, dir)
		}
		return nil
	})
	return map[string]any{"packages": packages, "count": len(packages)}, err
}

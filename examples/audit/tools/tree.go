package tools

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
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

// walk calls each for every regular file of the tree outside of skipped
// directories and outside of skip (a directory as the user wrote it, "" for
// none). Names are slash-separated and relative to the tree.
func walk(ctx context.Context, tree, skip string, each func(root *os.Root, name string) error) error {
	root, err := openTree(tree)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	without := relative(tree, skip)
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case d.IsDir() && name != "." && (skipped(d.Name()) || name == without):
			return fs.SkipDir
		case d.Type().IsRegular():
			return each(root, name)
		}
		return nil
	})
}

// relative is dir as a name in the tree, "" if it is elsewhere.
func relative(tree, dir string) string {
	if dir == "" {
		return ""
	}
	rel, err := filepath.Rel(tree, dir)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}

type listInput struct {
	Tree string `json:"tree"`
}

type listOutput struct {
	Packages []string `json:"packages"`
	Count    int      `json:"count"`
}

// listPackages lists the directories that hold Go files, "." being the tree.
func listPackages(ctx context.Context, _ Call, in listInput) (listOutput, error) {
	out := listOutput{Packages: []string{}}
	seen := map[string]bool{}
	err := walk(ctx, in.Tree, "", func(_ *os.Root, name string) error {
		if dir := path.Dir(name); path.Ext(name) == ".go" && !seen[dir] {
			seen[dir] = true
			out.Packages = append(out.Packages, dir)
		}
		return nil
	})
	out.Count = len(out.Packages)
	return out, err
}

type kindsInput struct {
	Tree string `json:"tree"`
	Skip string `json:"skip,omitempty"`
}

type kindsOutput struct {
	Files int            `json:"files"`
	Bytes int64          `json:"bytes"`
	Kinds map[string]int `json:"kinds"` // extension with its dot, or the name of a file without one -> files
}

// fileKinds counts the files of a tree by extension.
func fileKinds(ctx context.Context, _ Call, in kindsInput) (kindsOutput, error) {
	out := kindsOutput{Kinds: map[string]int{}}
	err := walk(ctx, in.Tree, in.Skip, func(root *os.Root, name string) error {
		info, err := root.Lstat(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		kind := path.Ext(name)
		if kind == "" {
			kind = path.Base(name)
		}
		out.Kinds[kind]++
		out.Files++
		out.Bytes += info.Size()
		return nil
	})
	return out, err
}

type markersInput struct {
	Tree    string `json:"tree"`
	Markers string `json:"markers"` // words, separated by commas
}

type markersOutput struct {
	Markers map[string]int `json:"markers"` // word -> lines of Go files that have it
}

// findMarkers counts the lines of Go files that hold a word such as FIXME.
func findMarkers(ctx context.Context, _ Call, in markersInput) (markersOutput, error) {
	out := markersOutput{Markers: map[string]int{}}
	for word := range strings.SplitSeq(in.Markers, ",") {
		if word = strings.TrimSpace(word); word != "" {
			out.Markers[word] = 0
		}
	}
	if len(out.Markers) == 0 {
		return out, fmt.Errorf("%w: markers names no word", ErrInput)
	}
	err := walk(ctx, in.Tree, "", func(root *os.Root, name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		data, err := root.ReadFile(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			for word := range out.Markers {
				if strings.Contains(line, word) {
					out.Markers[word]++
				}
			}
		}
		return nil
	})
	return out, err
}

//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirectoriesThatAnotherUserCanEnter(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("/tmp", "pgtest-unit-") //nolint:usetesting // TempDir may lie below a closed directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	below := filepath.Join(base, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	// MkdirTemp's own mode is 0700.
	if everybodyEnters(below) {
		t.Error("a directory below a closed one counts as open")
	}
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	if !everybodyEnters(below) {
		t.Error("a directory below one that can be entered counts as closed")
	}
	if everybodyEnters(filepath.Join(base, "missing")) {
		t.Error("a directory that does not exist counts as open")
	}
}

func TestNewerMajorVersionIsPreferred(t *testing.T) {
	t.Parallel()
	tests := map[string]int{
		"/usr/lib/postgresql/9/bin":           9,
		"/usr/lib/postgresql/17/bin":          17,
		"/opt/homebrew/opt/postgresql@16/bin": 16,
		"/opt/homebrew/opt/postgresql/bin":    0,
	}
	for dir, want := range tests {
		if got := major(dir); got != want {
			t.Errorf("major(%s) = %d, want %d", dir, got, want)
		}
	}
}

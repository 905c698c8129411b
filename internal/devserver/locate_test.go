//go:build unix

package devserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionLine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		line string
		good bool
	}{
		"a release":               {"temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)", true},
		"a build without version": {"temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)", true},
		"a newer major":           {"temporal version 9.0.0 (Server 2.0.0, UI 3.0.0)", true},
		"an old server":           {"temporal version 1.0.0 (Server 1.24.2, UI 2.27.1)", false},
		"another program":         {"temporal 3.2", false},
		"nothing":                 {"", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := checkVersion(test.line); (err == nil) != test.good {
				t.Errorf("checkVersion: %v, want good %v", err, test.good)
			}
		})
	}
}

// fakeCLI writes a program that answers --version.
func fakeCLI(t *testing.T, dir, version string) string {
	t.Helper()
	path := filepath.Join(dir, "temporal")
	script := "#!/bin/sh\necho 'temporal version 1.0.0 (Server " + version + ", UI 2.0.0)'\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLocateLooksInBinThenOnPath(t *testing.T) {
	tests := map[string]struct{ bin, path, want string }{
		"both good":         {"1.29.1", "1.30.0", "bin"},
		"only PATH":         {"", "1.30.0", "path"},
		"bin too old":       {"1.20.0", "1.30.0", "path"},
		"only bin":          {"1.29.1", "", "bin"},
		"PATH too old":      {"", "1.20.0", ""},
		"both too old":      {"1.20.0", "1.20.0", ""},
		"bin old, no other": {"1.20.0", "", ""},
		"neither":           {"", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root, other := t.TempDir(), t.TempDir()
			// The fake program needs none of PATH: its shell is given by name
			// and echo is built in.
			t.Setenv("PATH", other)
			want := map[string]string{}
			if test.bin != "" {
				want["bin"] = fakeCLI(t, filepath.Join(root, "bin"), test.bin)
			}
			if test.path != "" {
				want["path"] = fakeCLI(t, other, test.path)
			}
			got, err := Locate(t.Context(), root)
			if got != want[test.want] {
				t.Errorf("found %q, want %q; error %v", got, want[test.want], err)
			}
			if test.want == "" && (!errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "make deps-demo")) {
				t.Errorf("error %v, want ErrNoServer with the remedy", err)
			}
		})
	}
}

func TestRootIsFoundFromBelow(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := filepath.Join(root, "internal", "devserver"), mustGetwd(t); got != want {
		t.Errorf("root %s does not lead to %s", root, want)
	}
	t.Chdir(t.TempDir())
	if _, err := Root(); err == nil {
		t.Error("a root was found outside of the repository")
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOptionsAreCheckedBeforeAnythingStarts(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{LogLevel: "loud", StartTimeout: -1})
	if err == nil || !strings.Contains(err.Error(), "LogLevel") || !strings.Contains(err.Error(), "StartTimeout") {
		t.Errorf("start: %v, want both fields named", err)
	}
}

func TestStickyCacheSizeComesFromTheMakefile(t *testing.T) {
	tests := map[string]struct {
		value string
		size  int
		ok    bool
	}{
		"unset": {"", 0, false}, "none": {"0", 0, true}, "some": {"12", 12, true}, "nonsense": {"x", 0, false}, "negative": {"-1", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(StickyEnv, test.value)
			size, ok := StickyCacheSize()
			if ok != test.ok || ok && size != test.size {
				t.Errorf("got %d, %v", size, ok)
			}
		})
	}
}

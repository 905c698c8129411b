//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// ErrNoServer says that the machine has no usable redis-server.
var ErrNoServer = errors.New("redistest: no redis-server")

// minMajor is the oldest major version of redis-server that we test with.
const minMajor = 7

// brewPlaces are looked at after PATH: brew does not link every formula.
var brewPlaces = []string{
	"/opt/homebrew/bin", "/opt/homebrew/opt/redis/bin",
	"/usr/local/bin", "/usr/local/opt/redis/bin", "/usr/bin",
}

var versionPattern = regexp.MustCompile(`\bv=(\d+)\.`)

// Locate finds redis-server 7 or newer on PATH or where brew keeps it. The
// error is ErrNoServer with the remedy.
func Locate(ctx context.Context) (string, error) {
	path, err := lookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("%w on PATH or in brew's places: run `make deps-test`", ErrNoServer)
	}
	output, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s --version: %w", ErrNoServer, path, err)
	}
	match := versionPattern.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("%w: %s --version says %q", ErrNoServer, path, output)
	}
	if major, err := strconv.Atoi(string(match[1])); err != nil || major < minMajor {
		return "", fmt.Errorf("%w of version %d or newer: %s is %s; install a newer one", ErrNoServer, minMajor, path, match[0])
	}
	return path, nil
}

func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, place := range brewPlaces {
		path := filepath.Join(place, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

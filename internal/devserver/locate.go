//go:build unix

package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/compozy/temporal-redis/internal/procs"
)

// ErrNoServer says that neither bin/ nor PATH has a usable Temporal CLI.
var ErrNoServer = errors.New("devserver: no Temporal CLI with a development server")

// The oldest Temporal server that our tests were run on; the CLI tells it in
// its version line, also when it was built without a version of its own.
const minMajor, minMinor = 1, 29

var serverVersion = regexp.MustCompile(`\(Server (\d+)\.(\d+)\.\d+`)

// Root is the directory of this repository, found upwards from the working
// directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("devserver: find repository: %w", err)
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, toolsDir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("devserver: find repository: no %s/go.mod above %s; run inside the repository", toolsDir, start)
		}
	}
}

// Locate returns the path of a Temporal CLI with a development server: that of
// root/bin, else that on PATH if its server is 1.29 or newer. It uses no
// network. The error is ErrNoServer with the remedy.
func Locate(ctx context.Context, root string) (string, error) {
	own := ownPath(root)
	ownErr := check(ctx, own)
	if ownErr == nil {
		return own, nil
	}
	if !errors.Is(ownErr, os.ErrNotExist) {
		ownErr = fmt.Errorf("%s: %w", own, ownErr)
	}
	path, err := exec.LookPath("temporal")
	if err == nil {
		if path, err = filepath.Abs(path); err == nil {
			err = check(ctx, path)
		}
		if err == nil {
			return path, nil
		}
		return "", fmt.Errorf("%w: %s: %w: run `make deps-demo`", ErrNoServer, path, err)
	}
	if !errors.Is(ownErr, os.ErrNotExist) {
		return "", fmt.Errorf("%w: %w: run `make deps-demo`", ErrNoServer, ownErr)
	}
	return "", fmt.Errorf("%w in bin/ or on PATH: run `make deps-demo`", ErrNoServer)
}

func ownPath(root string) string { return filepath.Join(root, "bin", "temporal") }

// check says whether path is a CLI whose server is new enough.
func check(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = environ(os.TempDir())
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("--version: %w", err)
	}
	return checkVersion(string(output))
}

func checkVersion(output string) error {
	match := serverVersion.FindStringSubmatch(output)
	if match == nil {
		return fmt.Errorf("--version names no server: %.80q", output)
	}
	major, errMajor := strconv.Atoi(match[1])
	minor, errMinor := strconv.Atoi(match[2])
	if err := errors.Join(errMajor, errMinor); err != nil {
		return err
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("its server %d.%d is older than %d.%d", major, minor, minMajor, minMinor)
	}
	return nil
}

// environ is the environment of the CLI: nothing of the user's Temporal
// configuration, which it would read from variables and from the home
// directory.
func environ(home string) []string {
	return append(procs.Environ("TEMPORAL_", "HOME=", "XDG_CONFIG_HOME="), "HOME="+home, "XDG_CONFIG_HOME="+home)
}

//go:build unix

package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNoServer says that the machine has no PostgreSQL server programs.
var ErrNoServer = errors.New("pgtest: no PostgreSQL server")

// Debian keeps the servers out of PATH, one directory a major version; brew
// does not link versioned formulas.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/usr/local/pgsql/bin",
}

var versionInPath = regexp.MustCompile(`\d+`)

// Locate returns the directory with initdb, postgres, psql and pg_isready: of
// the newest version in the usual places, else on PATH. The error is
// ErrNoServer with the remedy.
func Locate() (string, error) {
	var found []string
	for _, pattern := range places {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("pgtest: %s: %w", pattern, err)
		}
		found = append(found, matches...)
	}
	slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(major(b), major(a)) })
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, filepath.Dir(path))
	}
	for _, dir := range found {
		if complete(dir) {
			return filepath.Abs(dir)
		}
	}
	return "", fmt.Errorf("%w in %v or on PATH: run `make deps-test`", ErrNoServer, places)
}

func major(dir string) int {
	number, err := strconv.Atoi(versionInPath.FindString(dir))
	if err != nil {
		return 0
	}
	return number
}

func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres", "psql", "pg_isready"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

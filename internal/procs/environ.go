//go:build unix

package procs

import (
	"os"
	"strings"
)

// Environ is the environment of this process without the variables whose name
// starts with one of the prefixes: Environ("TEMPORAL_", "REDIS_").
func Environ(without ...string) []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !hasAnyPrefix(entry, without) {
			kept = append(kept, entry)
		}
	}
	return kept
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

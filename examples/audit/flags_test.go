package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// What kills a Redis takes none by name, be it the embedded one, which is no process.
func TestChaosTakesNoRedis(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args    []string
		refused bool
	}{
		"alone":             {args: []string{"--chaos"}},
		"with a server":     {args: []string{"--chaos", "--redis", "redis://localhost:6379"}, refused: true},
		"with the embedded": {args: []string{"--redis", embedded, "--chaos"}, refused: true},
		"around the file":   {args: []string{"--redis", embedded, "a.yaml", "--chaos"}, refused: true},
	} {
		_, err := parseFlags(test.args, io.Discard)
		if (err != nil) != test.refused {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && (!errors.Is(err, errInput) || !strings.Contains(err.Error(), "--chaos")) {
			t.Errorf("%s: the error does not name --chaos: %v", name, err)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }

// called runs the command as from a shell.
func called(t *testing.T, env map[string]string, args ...string) (code int, out, err string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	lookup := func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
	code = run(context.WithoutCancel(t.Context()), args, streams{&stdout, &stderr}, lookup)
	return code, stdout.String(), stderr.String()
}

func TestRun_tells_how_it_is_called(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		code int
		out  string
		err  string
	}{
		"nothing":             {code: exitUsage, err: "usage:"},
		"help":                {args: []string{"--help"}, out: "usage:"},
		"help of a command":   {args: []string{"locks", "--help"}, err: "-json"},
		"no such command":     {args: []string{"lock"}, code: exitUsage, err: `no command "lock"`},
		"no such flag":        {args: []string{"locks", "--yaml"}, code: exitUsage, err: "-yaml"},
		"an argument":         {args: []string{"locks", "order-17"}, code: exitUsage, err: `got "order-17"`},
		"no workflow":         {args: []string{"watch"}, code: exitUsage, err: "one workflow id, or --all; got 0"},
		"two workflows":       {args: []string{"watch", "a", "--json", "b"}, code: exitUsage, err: "got 2"},
		"all and one":         {args: []string{"watch", "a", "--all"}, code: exitUsage, err: "neither"},
		"after nothing":       {args: []string{"watch", "a", "--after", "-1"}, code: exitUsage, err: "--after is -1"},
		"a version":           {args: []string{"version"}, out: "temporal-redis "},
		"completion":          {args: []string{"completion", "bash"}, out: "complete -W 'watch locks version completion help' temporal-redis"},
		"another shell":       {args: []string{"completion", "csh"}, code: exitUsage, err: "bash|zsh|fish"},
		"no Redis":            {args: []string{"locks"}, code: exitFailed, err: "no Redis given; set REDIS_URL (for locks REDIS_LOCK_URLS), or use --redis"},
		"a Redis that is off": {args: []string{"locks", "--redis", "redis://:C4n4ry@127.0.0.1:1"}, code: exitFailed, err: "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, err := called(t, nil, test.args...)
			if code != test.code || !strings.Contains(out, test.out) || !strings.Contains(err, test.err) {
				t.Errorf("it ended with %d and said %q and %q", code, out, err)
			}
			if strings.Contains(out+err, "C4n4ry") {
				t.Errorf("a password is in %q", out+err)
			}
		})
	}
}

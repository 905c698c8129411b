package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/rogpeppe/go-internal/testscript"
	sdkworker "go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/leak"
)

func TestMain(m *testing.M) {
	if size, ok := devserver.StickyCacheSize(); ok {
		sdkworker.SetStickyWorkflowCacheSize(size)
	}
	testscript.Main(checked{m}, map[string]func(){
		"audit": func() { os.Exit(realMain()) },
	})
}

// checked runs the tests and looks for goroutines that they left.
type checked struct{ m *testing.M }

func (c checked) Run() int {
	code := c.m.Run()
	if err := goleak.Find(leak.DeadDial()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goleak:", err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"genyaml": generate},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PLAIN", startPlain(t))
			return nil
		},
	})
}

// startPlain is a server that answers what the start asks of a single Redis, as
// one without Cluster that is no sentinel.
func startPlain(t *testing.T) (addr string) {
	t.Helper()
	s, err := server.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for command, refusal := range map[string]string{
		"CLUSTER":  "ERR This instance has cluster support disabled",
		"SENTINEL": "ERR unknown command 'SENTINEL', with args beginning with: 'get-master-addr-by-name' 'mymaster' ",
	} {
		if err := s.Register(command, func(c *server.Peer, _ string, _ []string) { c.WriteError(refusal) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Register("PING", func(c *server.Peer, _ string, _ []string) { c.WriteInline("PONG") }); err != nil {
		t.Fatal(err)
	}
	return s.Addr().String()
}

// generate writes a workflow file with something too long in it.
// usage: genyaml FILE config|id BYTES
func generate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: genyaml FILE config|id BYTES")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	id, tree := "a", "."
	if args[1] == "id" {
		id = strings.Repeat("x", n)
	} else {
		tree = strings.Repeat("x", n)
	}
	yaml := fmt.Sprintf("id: w\ntasks:\n  - { id: %s, type: basic, tool: { id: list_packages }, with: { tree: %s } }\n", id, tree)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(yaml), 0o600))
}

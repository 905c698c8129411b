package worker_test

import (
	"context"
	"log"
	"os"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/compozy/temporal-redis/worker"
)

// The three lines of adoption. Its lines are those of the README, which
// TestReadmeShowsTheExample holds; it is compiled, not run, since it needs a
// Temporal server.
func Example() {
	plugin, err := worker.NewPlugin(worker.Options{}) // REDIS_URL, or embedded:
	check(err)
	c, err := client.Dial(client.Options{Plugins: []client.Plugin{plugin}}) // the plugin reaches workers by itself
	check(err)
	w := sdkworker.New(c, "compozy", sdkworker.Options{}) // register, run
	check(w.Run(sdkworker.InterruptCh()))
	check(plugin.Close(context.Background()))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func TestReadmeShowsTheExample(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"plugin, err := worker.NewPlugin(worker.Options{})",
		"c, err := client.Dial(client.Options{Plugins: []client.Plugin{plugin}})",
		`w := sdkworker.New(c, "compozy", sdkworker.Options{})`,
	} {
		if !strings.Contains(string(readme), line) || !strings.Contains(string(source), "\t"+line) {
			t.Errorf("README and example do not share the line %s", line)
		}
	}
}

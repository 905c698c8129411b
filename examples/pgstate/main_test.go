package pgstate

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
)

// programs are what the test binary runs as a child process of itself, by the
// name in its environment.
var programs = map[string]func() int{}

const programVariable = "PGSTATE_PROGRAM"

func TestMain(m *testing.M) {
	if program, ok := programs[os.Getenv(programVariable)]; ok {
		os.Exit(program())
	}
	logging.Disable() // go-redis tells each connection that it does not get
	code := m.Run()
	if err := goleak.Find(leak.DeadDial()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goleak:", err)
		code = 1
	}
	os.Exit(code)
}

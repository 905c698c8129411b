//go:build unix

package procs

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// parentEnv makes the test binary a parent that starts a child and then ends as
// the value says.
const (
	parentEnv  = "PROCS_TEST_PARENT"
	scriptEnv  = "PROCS_TEST_SCRIPT"
	scratchEnv = "PROCS_TEST_SCRATCH"
)

func TestMain(m *testing.M) {
	if end := os.Getenv(parentEnv); end != "" {
		actAsParent(end)
	}
	goleak.VerifyTestMain(m)
}

// actAsParent starts the script with our own stdout and never returns.
func actAsParent(end string) {
	_, err := Start(Command{
		Path: shell, Args: []string{"-c", os.Getenv(scriptEnv)},
		Env: Environ(), Output: os.Stdout, Scratch: os.Getenv(scratchEnv),
	})
	if err != nil {
		fmt.Println("start:", err)
		os.Exit(1)
	}
	// The test sends a byte when it has seen the child run.
	_, _ = os.Stdin.Read(make([]byte, 1))
	switch end {
	case "exit":
		os.Exit(0)
	case "panic":
		panic("as asked")
	default: // the test sends a signal
		select {}
	}
}

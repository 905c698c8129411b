package locking

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(ContenderVariable); role != "" { // one of the processes that a test starts
		if err := contendFor(role, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, leak.DeadDial())
}

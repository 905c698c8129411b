package testsuite

import (
	"io"
	"sync"
	"testing"
)

// output is where a plugin logs during a test. What it does in the background may end
// a little later than the test if its time to close is short, and a test that is over
// takes no more.
type output struct {
	mu   sync.Mutex
	test io.Writer // nil: it is over
}

func outputOf(t testing.TB) *output {
	t.Helper()
	o := &output{test: t.Output()}
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.test = nil
	})
	return o
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.test == nil {
		return len(line), nil
	}
	return o.test.Write(line)
}

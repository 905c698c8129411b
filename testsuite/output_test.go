package testsuite

import (
	"io"
	"testing"
)

// With the test's own output this is a data race.
func TestOutputIsWrittenToWhileItsTestEnds(t *testing.T) {
	t.Parallel()
	stop, stopped := make(chan struct{}), make(chan error)
	t.Run("over", func(t *testing.T) {
		out, wrote := outputOf(t), make(chan struct{}, 1)
		go func() {
			var err error
			for err == nil {
				select {
				case <-stop:
					stopped <- nil
					return
				case wrote <- struct{}{}:
					_, err = io.WriteString(out, "\n")
				default:
					_, err = io.WriteString(out, "")
				}
			}
			stopped <- err
		}()
		<-wrote
	})
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

package contract

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// Tally counts the cases of one run of a suite. It is safe for concurrent use.
type Tally struct {
	suite string
	cases int
	kept  atomic.Int64
}

// Suite names the suite, for example ConfigStore.
func (t *Tally) Suite() string { return t.suite }

// Cases is how many cases the suite has.
func (t *Tally) Cases() int { return t.cases }

// Kept is how many of them ran and passed. Cases run in parallel after the
// suite's function returned: the number is final in the cleanups of the test
// that the suite was given, and in those of its parents.
func (t *Tally) Kept() int { return int(t.kept.Load()) }

// newTally logs the count when everything that ran under t is over.
func newTally(t *testing.T, suite string, cases int) *Tally {
	t.Helper()
	tally := &Tally{suite: suite, cases: cases}
	t.Cleanup(func() {
		line := fmt.Sprintf("%-24s %3d of %3d cases kept   %s", suite, tally.Kept(), cases, t.Name())
		t.Log(line)
		if err := note(os.Getenv(TallyFile), line); err != nil {
			t.Errorf("%s: %v", TallyFile, err)
		}
	})
	return tally
}

// TallyFile is the environment variable that names a file to which each suite appends a
// line of how many cases it kept: go test shows no log of what passes. Defaults to none.
const TallyFile = "TEMPORAL_REDIS_TEST_TALLY"

func note(file, line string) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n") // at once, so that lines of several processes stay whole
	return errors.Join(err, f.Close())
}

// keep counts a case that is over.
func (t *Tally) keep(tb testing.TB) {
	if !tb.Failed() {
		t.kept.Add(1)
	}
}

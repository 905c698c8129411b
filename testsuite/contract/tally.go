package contract

import (
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
	t.Cleanup(func() { t.Logf("contract %s: %d of %d cases kept", suite, tally.Kept(), cases) })
	return tally
}

// keep counts a case that is over.
func (t *Tally) keep(tb testing.TB) {
	if !tb.Failed() {
		t.kept.Add(1)
	}
}

package contract

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// CountersBackend is a fresh place for counters, as the tests of Counters need
// it.
type CountersBackend struct {
	// Open returns one more Counters on the same numbers, as another process
	// would have it, and closes it at the end of the test.
	Open func(tb testing.TB) *redisstate.Counters
	// Pass lets time pass for what is stored.
	Pass func(tb testing.TB, d time.Duration)
	// Flush makes the backend forget everything.
	Flush func(tb testing.TB)
	// Damage puts text in place of a counter's and a gauge's number; "" means
	// that neither counters nor gauges are what they should be.
	Damage func(tb testing.TB, name, text string)
}

// counterCase is one promise of redisstate.Counters.
type counterCase struct {
	name  string
	check func(tb testing.TB, b CountersBackend)
}

var counterCases = []counterCase{
	{"counts", counterCounts},
	{"counts over processes", counterOverProcesses},
	{"counts what many add at once", counterManyAdd},
	{"keeps gauges", counterGauges},
	{"keeps counters and gauges apart", counterKindsApart},
	{"shows everything at once", counterSnapshots},
	{"deletes", counterDeletes},
	{"refuses bad names", counterRefusesNames},
	{"refuses bad numbers", counterRefusesNumbers},
	{"bounds how many names there are", counterBoundsNames},
	{"begins again after a month without a write", counterExpires},
	{"begins again after a flush", counterForgets},
	{"exports what others count", counterExports},
	{"tells what is not a number", counterTellsCorrupt},
	{"tells a value of another type", counterTellsWrongType},
	{"ends with the caller's context", counterEndsWithContext},
	{"is over after Close", counterEndsWithClose},
}

// Counters tests that what a backend opens keeps the promises of
// redisstate.Counters. open is called once for each test, which run in
// parallel. It logs how many were kept and returns the count, see Tally.
//
// It cannot show what counters do when answers are lost.
func Counters(t *testing.T, open func(tb testing.TB) CountersBackend) *Tally {
	t.Helper()
	tally := newTally(t, "Counters", len(counterCases))
	for _, c := range counterCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, open(t))
			tally.keep(t)
		})
	}
	return tally
}

// CountersOnRedis is the backend of redisstate.Counters on a Redis. Connect
// gives the client of one more process, which may be that of another one too, and
// closes it after the test; the servers may hold other data.
func CountersOnRedis(tb testing.TB, connect func(tb testing.TB) redis.UniversalClient) CountersBackend {
	tb.Helper()
	b := redisConfigs{client: connect(tb), namespace: "contract:" + uuid.NewString()}
	return CountersBackend{
		Open: func(tb testing.TB) *redisstate.Counters {
			tb.Helper()
			counters, err := redisstate.NewCounters(connect(tb), redisstate.Options{Namespace: b.namespace})
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() {
				if err := counters.Close(); err != nil {
					tb.Error(err)
				}
			})
			return counters
		},
		Pass:  b.pass,
		Flush: b.flush,
		Damage: func(tb testing.TB, name, text string) {
			tb.Helper()
			for _, key := range []string{b.namespace + ":@counters", b.namespace + ":@gauges"} {
				_, err := b.client.TxPipelined(tb.Context(), func(p redis.Pipeliner) error {
					if text == "" {
						p.Del(tb.Context(), key)
						p.RPush(tb.Context(), key, "something")
					} else {
						p.HSet(tb.Context(), key, name, text)
					}
					p.PExpire(tb.Context(), key, time.Hour)
					return nil
				})
				if err != nil {
					tb.Fatal(err)
				}
			}
		},
	}
}

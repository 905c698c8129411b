package contract

import (
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

// lasting is the session of an execution with a time to live.
func (b SessionsBackend) lasting(tb testing.TB, ttl time.Duration) *redisstate.Session {
	tb.Helper()
	return opened(tb, b.Open(tb, redisstate.Options{TTL: ttl}), "e")
}

func sessionExpires(tb testing.TB, b SessionsBackend) {
	s := b.lasting(tb, short)
	sets(tb, s, "a", 1)
	b.Pass(tb, short-time.Minute)
	b.Pass(tb, 2*time.Minute)
	lacks(tb, s, "a", redisstate.ErrNotFound)
	named(tb, s)
}

func sessionSlidesByWrite(tb testing.TB, b SessionsBackend) {
	s := b.lasting(tb, short)
	sets(tb, s, "first", 1)
	for i := range 4 {
		b.Pass(tb, short*3/4)
		sets(tb, s, "a", i)
	}
	has(tb, s, "first", 1) // a session lives and ends as a whole
	b.Pass(tb, short+time.Minute)
	named(tb, s)
}

func sessionSlidesByRead(tb testing.TB, b SessionsBackend) {
	s := b.lasting(tb, short)
	sets(tb, s, "a", 1)
	for i := range 6 {
		b.Pass(tb, short*3/4)
		if i%2 == 0 {
			has(tb, s, "a", 1)
		} else {
			named(tb, s, "a")
		}
	}
	// Reads of names that are not there show that the session is in use, too.
	b.Pass(tb, short*3/4)
	lacks(tb, s, "none", redisstate.ErrNotFound)
	b.Pass(tb, short*3/4)
	has(tb, s, "a", 1)
}

func sessionNeverShorter(tb testing.TB, b SessionsBackend) {
	sets(tb, b.lasting(tb, 8*short), "a", 1)
	brief := b.lasting(tb, short)
	sets(tb, brief, "b", 2)
	has(tb, brief, "a", 1)
	named(tb, brief, "a", "b")
	b.Pass(tb, 7*short)
	has(tb, brief, "a", 1)
}

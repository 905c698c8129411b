package contract

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// SessionsBackend is a fresh place for sessions, as the tests of Sessions need
// it.
type SessionsBackend struct {
	// Open returns one more Sessions on the same values, as another process would
	// have it, and closes it at the end of the test. Options carry a TTL and a
	// size limit that the suite relies on.
	Open func(tb testing.TB, opts redisstate.Options) *redisstate.Sessions
	// Pass lets time pass for what is stored.
	Pass func(tb testing.TB, d time.Duration)
	// Flush makes the backend forget everything.
	Flush func(tb testing.TB)
	// Damage puts raw in place of the bytes stored for a value of a session; nil
	// means a session that is no session at all.
	Damage func(tb testing.TB, executionID, name string, raw []byte)
	// Stored gives the bytes stored for a value of a session.
	Stored func(tb testing.TB, executionID, name string) []byte
}

// sessionCase is one promise of redisstate.Session.
type sessionCase struct {
	name  string
	check func(tb testing.TB, b SessionsBackend)
}

var sessionCases = []sessionCase{
	{"gives back what was set", sessionGivesBack},
	{"gives values that belong to their reader", sessionGivesOwn},
	{"takes values and JSON alike", sessionTakesJSON},
	{"does not find what was never set", sessionFindsOnlySet},
	{"shows other processes what was set", sessionShowsOthers},
	{"keeps the last value of a name", sessionKeepsLast},
	{"keeps executions apart that look alike", sessionKeepsApart},
	{"takes names of any characters", sessionTakesAnyName},
	{"sets many at once", sessionSetsMany},
	{"reads all", sessionReadsAll},
	{"deletes values", sessionDeletes},
	{"drops a whole session", sessionDrops},
	{"may be told everything twice", sessionTwice},
	{"expires after the time to live", sessionExpires},
	{"lives longer with each write", sessionSlidesByWrite},
	{"lives longer when it is read after a quarter of its life", sessionSlidesByRead},
	{"never gets a shorter life", sessionNeverShorter},
	{"writes nothing when a value is invalid", sessionAllOrNothing},
	{"refuses bad ids and names", sessionRefusesBadNames},
	{"refuses what is too large", sessionRefusesTooLarge},
	{"tells what is not of the type asked for", sessionTellsType},
	{"tells corrupt and newer values and reads the others beside", sessionTellsCorrupt},
	{"tells a session of another type", sessionTellsWrongType},
	{"forgets after a flush", sessionForgets},
	{"keeps what many write at once", sessionManyWriters},
	{"ends with the caller's context", sessionEndsWithContext},
	{"is over after Close", sessionEndsWithClose},
}

// Sessions tests that what a backend opens keeps the promises of
// redisstate.Sessions. open is called once for each test, which run in
// parallel. It logs how many were kept and returns the count, see Tally.
//
// It cannot show what sessions do when Redis is away.
func Sessions(t *testing.T, open func(tb testing.TB) SessionsBackend) *Tally {
	t.Helper()
	tally := newTally(t, "Sessions", len(sessionCases))
	for _, c := range sessionCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, open(t))
			tally.keep(t)
		})
	}
	return tally
}

// SessionsOnRedis is the backend of redisstate.Sessions on a Redis. Connect
// gives the client of one more process, which may be that of another one too, and
// closes it after the test; the servers may hold other data.
func SessionsOnRedis(tb testing.TB, connect func(tb testing.TB) redis.UniversalClient) SessionsBackend {
	tb.Helper()
	b := redisConfigs{client: connect(tb), namespace: "contract:" + uuid.NewString()}
	return SessionsBackend{
		Open: func(tb testing.TB, opts redisstate.Options) *redisstate.Sessions {
			tb.Helper()
			opts.Namespace = b.namespace
			opts.Registerer = prometheus.NewRegistry()
			sessions, err := redisstate.NewSessions(connect(tb), opts)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() {
				if err := sessions.Close(); err != nil {
					tb.Error(err)
				}
			})
			return sessions
		},
		Pass:  b.pass,
		Flush: b.flush,
		Stored: func(tb testing.TB, executionID, name string) []byte {
			tb.Helper()
			raw, err := b.client.HGet(tb.Context(), b.session(executionID), name).Bytes()
			if err != nil {
				tb.Fatal(err)
			}
			return raw
		},
		Damage: func(tb testing.TB, executionID, name string, raw []byte) {
			tb.Helper()
			key := b.session(executionID)
			_, err := b.client.TxPipelined(tb.Context(), func(p redis.Pipeliner) error {
				if raw == nil {
					p.Del(tb.Context(), key)
					p.RPush(tb.Context(), key, "something")
				} else {
					p.HSet(tb.Context(), key, name, raw)
				}
				p.PExpire(tb.Context(), key, time.Hour)
				return nil
			})
			if err != nil {
				tb.Fatal(err)
			}
		},
	}
}

// session is the name of the key of a session whose id has nothing to escape.
func (r redisConfigs) session(executionID string) string {
	return r.namespace + ":session:" + executionID
}

package contract

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/redisstate"
)

// Store is everything that the suite ConfigStore tests.
type Store interface {
	redisstate.ConfigStore
	redisstate.MetadataStore
	redisstate.Lifetimes
}

// ConfigStoreBackend is a fresh place for configs, as ConfigStore's tests need
// it.
type ConfigStoreBackend struct {
	// Open returns one more store on the same configs, as another process would
	// have it: it shares no memory with those opened before. It closes the store
	// at the end of the test. Options carry a TTL and a size limit that the suite
	// relies on; what else there is (a namespace, telemetry) is the backend's to
	// add.
	Open func(tb testing.TB, opts redisstate.Options) Store
	// Pass lets time pass for what is stored.
	Pass func(tb testing.TB, d time.Duration)
	// Flush makes the backend forget everything.
	Flush func(tb testing.TB)
	// Stored gives the bytes stored for a key: the current value of its id or,
	// with a digest, what was put aside.
	Stored func(tb testing.TB, key redisstate.Key) []byte
	// Damage puts raw in place of the bytes stored for a key; nil means
	// something that is no string at all.
	Damage func(tb testing.TB, key redisstate.Key, raw []byte)
	// MetadataLife is how much longer the metadata of a name stays.
	MetadataLife func(tb testing.TB, name string) time.Duration
}

// configStoreCase is one promise of redisstate.ConfigStore.
type configStoreCase struct {
	name  string
	check func(tb testing.TB, b ConfigStoreBackend)
}

var configStoreCases = []configStoreCase{
	{"gives back what was saved", givesBack},
	{"gives equal JSON equal refs", equalRefs},
	{"gives different content different refs", differentRefs},
	{"keeps numbers and strings exactly", keepsExactly},
	{"takes ids of any characters", takesAnyID},
	{"keeps ids apart that look alike", keepsIDsApart},
	{"does not find what was never saved", findsOnlySaved},
	{"shows other processes what was saved", showsOthers},
	{"reads the current content by id", readsCurrent},
	{"reads overwritten content by its ref", readsOverwritten},
	{"reads content by its ref through many overwrites", readsThroughOverwrites},
	{"keeps each ref's content while many write the same id", keepsContentUnderWriters},
	{"reads many at once", readsMany},
	{"reads none at once", readsNone},
	{"saves many at once in order", savesMany},
	{"saves an id twice at once", savesTwiceAtOnce},
	{"saves more at once than a batch holds", savesThousands},
	{"expires after the time to live", expires},
	{"gives an entry its own time to live", ownTTL},
	{"extends the life of content that is saved again", extendsLife},
	{"does not shorten the life of content that is saved again", keepsLife},
	{"keeps overwritten content for its own time to live", keepsOverwrittenLife},
	{"deletes current content", deletesCurrent},
	{"deletes content by its ref only if it is there", deletesPinned},
	{"lists what a workflow has", listsWorkflow},
	{"moves a config between workflows", movesWorkflow},
	{"does not list what is gone", listsLiving},
	{"lists by prefix", listsPrefix},
	{"lists everything", listsEverything},
	{"stops listing when asked", stopsListing},
	{"writes nothing when an entry is invalid", writesAllOrNothing},
	{"refuses bad keys", refusesBadKeys},
	{"refuses bad values", refusesBadValues},
	{"refuses what is too large", refusesTooLarge},
	{"tells corrupt content", tellsCorrupt},
	{"tells content of a newer format", tellsNewerFormat},
	{"tells a value of another type", tellsWrongType},
	{"never takes damaged content for what a ref names", refusesDamagedAside},
	{"reads the others beside a bad one", readsBesideBad},
	{"heals a bad one by saving", healsBySaving},
	{"forgets after a flush", forgetsAfterFlush},
	{"ends with the caller's context", endsWithContext},

	{"gives back metadata", keepsMetadata},
	{"keeps metadata and configs apart", keepsMetadataApart},
	{"expires metadata after its time to live", expiresMetadata},
	{"deletes metadata", deletesMetadata},
	{"refuses bad metadata", refusesBadMetadata},
	{"tells how long a config stays", tellsLife},
	{"extends a life and never shortens it", extendsOnly},
	{"refuses bad extensions", refusesBadExtensions},
	{"extends everything of a workflow", extendsWorkflow},
	{"does not shorten an extended life by saving again", keepsExtended},
	{"deletes everything of a workflow", deletesAllOfWorkflow},
	{"counts", countsConfigs},
	{"extends the life of what is read", readExtends},
	{"extends the life of what is read from memory", nearReadExtends},
	{"extends the life of metadata that is read", readExtendsMetadata},
	{"does not extend by reading where lives are fixed", readKeepsFixedLife},
	{"says what can be done about a missing config", namesRemedy},
	{"regenerates what is missing from its source", regenerates},
	{"regenerates many at once", regeneratesMany},
	{"loads once for all who wait", loadsOnce},
	{"lets one who waits give up alone", givesUpAlone},
	{"regenerates the content of a ref beside newer content", regeneratesAside},
	{"regenerates earlier content for its refs only", regeneratesEarlier},
	{"refuses regenerated content that a ref does not name", refusesMismatch},
	{"tells that its source failed", tellsSourceFailed},
}

// ConfigStore tests that what a backend opens keeps the contract of
// redisstate.ConfigStore: refs that never give other content, all or nothing
// for invalid input, times to live and their extension, listings, metadata,
// regeneration, typed errors. open is called once
// for each test, which run in parallel. It logs how many were kept and returns
// the count, which is final in a cleanup of t: backends that are tested with the
// same release must agree.
//
// It cannot show what a store does when Redis is away.
func ConfigStore(t *testing.T, open func(tb testing.TB) ConfigStoreBackend) *Tally {
	t.Helper()
	tally := newTally(t, "ConfigStore", len(configStoreCases))
	for _, c := range configStoreCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t, open(t))
			tally.keep(t)
		})
	}
	return tally
}

// ConfigStoreOnRedis is the backend of redisstate.Store on a Redis. Connect
// gives the client of one more process, which may be that of another one too, and
// closes it after the test; the servers may hold other data.
func ConfigStoreOnRedis(tb testing.TB, connect func(tb testing.TB) redis.UniversalClient) ConfigStoreBackend {
	tb.Helper()
	b := redisConfigs{client: connect(tb), namespace: "contract:" + uuid.NewString()}
	return ConfigStoreBackend{
		Open: func(tb testing.TB, opts redisstate.Options) Store {
			tb.Helper()
			opts.Namespace = b.namespace
			opts.Registerer = prometheus.NewRegistry()
			opts.Logger = slog.New(slog.DiscardHandler)
			store, err := redisstate.NewStore(connect(tb), opts)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() {
				if err := store.Close(); err != nil {
					tb.Error(err)
				}
			})
			return store
		},
		Pass:   b.pass,
		Flush:  b.flush,
		Stored: b.stored,
		Damage: b.damage,

		MetadataLife: b.metadataLife,
	}
}

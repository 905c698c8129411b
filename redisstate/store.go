package redisstate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
	"github.com/compozy/temporal-redis/internal/trips"
)

// ConfigStore keeps configs. Implementations are safe for concurrent use; the
// suite in testsuite/contract says what they have to do.
//
// Every method may also return errors wrapping ErrUnavailable, ErrDenied,
// ErrClosed, and the context's error when the caller gave up.
type ConfigStore interface {
	// Get reads a config: the current content of the key's id, or, with a
	// digest, exactly that content. Errors: ErrNotFound, ErrInvalidKey,
	// ErrCorrupt, ErrNewerFormat, ErrUnknownKey, ErrNotEncrypted, ErrTooLarge,
	// ErrWrongType.
	Get(ctx context.Context, key Key) (Config, error)
	// GetMany reads several configs at once; missing ones are absent from the
	// map, and a key that is given twice is read once. Errors about single
	// configs (those of Get about what is stored) are joined, and the map then
	// holds the others. ErrInvalidKey is told before anything is read.
	GetMany(ctx context.Context, keys ...Key) (map[Key]Config, error)
	// Set saves configs and returns their refs in the order of the entries.
	// Nothing is written if any entry is invalid: ErrInvalidKey,
	// ErrInvalidValue, ErrTooLarge. Saving the same content again gives the same
	// ref and extends its life, never shortens it. Saving other content under an
	// id keeps the earlier content readable for its refs; of several writers at
	// the same time, on Cluster, a moment later (see Store.Set). With an error from
	// Redis some entries may have been written; saving again is safe.
	Set(ctx context.Context, entries ...Entry) ([]Ref, error)
	// Delete removes configs and tells how many were there: the current content
	// of the key's id, or, with a digest, exactly that content. Refs to content
	// that was overwritten earlier keep working. A process that has read the
	// content by Ref may still have it in its near cache. What was removed by a
	// command whose reply was lost, and that was sent again, may not be counted.
	// Errors: ErrInvalidKey, told before anything is removed.
	Delete(ctx context.Context, keys ...Key) (int, error)
	// Scan lists the ids of current configs, each once, in no particular order,
	// as keys without digests. Configs that are saved or removed meanwhile may
	// or may not be listed. An error ends the listing. Errors: ErrInvalidKey.
	Scan(ctx context.Context, scope Scope) iter.Seq2[Key, error]
}

// Scope says which configs Scan lists: those that match all fields that are
// set; the zero value lists everything under the namespace.
type Scope struct {
	// Workflow lists what was saved for a workflow. It costs no more than what
	// it lists: one round trip for up to 999 configs on one server, where the
	// index says what lives. It may still list a config that Redis evicted, that
	// another program removed or that a failed Set was to save, one that was
	// removed or moved although this release cannot read its header, and one that
	// expired if the clocks of processes differ by more than a minute. On Cluster,
	// and of what has less than a minute to live, each config is looked at.
	Workflow string
	// Prefix lists ids that start with it. Without Workflow it walks over all
	// keys of every Redis master (SCAN), which is for operators, not for
	// workflows.
	Prefix string
}

// Store is the ConfigStore, MetadataStore and Lifetimes on Redis. NewStore makes
// one. It is safe for concurrent use. Unless Options.FixedTTL is set it runs one
// goroutine, from its first read or write until Close, with
// Options.NearCacheByKey a few more, from the first read by id. While callers share
// round trips, those have goroutines of their own, which end with them.
type Store struct {
	client   redis.UniversalClient
	space    keys.Space
	ttl      time.Duration
	maxBytes int
	codec    Codec
	envelope envelope
	near     *near    // nil: no near cache
	current  *current // nil: reads by id are not answered from it
	bells    *bells
	contents *contents
	blobs    blobs
	slides   *slides // nil: reads do not extend times to live
	source   Source  // nil: what is not in Redis is missing
	loads    flights[Key, Config]
	fetches  trips.Trips[*fetching]
	creates  trips.Trips[[]*writing]
	largest  recentLargest
	log      *slog.Logger
	metrics  *telemetry.Metrics
	hits     prometheus.Counter // answered by Redis
	misses   prometheus.Counter
	closed   atomic.Bool
	now      func() time.Time // for the scores of indexes
	tidies   func() bool      // whether a save tidies up
	// ordered tells that commands of one pipeline are executed in their order:
	// there is one server, not a cluster of them.
	ordered bool
	resends int           // how often its client sends again what a connection lost
	guards  time.Duration // swapTime
}

var (
	_ ConfigStore   = (*Store)(nil)
	_ MetadataStore = (*Store)(nil)
	_ Lifetimes     = (*Store)(nil)
)

// NewStore makes a store on a client, which it never closes. Of the options it
// uses Namespace, TTL, FixedTTL, Source, MaxConfigBytes, NearCacheBytes,
// NearCacheByKey, Codec, Compression, Keys, RequireEncryption and the telemetry.
// A client of another type than *redis.Client and *redis.ClusterClient is taken for one of
// a single server. No I/O. Errors wrap ErrInvalidOptions.
func NewStore(client redis.UniversalClient, o Options) (*Store, error) {
	if client == nil {
		return nil, invalid("no client given to NewStore; use Conn.Client")
	}
	if err := o.validateStore(); err != nil {
		return nil, err
	}
	if _, ok := client.(*redis.Ring); ok {
		return nil, readsMasters("NewStore", client)
	}
	mend(client)
	o = o.withDefaults()
	space, err := keys.NewSpace(o.Namespace, "")
	if err != nil {
		return nil, invalid("Namespace: %w", err)
	}
	tel, err := o.telemetry()
	if err != nil {
		return nil, err
	}
	tellIfHangs(tel.Log, client, "op", "redisstate: new store", "family", family)
	near, err := newNear(o.NearCacheBytes, tel.Metrics)
	if err != nil {
		return nil, err
	}
	one, single := client.(*redis.Client)
	wraps := newEnvelope(o, tel.Metrics.KeyUses)
	s := &Store{
		client:   client,
		space:    space,
		ttl:      o.TTL,
		maxBytes: o.MaxConfigBytes,
		codec:    o.Codec,
		envelope: wraps,
		blobs:    blobs{wraps},
		near:     near,
		hits:     tel.Metrics.CacheHits.WithLabelValues(telemetry.CacheRedis),
		misses:   tel.Metrics.CacheMisses.WithLabelValues(telemetry.CacheRedis),
		ordered:  single,
		source:   o.Source,
		log:      tel.Log,
		metrics:  tel.Metrics,
		now:      time.Now,
		tidies:   func() bool { return rand.N(tidyEvery) == 0 },
		guards:   swapTime,
	}
	if single {
		s.resends = max(one.Options().MaxRetries, 0)
	}
	s.bells = &bells{space: space, log: tel.Log}
	if o.NearCacheByKey {
		if err := readsMasters("NewStore with NearCacheByKey", client); err != nil {
			return nil, err
		}
		if s.current, err = s.newCurrent(o.NearCacheBytes); err != nil {
			return nil, err
		}
	}
	s.fetches.Send, s.fetches.Size = s.fetchShared, func(*fetching) int { return int(s.largest.bytes.Load()) }
	s.creates.Send, s.creates.Size = s.createAll, sizeOf
	s.loads.op, s.loads.family = opSource, family
	s.fetches.AtOnce, s.fetches.Op, s.fetches.Family, s.fetches.Log = maxTrips, opGet, family, tel.Log
	s.creates.AtOnce, s.creates.Op, s.creates.Family, s.creates.Log = maxTrips, opSet, family, tel.Log
	if near != nil { // else only the garbage collector would say for how long
		s.contents = new(contents)
	}
	if !o.FixedTTL {
		s.slides = newSlides(s.slide, tel.Metrics)
	}
	return s, nil
}

// maxTrips is how many callers go to one server at a time without sharing.
const maxTrips = 4

// Close ends the store: what is called afterwards returns ErrClosed, as do reads
// and saves that share round trips, which are cancelled; what was saved by then
// is not known. Loads from Source are cancelled too, and extensions that reads
// asked for and that were not sent yet are forgotten. Close waits for commands
// that are on their way, as long as the client waits for the replies. The client
// stays open. Closing twice is fine.
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.loads.close()
		s.fetches.Close()
		s.creates.Close()
		s.slides.close()
		s.fetches.Wait()
		s.creates.Wait()
		s.current.close()
		s.near.close()
	}
	return nil
}

// Names of operations and of our key family in errors.
const (
	opGet    = "redisstate: get"
	opSet    = "redisstate: set"
	opDelete = "redisstate: delete"
	opScan   = "redisstate: scan"
	opTTL    = "redisstate: time to live"
	opExtend = "redisstate: extend"
	opSource = "redisstate: load from Source"
	family   = "config"
)

func (s *Store) checkOpen(op string) error {
	if s.closed.Load() {
		return fail(op, ErrClosed)
	}
	return nil
}

// fail says in which operation err happened.
func fail(op string, err error) error {
	return fmt.Errorf("%s (%s): %w", op, family, err)
}

// redisError turns the client's error into one of this package.
func redisError(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case rediserr.Classify(ctx, err) == rediserr.NotFound:
		return &MissingError{Op: op, Family: family}
	case rediserr.IsWrongType(err):
		return fail(op, ErrWrongType)
	case errors.Is(err, ErrClosed): // the store: a closed client says it otherwise
		return fail(op, ErrClosed)
	}
	return rediserr.Wrap(ctx, op, family, err)
}

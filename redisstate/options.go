package redisstate

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Defaults of Options.
const (
	DefaultTTL            = 24 * time.Hour
	DefaultMaxConfigBytes = 1 << 20
	DefaultNearCacheBytes = 64 << 20
	DefaultSlowThreshold  = 100 * time.Millisecond

	DefaultDialTimeout  = 3 * time.Second
	DefaultReadTimeout  = 3 * time.Second
	DefaultWriteTimeout = 3 * time.Second
	DefaultPoolTimeout  = 4 * time.Second
	DefaultIdleTimeout  = 5 * time.Minute
	DefaultPoolSize     = 32
	DefaultMaxRetries   = 2
)

// Options say where Redis is and how configs are stored. Connect and NewStore
// take the same Options and each reads its part. The zero value lacks only an
// URL or a Client; OptionsFromEnv fills what is not set from the environment.
type Options struct {
	// URL says where Redis is, for example redis://localhost:6379; the package's
	// documentation lists the forms. Required unless Client is set.
	URL string
	// Username is the ACL user. It wins over the user in the URL. Defaults to
	// the one in the URL, else to Redis' default user.
	Username string
	// Password is the user's password. It wins over the password in the URL.
	// Defaults to the one in the URL, else to none.
	Password string
	// TLS are the settings of encrypted connections. Defaults to what the URL's
	// scheme says: rediss and rediss+... use TLS.
	TLS TLSOptions
	// SentinelMaster is the name of the master that the sentinels watch. It wins
	// over the name in the URL. Defaults to the one in the URL.
	SentinelMaster string
	// SentinelUsername and SentinelPassword are for the sentinels themselves.
	// Defaults to none.
	SentinelUsername, SentinelPassword string
	// Client is a client that the host already has; the connection options
	// above and below are then not used. It is never closed here. What is added
	// to it are the hooks that a Cluster or Sentinel client needs to notice a
	// fail-over in time, and what InstrumentClient says. A Ring is refused: it
	// spreads keys over servers that do not know of each other. Defaults to none.
	Client redis.UniversalClient
	// InstrumentClient adds our spans, durations and slow-operation warnings to
	// Client, once however often it is seen here. Defaults to false: the host
	// may have its own.
	InstrumentClient bool

	// Name is what logs and metrics of Health call the connection: one of a few fixed
	// names of up to 32 characters (a-z, 0-9, - and _), as it becomes the value of a
	// label. Defaults to "redis".
	Name string
	// ClientName is what CLIENT LIST shows. Letters, digits and - . _ ~ :
	// Defaults to none.
	ClientName string
	// DialTimeout bounds the making of a connection. Defaults to 3 s.
	DialTimeout time.Duration
	// ReadTimeout bounds the wait for a reply; the caller's deadline ends it
	// earlier. Defaults to 3 s.
	ReadTimeout time.Duration
	// WriteTimeout bounds the sending of a command. Defaults to 3 s.
	WriteTimeout time.Duration
	// PoolTimeout bounds the wait for a free connection. Defaults to 4 s.
	PoolTimeout time.Duration
	// IdleTimeout closes connections that were not used for that long. Keep it
	// below the server's own timeout. Defaults to 5 min.
	IdleTimeout time.Duration
	// PoolSize is the number of connections per Redis node. Defaults to 32.
	PoolSize int
	// MinIdleConns is the number of connections kept ready. Defaults to 0.
	MinIdleConns int
	// MaxRetries is how often the client repeats a command that it may repeat,
	// with a pause of 8 to 128 ms; negative means never. Defaults to 2.
	MaxRetries int

	// Namespace is the prefix of every key: unreserved characters of RFC 3986,
	// ':' and '%'. Defaults to "temporal-redis"; the worker plugin makes one
	// from the Temporal namespace.
	Namespace string
	// TTL is the time to live of a config that does not have its own, in whole
	// milliseconds. Defaults to 24 h.
	TTL time.Duration
	// FixedTTL makes times to live run from the last Set or Extend. Defaults to
	// false: a read extends them too, in the background and without a write per
	// read, once a quarter of them has passed since this process last did.
	FixedTTL bool
	// Source regenerates configs that are not in Redis any more. Defaults to
	// none: reading such a config is ErrNotFound.
	Source Source
	// MaxConfigBytes is the largest config accepted by Set, in bytes of
	// canonical JSON. Defaults to 1 MiB.
	MaxConfigBytes int
	// NearCacheBytes bounds the in-process cache of configs read by Ref. A
	// config counts three times its JSON, since the decoded value is kept too.
	// Negative means no cache. Defaults to 64 MiB.
	NearCacheBytes int64
	// NearCacheByKey lets reads by id be answered from that cache too. Defaults to
	// false: they are asked of Redis, and see what the last Set that returned
	// left. With it, what another process overwrites or deletes may be read for
	// about a millisecond more, for up to 3 s if the connection that tells of it
	// dies silently, and for up to 30 s if Redis removes a config by itself
	// (eviction, FLUSHALL), loses what it acknowledged in a fail-over, if a
	// connection between Cluster masters breaks as it passes it on, or if the
	// process that overwrote it may not publish. It needs a near cache and a client
	// that reads from masters only, keeps one more connection per process, and
	// sends a message a second to each master.
	NearCacheByKey bool
	// Codec turns values into JSON and back. Defaults to encoding/json.
	Codec Codec
	// Compression is how new values are compressed: none, s2 or zstd. Reading
	// needs no setting. Defaults to none.
	Compression Compression
	// Keys encrypts new values under its newest key (AES-256-GCM) and decrypts
	// those under any of its keys; docs/security.md says what that protects and
	// how keys are rotated. What is not encrypted is read too, see
	// RequireEncryption. Defaults to none: nothing is encrypted.
	Keys *KeyRing
	// RequireEncryption refuses stored values that are not encrypted, so that
	// nobody without a key can plant one. It needs Keys. Switch it on once
	// everything from before has been saved again or has expired. Defaults to
	// false.
	RequireEncryption bool

	// SlowThreshold is the duration from which a Redis operation is logged as a
	// warning; negative means never. Defaults to 100 ms.
	SlowThreshold time.Duration
	// Logger receives what operators should see. Defaults to slog.Default().
	Logger *slog.Logger
	// Registerer takes the metrics. Defaults to prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer
	// TracerProvider makes the spans of Redis operations. Defaults to
	// otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
}

// Validate tells everything that is wrong with o, without any I/O. The error
// wraps ErrInvalidOptions; with neither URL nor Client it names REDIS_URL and
// embedded://.
func (o Options) Validate() error {
	return errors.Join(o.validateConnection(), o.validateStore())
}

func (o Options) withDefaults() Options {
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.ReadTimeout, DefaultReadTimeout)
	setDefault(&o.WriteTimeout, DefaultWriteTimeout)
	setDefault(&o.PoolTimeout, DefaultPoolTimeout)
	setDefault(&o.IdleTimeout, DefaultIdleTimeout)
	setDefault(&o.PoolSize, DefaultPoolSize)
	setDefault(&o.MaxRetries, DefaultMaxRetries)
	setDefault(&o.TTL, DefaultTTL)
	setDefault(&o.MaxConfigBytes, DefaultMaxConfigBytes)
	setDefault(&o.NearCacheBytes, DefaultNearCacheBytes)
	setDefault(&o.SlowThreshold, DefaultSlowThreshold)
	if o.Codec == nil {
		o.Codec = stdCodec{}
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validateConnection checks what Connect uses.
func (o Options) validateConnection() error {
	errs := []error{validateName(o.Name)}
	if o.Client != nil {
		if _, isRing := o.Client.(*redis.Ring); isRing {
			errs = append(errs, invalid("Client is a redis.Ring; use a Client or a ClusterClient"))
		}
		return errors.Join(errs...)
	}
	if o.URL == "" {
		return errors.Join(errs[0], invalid("no Redis given; set REDIS_URL or Options.URL, for example redis://localhost:6379, or embedded:// for a Redis inside this process"))
	}
	if _, err := o.target(); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"DialTimeout", o.DialTimeout},
		{"ReadTimeout", o.ReadTimeout},
		{"WriteTimeout", o.WriteTimeout},
		{"PoolTimeout", o.PoolTimeout},
		{"IdleTimeout", o.IdleTimeout},
	} {
		if d.value < 0 {
			errs = append(errs, invalid("%s is %v; use a positive duration, or 0 for the default", d.name, d.value))
		}
	}
	if o.PoolSize < 0 || o.PoolSize > maxPoolSize {
		errs = append(errs, invalid("PoolSize is %d; use 1 to %d, or 0 for the default", o.PoolSize, maxPoolSize))
	}
	if o.MinIdleConns < 0 || o.MinIdleConns > maxPoolSize {
		errs = append(errs, invalid("MinIdleConns is %d; use 0 to %d", o.MinIdleConns, maxPoolSize))
	}
	if o.MaxRetries > maxRetries {
		errs = append(errs, invalid("MaxRetries is %d; use at most %d, or a negative number for none", o.MaxRetries, maxRetries))
	}
	return errors.Join(errs...)
}

// Bounds of the pool that keep a typing error from exhausting the server.
const (
	maxPoolSize = 10_000
	maxRetries  = 10
)

// validateStore checks what NewStore uses.
func (o Options) validateStore() error {
	var errs []error
	if _, err := keys.NewSpace(o.Namespace, ""); err != nil {
		errs = append(errs, invalid("Namespace: %w", err))
	}
	if o.TTL != 0 && o.TTL < time.Millisecond {
		errs = append(errs, invalid("TTL is %v; use at least 1ms, or 0 for the default of %v", o.TTL, DefaultTTL))
	}
	if o.MaxConfigBytes < 0 || o.MaxConfigBytes > maxValueBytes {
		errs = append(errs, invalid("MaxConfigBytes is %d; use 1 to %d, or 0 for the default of %d",
			o.MaxConfigBytes, maxValueBytes, DefaultMaxConfigBytes))
	}
	if !o.Compression.valid() {
		errs = append(errs, invalid("Compression is %.32q; use %s, %s or %s", string(o.Compression), CompressionNone, CompressionS2, CompressionZstd))
	}
	if o.NearCacheByKey && o.NearCacheBytes < 0 {
		errs = append(errs, invalid("NearCacheByKey needs a near cache; set NearCacheBytes to 0 for the default, or to a bound"))
	}
	switch {
	case o.Keys != nil && o.Keys.newest() == nil:
		errs = append(errs, invalid("Keys has no key; make it with NewKeyRing"))
	case o.Keys == nil && o.RequireEncryption:
		errs = append(errs, invalid("RequireEncryption needs keys; set Options.Keys or REDIS_ENCRYPTION_KEYS"))
	}
	return errors.Join(errs...)
}

// maxValueBytes is the most that Redis takes in one string by default
// (proto-max-bulk-len), less room for our header.
const maxValueBytes = 512<<20 - 1<<16

func (o Options) telemetry() (*telemetry.Telemetry, error) {
	tel, err := telemetry.New(telemetry.Config{
		Logger:         o.Logger,
		Registerer:     o.Registerer,
		TracerProvider: o.TracerProvider,
	})
	if err != nil {
		return nil, invalid("Registerer: %w", err)
	}
	return tel, nil
}

// invalid is an error of options: one line that names the option and the remedy.
func invalid(format string, args ...any) error {
	return fmt.Errorf("redisstate: %w: %w", ErrInvalidOptions, fmt.Errorf(format, args...))
}

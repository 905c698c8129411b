package redisstate

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/temporal-redis/internal/redisdial"
)

// target is where o's connection goes: the URL, with the options that win over
// it, checked without I/O.
func (o Options) target() (target, error) {
	t, err := parseURL(o.URL)
	if err != nil {
		return target{}, err
	}
	setIf(&t.username, o.Username)
	setIf(&t.password, o.Password)
	if t.kind == sentinel {
		setIf(&t.master, o.SentinelMaster)
	}
	setIf(&t.params.clientName, o.ClientName)
	var errs []error
	if t.kind == sentinel && t.master == "" {
		errs = append(errs, invalid("no sentinel master given; use redis+sentinel://host:port/master or REDIS_SENTINEL_MASTER"))
	}
	if o.SentinelMaster != "" && t.kind != sentinel && t.kind != embedded {
		errs = append(errs, invalid("a sentinel master is given (REDIS_SENTINEL_MASTER or Options.SentinelMaster) and the URL names no sentinels; use redis+sentinel://, or remove it"))
	}
	if t.username != "" && t.password == "" && t.kind != embedded {
		errs = append(errs, invalid("a user without a password is given; set REDIS_PASSWORD or Options.Password too"))
	}
	if !isClientName(t.params.clientName) {
		errs = append(errs, invalid("ClientName (REDIS_CLIENT_NAME) has characters other than letters, digits and - . _ ~ :"))
	}
	errs = append(errs, o.TLS.validate(t))
	return t, errors.Join(errs...)
}

func setIf[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

// endpoint is where t leads to, without credentials.
func (t target) endpoint() string {
	switch t.kind {
	case unixSocket:
		return "unix://" + t.path
	case embedded:
		return "embedded://" + t.name
	case sentinel:
		return strings.Join(t.addrs, ",") + "/" + t.master
	}
	return strings.Join(t.addrs, ",")
}

// Pauses between the client's own retries.
const (
	minRetryBackoff = 8 * time.Millisecond
	maxRetryBackoff = 128 * time.Millisecond
)

// bufferBytes is what a connection has for what it reads, and as much for what it writes.
const bufferBytes = 32 << 10

// slotsReloadInterval is how often a Cluster is asked who has which slot when
// nothing happens. Redirections and nodes out of reach (slotsHook) make it ask
// at once.
const slotsReloadInterval = 30 * time.Second

// newClient makes the client of t without connecting. Everything that go-redis
// would default is said here, since its defaults move between releases.
func (o Options) newClient(t target) (redis.UniversalClient, error) {
	tlsConfig, err := o.TLS.config(t)
	if err != nil {
		return nil, err
	}
	// Options in code win over the URL's parameters, which win over defaults.
	p := t.params
	setIf(&p.dialTimeout, o.DialTimeout)
	setIf(&p.readTimeout, o.ReadTimeout)
	setIf(&p.writeTimeout, o.WriteTimeout)
	setIf(&p.poolTimeout, o.PoolTimeout)
	setIf(&p.idleTimeout, o.IdleTimeout)
	setIf(&p.poolSize, o.PoolSize)
	setIf(&p.minIdleConns, o.MinIdleConns)
	setIf(&p.maxRetries, o.MaxRetries)
	p = p.withDefaults()
	universal := &redis.UniversalOptions{
		Addrs:            slices.Clone(t.addrs),
		DB:               t.db,
		ClientName:       p.clientName,
		Protocol:         3,
		Username:         t.username,
		Password:         t.password,
		SentinelUsername: o.SentinelUsername,
		SentinelPassword: o.SentinelPassword,
		MasterName:       t.master,
		TLSConfig:        tlsConfig,

		MaxRetries:      max(p.maxRetries, -1),
		MinRetryBackoff: minRetryBackoff,
		MaxRetryBackoff: maxRetryBackoff,
		// One dial per attempt: the attempts are MaxRetries' business.
		DialerRetries:         1,
		DialTimeout:           p.dialTimeout,
		ReadTimeout:           p.readTimeout,
		WriteTimeout:          p.writeTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              p.poolSize,
		PipelinePoolSize:      -1, // else there is a second pool, beyond PoolSize
		ReadBufferSize:        bufferBytes,
		WriteBufferSize:       bufferBytes,
		PoolTimeout:           p.poolTimeout,
		MinIdleConns:          p.minIdleConns,
		ConnMaxIdleTime:       p.idleTimeout,
		FailingTimeoutSeconds: 5,

		// On Cluster an attempt follows MOVED and ASK, and waits out TRYAGAIN.
		MaxRedirects: 5,
		// Reads go to the masters: a replica is behind, and a config that was
		// just saved would be missing there.
		ReadOnly: false, RouteByLatency: false, RouteRandomly: false,

		DisableIdentity: true, // CLIENT SETINFO is newer than Redis 7.0
		// Push notifications of a commercial server; others refuse the command.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	switch t.kind {
	case sentinel:
		return redisdial.With(redis.NewFailoverClient(universal.Failover())), nil
	case cluster:
		members := universal.Cluster()
		members.ClusterStateReloadInterval = slotsReloadInterval
		members.NewClient = redisdial.NewClient
		return redis.NewClusterClient(members), nil
	case unixSocket:
		universal.Addrs = []string{t.path}
		simple := universal.Simple()
		simple.Network = "unix"
		return redisdial.NewClient(simple), nil
	}
	return redisdial.NewClient(universal.Simple()), nil
}

func (p params) withDefaults() params {
	setDefault(&p.dialTimeout, DefaultDialTimeout)
	setDefault(&p.readTimeout, DefaultReadTimeout)
	setDefault(&p.writeTimeout, DefaultWriteTimeout)
	setDefault(&p.poolTimeout, DefaultPoolTimeout)
	setDefault(&p.idleTimeout, DefaultIdleTimeout)
	setDefault(&p.poolSize, DefaultPoolSize)
	setDefault(&p.maxRetries, DefaultMaxRetries)
	return p
}

package health

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redisdial"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// prober asks Redis. It is used by one goroutine.
type prober interface {
	// probe asks within ctx, which has a deadline.
	probe(ctx context.Context) finding
	close() error
}

// probeTTL is the time to live of the probe's key.
const probeTTL = 10 * time.Second

// proberOf is how the client's servers are asked.
func proberOf(client redis.UniversalClient, o Options) prober {
	switch c := client.(type) {
	case *redis.Client:
		s := newServer(*c.Options(), o.Space.Health(0), o)
		if o.Host {
			s.host = c
		}
		return s
	case *redis.ClusterClient:
		return newShards(c, o)
	}
	return &plain{client, o.Space.Health(0)}
}

// server asks one server, or the primary that the options' dialler finds.
type server struct {
	options redis.Options
	key     string
	log     *slog.Logger
	name    string

	client *redis.Client // nil: to be made
	host   *redis.Client // the host's own, until ours was answered
	wrote  bool          // a write was taken once
	pings  bool          // we may not write the key
}

func newServer(of redis.Options, key string, o Options) *server {
	return &server{options: dedicated(of), key: key, log: o.Log, name: o.Name}
}

func (s *server) probe(ctx context.Context) finding {
	if s.client == nil {
		s.client = redisdial.NewClient(&s.options)
	}
	if s.host != nil {
		return s.first(ctx)
	}
	f := s.ask(ctx)
	if f.verdict == lost {
		s.drop()
	}
	return f
}

// first asks until our connection was answered once. The host's client may reach
// Redis where its options do not lead, through a hook: then it stays the one that is
// asked.
func (s *server) first(ctx context.Context) finding {
	half, cancel := context.WithTimeout(ctx, probeTimeout/2)
	defer cancel()
	f := s.ask(half)
	if f.verdict != lost {
		s.host = nil
		return f
	}
	s.drop()
	return judge(s.host.WithTimeout(probeTimeout/2).Set(asProbe(ctx), s.key, "", probeTTL).Err())
}

func (s *server) ask(ctx context.Context) finding {
	if s.pings {
		return judge(s.client.Ping(ctx).Err())
	}
	f := judge(s.client.Set(ctx, s.key, "", probeTTL).Err())
	if f.verdict == good {
		s.wrote = true
		return f
	}
	if f.why != rediserr.WordDenied || s.wrote {
		return f
	}
	// What we were never allowed says nothing of what others are.
	if ping := judge(s.client.Ping(ctx).Err()); ping.verdict == good {
		s.pings = true
		s.log.WarnContext(ctx, "the health probe may not write its key, so that a Redis which refuses writes is noticed by failing work only",
			"op", "health", "client", s.name, "remedy", "grant +set on the keys of the namespace")
		return ping
	}
	return f
}

// drop gives up the connection, which may be half-open, and dials that hang.
func (s *server) drop() {
	if s.client != nil {
		_ = s.client.Close() // it failed already
		s.client = nil
	}
}

func (s *server) close() error {
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// judge tells what an answer to a probe means.
func judge(err error) finding {
	if err == nil {
		return finding{verdict: good}
	}
	if errors.Is(err, redis.Nil) { // of sentinels that know no master of the name
		return finding{lost, rediserr.Unavailable, rediserr.WordFailover}
	}
	// The probe's own deadline is an outage, not a caller that gave up.
	f := finding{refused, rediserr.Classify(context.Background(), err), rediserr.Why(err)}
	switch {
	case f.class == rediserr.Permanent && rediserr.IsReply(err), f.why == rediserr.WordFailover:
		f.verdict = good // an answer: an odd one, or that the slot is another's
	case f.why.AboutConnection():
		f.verdict = lost
	}
	return f
}

// probeKey marks the context of a probe that goes through the client whose traffic is
// listened to.
type probeKey struct{}

func asProbe(ctx context.Context) context.Context { return context.WithValue(ctx, probeKey{}, true) }

// IsProbe tells whether an operation is a probe, which must not be observed as traffic
// too: it would be two failures in one, and so an outage.
func IsProbe(ctx context.Context) bool { return ctx.Value(probeKey{}) != nil }

// plain asks through a client of a kind that we do not know.
type plain struct {
	client redis.UniversalClient
	key    string
}

func (p *plain) probe(ctx context.Context) finding {
	return judge(p.client.Set(asProbe(ctx), p.key, "", probeTTL).Err())
}

func (p *plain) close() error { return nil }

// Bounds of the probe's own clients.
const (
	// probePool is the largest number of connections. One is used at a time.
	probePool = 2
	// probeIdle is for how long the connection is kept unused. Traffic may be
	// answered for hours, and meanwhile a server or a network closes it unseen.
	probeIdle = 3 * time.Second
)

// dedicated are the options of the probe's own client for the same server: where it
// is and who we are stay, patience and what belongs to the other client's traffic go.
func dedicated(o redis.Options) redis.Options {
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = probeTimeout, probeTimeout, probeTimeout, probeTimeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MaxConcurrentDials, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = probePool, probePool, 0, 0, 0
	o.PipelinePoolSize = -1
	o.ConnMaxIdleTime = probeIdle
	o.ReadBufferSize, o.WriteBufferSize = probeBuffer, probeBuffer
	o.Limiter = nil
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	o.PushNotificationProcessor = nil
	o.MaintNotificationsConfig = quietMaintenance()
	return o
}

package redisstate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Conn is a connection to Redis: a client with our instrumentation, or the
// host's own. Connect makes one. It is safe for concurrent use.
type Conn struct {
	client   redis.UniversalClient
	endpoint string
	security string // said where a connection fails
	tls      bool
	kind     kind
	log      *slog.Logger
	told     sync.Map // findings that were logged: Finding -> struct{}
	health   Health
	close    func() error
}

// Connect makes the client that o describes. It opens no connection: that
// happens with the first command, and Check tells whether it works. Errors wrap
// ErrInvalidOptions, also for certificate files that cannot be read.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if err := o.validateConnection(); err != nil {
		return nil, err
	}
	tel, err := o.telemetry()
	if err != nil {
		return nil, err
	}
	setDefault(&o.SlowThreshold, DefaultSlowThreshold)
	if o.Client != nil {
		return connectHost(o, tel)
	}
	t, err := o.target()
	if err != nil {
		return nil, err
	}
	release := func() {}
	endpoint, kind := t.endpoint(), t.kind
	if t.kind == embedded {
		server, err := acquireEmbedded(ctx, t.name)
		if err != nil {
			return nil, err
		}
		t, release = server.target(t), server.release
		o.TLS = TLSOptions{} // what is set is for another environment
	}
	client, err := o.newClient(t)
	if err != nil {
		release()
		return nil, err
	}
	c := &Conn{client: client, endpoint: endpoint, security: " without TLS", tls: o.TLS.enabled(t), kind: kind, log: tel.Log}
	if c.tls {
		c.security = " with TLS"
	}
	mend(client)
	unwatch, err := c.watch(o, tel, instrumentClient(client, tel, o.SlowThreshold))
	if err != nil {
		release()
		return nil, errors.Join(err, client.Close())
	}
	c.close = sync.OnceValue(func() error {
		err := errors.Join(unwatch(), client.Close())
		release()
		return err
	})
	return c, nil
}

// connectHost is Connect for a client of the host's.
func connectHost(o Options, tel *telemetry.Telemetry) (*Conn, error) {
	mend(o.Client)
	var h *hook
	if o.InstrumentClient {
		h = instrumentOnce(o.Client, tel, o.SlowThreshold)
	}
	c := &Conn{client: o.Client, endpoint: "the host's client", kind: kindOf(o.Client), log: tel.Log}
	unwatch, err := c.watch(o, tel, h)
	if err != nil {
		return nil, err
	}
	c.close = sync.OnceValue(unwatch)
	return c, nil
}

// Client is the client, for this module's packages and for the host. It must
// not be closed.
func (c *Conn) Client() redis.UniversalClient { return c.client }

// Endpoint says where Redis is, without credentials, for messages.
func (c *Conn) Endpoint() string { return c.endpoint }

// checkTimeout bounds Check when its context has no deadline.
const checkTimeout = 5 * time.Second

// Check asks Redis whether it answers us, within ctx and at most 5 seconds.
// ErrUnavailable: it cannot be reached or is not ready, which passes. ErrDenied:
// user, password, ACL or TLS are wrong, which does not.
//
// It is one PING. Inspect looks closer, once at start, and Health knows without
// asking, also whether Redis takes writes.
func (c *Conn) Check(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := c.client.Ping(bounded).Err()
	// Not with ctx: whoever gives Check a deadline asks whether Redis answers by
	// then, so passing it means "unavailable" here, not "the caller gave up".
	err = rediserr.Wrap(context.WithoutCancel(ctx), "redisstate: check of Redis at "+c.endpoint+c.security, "connection", err)
	if c.tls && silent(err) {
		return fmt.Errorf("%w; does this port speak TLS? else use redis://", err)
	}
	if c.security == " without TLS" && errors.Is(err, io.EOF) { // as a server does that takes our command for a handshake
		return fmt.Errorf("%w; does this port want TLS? then use rediss://", err)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok && c.tls {
		return fmt.Errorf("%w; name a host of the certificate by REDIS_TLS_SERVER_NAME or Options.TLS.ServerName", err)
	}
	return err
}

// silent tells that a server took the connection and said nothing in time: a
// plain Redis waits for the end of what it takes for a command.
func silent(err error) bool {
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "dial" {
		return false // nobody took it
	}
	var waited net.Error
	return errors.As(err, &waited) && waited.Timeout()
}

// Close ends Health and closes the client, unless it is the host's own, and ends an
// embedded Redis that nobody else uses. Closing twice is fine.
func (c *Conn) Close() error {
	if err := c.close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return rediserr.Wrap(context.Background(), "redisstate: close", "connection", err)
	}
	return nil
}

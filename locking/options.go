package locking

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/keys"
)

// Defaults of Options, and the shortest TTL that is accepted.
const (
	DefaultTTL  = 30 * time.Second
	DefaultWait = 10 * time.Second
	MinTTL      = time.Second
	// MinRenewEvery is the shortest time between two renewals that is accepted.
	MinRenewEvery = 10 * time.Millisecond
)

// forEver is as long as a wait or a lease may be: what is longer is meant so, and
// times in Redis and in Go cannot hold much more.
const forEver = 10 * 365 * 24 * time.Hour

// Options configure a Manager. The zero value works.
type Options struct {
	// Namespace is the prefix of every key. Managers that are to exclude each
	// other use the same one. Defaults to "temporal-redis".
	Namespace string
	// TTL is how long Redis keeps a lease whose holder fell silent; it is cut
	// to whole milliseconds and is at least 1 s. Defaults to 30 s.
	TTL time.Duration
	// RenewEvery is the time between two renewals, at least 10 ms and at most half of TTL.
	// Defaults to a third of TTL (10 s).
	RenewEvery time.Duration
	// Wait bounds how long Acquire waits for a held resource, unless WithWait
	// says otherwise. Defaults to 10 s.
	Wait time.Duration
	// Quarantine is for how long a master that was started gives no vote, since
	// it may have forgotten leases: the longest TTL that any process uses, or
	// more. Negative switches it off: then a restart may let two hold a lease.
	// Defaults to TTL with several masters, and to none with one, which would grant
	// nothing for so long.
	Quarantine time.Duration
	// Holder is what Manager.List shows of who holds a lock: up to 256 bytes, no
	// secret. Defaults to the host's name and the process id.
	Holder string
	// Logger gets a line for each lost lease; it never sees a resource's name.
	// Defaults to slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics. Defaults to prometheus.DefaultRegisterer.
	Registerer prometheus.Registerer
	// TracerProvider gets a span for each Acquire and Release. Defaults to
	// otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
}

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = keys.DefaultNamespace
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.RenewEvery == 0 {
		o.RenewEvery = o.TTL / 3
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Holder == "" {
		o.Holder = defaultHolder()
	}
	if o.TTL >= MinTTL { // a shorter one is refused, and shown as it was given
		o.TTL = o.TTL.Truncate(time.Millisecond)
	}
	return o
}

// quarantine is what is used with so many masters; 0 for none.
func (o Options) quarantine(masters int) time.Duration {
	if o.Quarantine == 0 && masters > 1 {
		return o.TTL
	}
	return max(o.Quarantine, 0)
}

// Validate tells everything that is wrong with o, without any I/O. The error
// wraps ErrInvalidOptions.
func (o Options) Validate() error { return o.withDefaults().validate() }

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalidOptions}, args...)...))
	}
	if _, err := keys.NewSpace(o.Namespace, ""); err != nil {
		errs = append(errs, fmt.Errorf("%w: Options.Namespace: %w", ErrInvalidOptions, err))
	}
	if o.TTL < MinTTL {
		bad("Options.TTL is %s; use at least %s", o.TTL, MinTTL)
	}
	if o.TTL >= MinTTL && (o.RenewEvery < MinRenewEvery || o.RenewEvery > o.TTL/2) {
		bad("Options.RenewEvery is %s; use at least %s and at most half of TTL (%s)", o.RenewEvery, MinRenewEvery, o.TTL/2)
	}
	if len(o.Holder) > maxHolder || !utf8.ValidString(o.Holder) {
		bad("Options.Holder is %d bytes long; use up to %d bytes of UTF-8", len(o.Holder), maxHolder)
	}
	if o.Quarantine > 0 && o.Quarantine < o.TTL {
		bad("Options.Quarantine is %s; use at least TTL (%s), 0 for the default, or a negative one to switch it off", o.Quarantine, o.TTL)
	}
	if o.Wait < 0 {
		bad("Options.Wait is %s; use a positive time, or WithWait(0) to try once", o.Wait)
	}
	return errors.Join(errs...)
}

// Option changes one Acquire.
type Option func(*request)

// WithTTL changes the lease's TTL, in whole milliseconds and at least 1 s.
// RenewEvery shrinks with it to a third of the TTL where it would be longer.
// Defaults to Options.TTL.
func WithTTL(ttl time.Duration) Option {
	return func(r *request) { r.ttl = ttl.Truncate(time.Millisecond) }
}

// WithWait bounds how long Acquire waits for a held resource; 0 tries once.
// Defaults to Options.Wait.
func WithWait(wait time.Duration) Option {
	return func(r *request) { r.wait = wait }
}

// Waiting tells a callback about an Acquire that waits.
type Waiting struct {
	Elapsed   time.Duration // since Acquire was called
	Remaining time.Duration // until Acquire gives up
}

// WithWaitCallback has fn called when the wait for a held resource starts and
// about once a second until it ends. fn runs on Acquire's own goroutine, never
// concurrently with itself, and delays the acquisition while it runs: enough to
// send a heartbeat, no more. Defaults to no callback.
func WithWaitCallback(fn func(Waiting)) Option {
	return func(r *request) { r.onWait = fn }
}

// WithDeadline bounds the lease's life: it is renewed until t at the latest and
// ends then with cause ErrLost, however healthy Redis is. The wait too ends at
// t. Defaults to no deadline.
func WithDeadline(t time.Time) Option {
	return func(r *request) { r.deadline = t }
}

// request is one Acquire with everything resolved.
type request struct {
	ttl        time.Duration
	renewEvery time.Duration
	wait       time.Duration
	onWait     func(Waiting)
	deadline   time.Time // zero: none
}

func (o Options) request(opts []Option) (request, error) {
	r := request{ttl: o.TTL, wait: o.Wait}
	for _, opt := range opts {
		if opt != nil {
			opt(&r)
		}
	}
	r.renewEvery = min(o.RenewEvery, r.ttl/3)
	if r.ttl == o.TTL {
		r.renewEvery = o.RenewEvery
	}
	var errs []error
	if r.ttl < MinTTL {
		errs = append(errs, fmt.Errorf("%w: WithTTL(%s); use at least %s", ErrInvalidOptions, r.ttl, MinTTL))
	}
	if r.wait < 0 {
		errs = append(errs, fmt.Errorf("%w: WithWait(%s); use 0 to try once, or a positive time", ErrInvalidOptions, r.wait))
	}
	r.wait = min(r.wait, forEver)
	return r, errors.Join(errs...)
}

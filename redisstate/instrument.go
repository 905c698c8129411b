package redisstate

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/compozy/temporal-redis/internal/health"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/telemetry"
	"github.com/compozy/temporal-redis/internal/trips"
)

// instrumented are the hooks that the host's clients carry already.
var instrumented sync.Map // weak pointer to the client -> weak pointer to its hook

// instrumentOnce is the hook of a client of the host: ours that is there, or a new
// one. It is nil for a kind of client that we do not know.
func instrumentOnce(client redis.UniversalClient, tel *telemetry.Telemetry, slow time.Duration) *hook {
	switch c := client.(type) {
	case *redis.Client:
		return hookOnce(c, client, tel, slow)
	case *redis.ClusterClient:
		return hookOnce(c, client, tel, slow)
	}
	return nil
}

func hookOnce[T any](key *T, client redis.UniversalClient, tel *telemetry.Telemetry, slow time.Duration) *hook {
	fresh := newHook(client, tel, slow)
	known, seen := instrumented.LoadOrStore(weak.Make(key), weak.Make(fresh))
	if !seen {
		runtime.AddCleanup(key, func(key weak.Pointer[T]) { instrumented.Delete(key) }, weak.Make(key))
		client.AddHook(fresh)
		return fresh
	}
	if there, ok := known.(weak.Pointer[hook]); ok {
		return there.Value() // the client has it, and the caller the client
	}
	return nil
}

// once does something to a client unless it is in the set, and adds it there.
func once[T any](set *sync.Map, client *T, do func()) {
	key := weak.Make(client)
	if _, seen := set.LoadOrStore(key, struct{}{}); seen {
		return
	}
	runtime.AddCleanup(client, func(key weak.Pointer[T]) { set.Delete(key) }, key)
	do()
}

// instrumentClient adds our hook. On Cluster it sees an operation as the caller
// does: once, redirections included.
func instrumentClient(client redis.UniversalClient, tel *telemetry.Telemetry, slow time.Duration) *hook {
	h := newHook(client, tel, slow)
	client.AddHook(h)
	return h
}

func newHook(client redis.UniversalClient, tel *telemetry.Telemetry, slow time.Duration) *hook {
	return &hook{
		log:    tel.Log,
		tracer: tel.Tracer,
		hist:   tel.Metrics.OpDuration,
		slow:   slow,
		attrs:  serverAttributes(client),
		ops:    make(map[string]*operation),
	}
}

// serverAttributes are those of OpenTelemetry's conventions for Redis that do
// not change: where the server is (if it is one server) and its database.
func serverAttributes(client redis.UniversalClient) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String("db.system.name", "redis")}
	single, ok := client.(*redis.Client)
	if !ok {
		return attrs
	}
	o := single.Options()
	attrs = append(attrs, attribute.String("db.namespace", strconv.Itoa(o.DB)))
	if o.Network == "unix" {
		return append(attrs, attribute.String("server.address", o.Addr))
	}
	host, port, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return attrs // a client over sentinels has no address of its own
	}
	attrs = append(attrs, attribute.String("server.address", host))
	if n, err := strconv.Atoi(port); err == nil {
		attrs = append(attrs, attribute.Int("server.port", n))
	}
	return attrs
}

// hook records every command and pipeline of a client: a span, the duration,
// and a warning when it was slow. It records operation names only, never
// arguments or replies.
type hook struct {
	log    *slog.Logger
	tracer trace.Tracer
	hist   *prometheus.HistogramVec
	slow   time.Duration // negative: never
	attrs  []attribute.KeyValue
	heard  observers
	mu     sync.RWMutex
	ops    map[string]*operation // by command
}

// operation is what does not change between two uses of a command.
type operation struct {
	name     string // "get", for metrics and logs
	span     string // "GET"
	options  []trace.SpanStartOption
	blocking bool // waits by intent: never slow
	ok       prometheus.Observer
	hist     *prometheus.HistogramVec
}

// blockingCommands wait for something to happen.
var blockingCommands = map[string]bool{
	"blpop": true, "brpop": true, "blmove": true, "blmpop": true, "bzpopmin": true,
	"bzpopmax": true, "bzmpop": true, "brpoplpush": true, "xread": true, "xreadgroup": true,
	"wait": true, "subscribe": true, "psubscribe": true, "ssubscribe": true,
}

// knownCommands bounds the values of the metric's label.
var knownCommands = func() map[string]bool {
	known := map[string]bool{}
	const names = "append auth client cluster config copy dbsize decr decrby del discard echo eval evalsha exec exists " +
		"expire expireat flushall flushdb get getdel getex getrange getset hdel hello hexists hget hgetall hincrby hlen hmget hscan hset " +
		"incr incrby info keys llen lpop lpush lrange lrem ltrim mget mset multi object persist pexpire pexpireat ping " +
		"pipeline psetex pttl publish role rpop rpush sadd scan scard script sdiff select sentinel set setex setnx sismember " +
		"smembers spop spublish srem sscan strlen time touch ttl type unlink unwatch watch xadd xlen xrange zadd zcard " +
		"zincrby zrange zrangebyscore zrem zremrangebyscore zscan zscore"
	for name := range strings.FieldsSeq(names) {
		known[name] = true
	}
	for name := range blockingCommands {
		known[name] = true
	}
	return known
}()

const otherCommand = "other"

// operation finds or makes what is known of a command.
func (h *hook) operation(name string) *operation {
	if !knownCommands[name] {
		name = otherCommand
	}
	h.mu.RLock()
	op := h.ops[name]
	h.mu.RUnlock()
	if op != nil {
		return op
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if op := h.ops[name]; op != nil {
		return op
	}
	span := strings.ToUpper(name)
	attrs := append(slices.Clip(h.attrs), attribute.String("db.operation.name", span))
	op = &operation{
		name:     name,
		span:     span,
		options:  []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)},
		blocking: blockingCommands[name],
		ok:       h.hist.WithLabelValues(name, rediserr.OK.String()),
		hist:     h.hist,
	}
	h.ops[name] = op
	return op
}

// DialHook passes dialing through: a failed dial is the command's error.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook records one command.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		op := h.operation(cmd.Name())
		start := time.Now()
		ctx, span := h.tracer.Start(ctx, op.span, op.options...)
		err := next(ctx, cmd)
		h.done(ctx, op, span, start, err)
		return err
	}
}

// ProcessPipelineHook records a pipeline or a transaction as one operation.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		name, size := "pipeline", len(cmds)
		if size >= 2 && cmds[0].Name() == "multi" {
			name, size = "multi", size-2
		}
		op := h.operation(name)
		start := time.Now()
		options := op.options
		if links := trips.SpanLinks(ctx); links != nil {
			options = append(slices.Clip(options), trace.WithLinks(links...))
		}
		ctx, span := h.tracer.Start(ctx, op.span, options...)
		if span.IsRecording() {
			span.SetAttributes(attribute.Int("db.operation.batch.size", size))
		}
		err := next(ctx, cmds)
		h.done(ctx, op, span, start, rediserr.Reason(err, cmds))
		return err
	}
}

func (h *hook) done(ctx context.Context, op *operation, span trace.Span, start time.Time, err error) {
	took := time.Since(start)
	observer := op.ok
	class := rediserr.Classify(ctx, err)
	if err == nil || !health.IsProbe(ctx) {
		h.heard.observe(err, class)
	}
	switch {
	case class == rediserr.OK, class == rediserr.NotFound:
	case rediserr.Why(err) == rediserr.WordConflict: // another was faster: no fault of Redis, nor of anybody
		observer = op.hist.WithLabelValues(op.name, string(rediserr.WordConflict))
	default:
		observer = op.hist.WithLabelValues(op.name, class.String())
		// The reply's text may repeat arguments: the class has to do.
		span.SetAttributes(attribute.String("error.type", class.String()))
		span.SetStatus(codes.Error, class.String())
	}
	observer.Observe(took.Seconds())
	span.End()
	// What failed since Redis is away is told once, by the health's lines.
	if h.slow >= 0 && took >= h.slow && !op.blocking && class != rediserr.Unavailable {
		h.log.WarnContext(ctx, "slow Redis operation", "op", op.name, "duration", took)
	}
}

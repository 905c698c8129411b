package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/redisstate"
	"github.com/compozy/temporal-redis/worker"
)

// connection is how a command finds what the plugin of the workers has in Redis.
type connection struct {
	url, namespace, temporal string
	timeout                  time.Duration
}

func (c *connection) flags(f *flag.FlagSet) {
	f.StringVar(&c.url, "redis", "", "where Redis is; better REDIS_URL, where a password is not seen by others (default REDIS_URL; for locks REDIS_LOCK_URLS)")
	f.StringVar(&c.temporal, "temporal-namespace", "default", "the Temporal namespace whose workers are meant")
	f.StringVar(&c.namespace, "namespace", "", "prefix of the keys, if the workers set one (default REDIS_NAMESPACE, else by the Temporal namespace)")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait for Redis")
}

// parse reads the flags of a command that takes no other arguments.
func parse(f *flag.FlagSet, args []string, s streams) error {
	others, err := parseAll(f, args, s)
	if err == nil && len(others) > 0 {
		return misused(f, s, "%s takes no arguments but flags; got %q", f.Name(), others[0])
	}
	return err
}

// parseAll reads flags, which may stand before, between and behind the other
// arguments.
func parseAll(f *flag.FlagSet, args []string, s streams) (others []string, err error) {
	f.SetOutput(s.err)
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage // flag said what is wrong
		}
		if f.NArg() == 0 {
			return others, nil
		}
		others, args = append(others, f.Arg(0)), f.Args()[1:]
	}
}

// misused says how a command was called wrongly.
func misused(f *flag.FlagSet, s streams, format string, args ...any) error {
	_, _ = fmt.Fprintf(s.err, format+"\n", args...)
	f.Usage()
	return errUsage
}

// environment is what flags leave of the environment: --redis is the one server that
// is meant, and lock masters may be all there is.
func (c *connection) environment(env lookup) lookup {
	const locks = "REDIS_LOCK_URLS"
	return func(name string) (string, bool) {
		if name == locks && c.url != "" {
			return "", false
		}
		value, ok := env(name)
		if url, _ := env("REDIS_URL"); name == "REDIS_SENTINEL_MASTER" && url == "" && !strings.Contains(c.url, "+sentinel://") {
			return "", false // of the Redis that is not named
		}
		if name == "REDIS_URL" && value == "" {
			all, _ := env(locks)
			value, _, _ = strings.Cut(all, ",")
			return strings.TrimSpace(value), value != ""
		}
		return value, ok
	}
}

// prefix is the namespace of the keys that are looked at.
func (c *connection) prefix(env lookup) string {
	fromEnv, _ := env("REDIS_NAMESPACE")
	return cmp.Or(c.namespace, fromEnv, keys.NamespaceFor(c.temporal))
}

// with calls do with the plugin as the workers have it.
func (c *connection) with(ctx context.Context, s streams, env lookup, do func(context.Context, *worker.Plugin) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	plugin, err := c.open(env, slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plugin.Close(context.WithoutCancel(ctx))) }()
	return do(ctx, plugin)
}

// open makes the plugin, and connects to nothing yet.
func (c *connection) open(env lookup, log *slog.Logger) (*worker.Plugin, error) {
	return c.openWith(env, log, func(*worker.Options) {})
}

// errNoRedis names what a command has in place of the options of the plugin.
var errNoRedis = errors.New("no Redis given; set REDIS_URL (for locks REDIS_LOCK_URLS), or use --redis redis://localhost:6379")

func (c *connection) openWith(env lookup, log *slog.Logger, change func(*worker.Options)) (*worker.Plugin, error) {
	o := worker.Options{
		Redis:             redisstate.Options{URL: c.url, Namespace: c.namespace},
		Environment:       c.environment(env),
		TemporalNamespace: c.temporal,
		Registerer:        prometheus.NewRegistry(),
		Logger:            log,
	}
	if url, _ := o.Environment("REDIS_URL"); url == "" && c.url == "" {
		return nil, errNoRedis
	}
	change(&o)
	return worker.NewPlugin(o)
}

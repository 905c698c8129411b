//go:build unix

package harness

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
)

// Lab is where one row runs: its servers, files and random numbers. It is for
// one goroutine.
type Lab struct {
	settings Settings
	key      string
	closers  []func() error
}

// MinRounds is the least number of rounds that give a result.
const MinRounds = 7

// Settings are the same for all rows of a run.
type Settings struct {
	// Rounds is the number of rounds of each comparison.
	Rounds int
	// Quick runs everything once with few operations: to see that it runs. What
	// it measures means nothing.
	Quick bool
	// Seed decides all generated data.
	Seed uint64
}

// rounds of a quick run: enough for a median to be one of several.
const quickRounds = 2

// Rounds is the number of rounds to measure.
func (l *Lab) Rounds() int {
	if l.settings.Quick {
		return quickRounds
	}
	return l.settings.Rounds
}

// Plan completes p. In a quick run little is left of it.
func (l *Lab) Plan(p Plan) Plan {
	p.Callers, p.Batch = max(p.Callers, 1), max(p.Batch, 1)
	p.OursBatch = max(p.OursBatch, p.Batch)
	p.rounds = l.Rounds()
	if l.settings.Quick {
		p.Pairs = min(p.Pairs, 2)
		p.Turn = max(min(p.Turn, 4), p.Callers)
		p.Batch, p.OursBatch = min(p.Batch, 2), min(p.OursBatch, 2)
	}
	return p
}

// Size is full, or quick in a quick run.
func (l *Lab) Size(full, quick int) int {
	if l.settings.Quick {
		return quick
	}
	return full
}

// Rand gives the row's random numbers: the same for the same seed and row.
func (l *Lab) Rand() *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(l.key))
	return rand.New(rand.NewPCG(l.settings.Seed, h.Sum64()))
}

// Defer has f called when the lab closes, last first.
func (l *Lab) Defer(f func() error) { l.closers = append(l.closers, f) }

// Dir makes a directory that lives as long as the lab.
func (l *Lab) Dir() (string, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	l.Defer(func() error { return os.RemoveAll(dir) })
	return dir, nil
}

// Redis starts a redis-server for this row: loopback, no TLS, nothing persisted
// unless an option says so.
func (l *Lab) Redis(ctx context.Context, opts ...redistest.Option) (*redistest.Server, error) {
	dir, err := l.Dir()
	if err != nil {
		return nil, err
	}
	server, err := redistest.Run(ctx, dir, opts...)
	if err != nil {
		return nil, err
	}
	l.Defer(func() error { server.Close(); return nil })
	return server, nil
}

// GoRedis is a bare go-redis client of a server with a pool of that size.
func (l *Lab) GoRedis(server *redistest.Server, poolSize int) *redis.Client {
	options := server.Options()
	options.PoolSize = poolSize
	client := redis.NewClient(options)
	l.Defer(client.Close)
	return client
}

// Within runs f in a lab of its own, which is closed when f returns: for rows
// that start many servers, one after the other.
func (l *Lab) Within(f func(*Lab) error) (err error) {
	inner := &Lab{settings: l.settings, key: l.key}
	defer func() { err = errors.Join(err, inner.close()) }()
	return f(inner)
}

// close ends everything of the lab.
func (l *Lab) close() error {
	var errs []error
	for _, f := range slices.Backward(l.closers) {
		errs = append(errs, f())
	}
	l.closers = nil
	return errors.Join(errs...)
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/interceptors"
	"github.com/compozy/temporal-redis/redisstate"
)

// lockURLs is the environment variable of Options.LockURLs.
const lockURLs = "REDIS_LOCK_URLS"

// betweenURLs is a comma before another URL: those of one may have commas too.
var betweenURLs = regexp.MustCompile(`\s*,\s*([a-z]+(?:\+[a-z]+)?://)|\s+`)

// urlsFromEnv fills URLs that code leaves unset.
func urlsFromEnv(urls []string, lookup func(string) (string, bool)) []string {
	if urls != nil {
		return urls
	}
	text, _ := lookup(lockURLs)
	return strings.Fields(betweenURLs.ReplaceAllString(text, " $1"))
}

// validateLockMasters checks LockURLs, whose text may hold passwords.
func (o Options) validateLockMasters() error {
	if len(o.LockURLs) == 0 {
		return nil
	}
	var errs []error
	if n := len(o.LockURLs); n%2 == 0 {
		errs = append(errs, fmt.Errorf("worker: LockURLs (%s) names %d masters; a majority needs an odd number, 3 or 5", lockURLs, n))
	}
	for i, url := range o.LockURLs {
		if err := o.Redis.At(url).Validate(); err != nil {
			errs = append(errs, fmt.Errorf("worker: LockURLs (%s), master %d: %w", lockURLs, i+1, err))
		}
	}
	return errors.Join(errs...)
}

// lockMasters are the connections to the masters that leases are on, where they
// have their own.
type lockMasters struct {
	log     *slog.Logger
	masters []*lockMaster
	shared  *redisstate.Conn // another connection to the Redis of the configs, if there are no masters
}

type lockMaster struct {
	conn *redisstate.Conn

	mu     sync.Mutex
	report redisstate.Report
	good   bool // it was inspected and found good
	away   bool // it did not answer when it was asked last
}

// openLockMasters makes the connections that LockURLs name; no I/O.
func openLockMasters(ctx context.Context, o Options) (*lockMasters, error) {
	l := &lockMasters{log: o.Logger}
	if len(o.LockURLs) == 0 && o.Redis.Client == nil {
		alone, err := redisstate.Connect(ctx, once(o.Redis, locksName))
		l.shared = alone
		return l, err
	}
	for i, url := range o.LockURLs {
		conn, err := redisstate.Connect(ctx, once(o.Redis.At(url), lockMasterName(i)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock master %d: %w", i+1, err), l.close())
		}
		l.masters = append(l.masters, &lockMaster{conn: conn})
	}
	return l, nil
}

// once has commands not repeated by the client. A release whose reply is lost would
// else find the lock gone, as if the lease had been lost; leases know what to repeat.
func once(o redisstate.Options, name string) redisstate.Options {
	o.MaxRetries, o.MinIdleConns, o.Name = -1, 0, name
	return o
}

// clients are those that leases are on: the masters', or else that of the configs.
func (l *lockMasters) clients(configs redis.UniversalClient) []redis.UniversalClient {
	switch {
	case l.shared != nil:
		return []redis.UniversalClient{l.shared.Client()}
	case len(l.masters) == 0:
		return []redis.UniversalClient{configs}
	}
	var all []redis.UniversalClient
	for _, m := range l.masters {
		all = append(all, m.conn.Client())
	}
	return all
}

// check asks all masters, closely until each was found good once. A minority may
// be away. Other faults are errors: they do not pass by themselves.
func (l *lockMasters) check(ctx context.Context) error {
	if len(l.masters) == 0 {
		return nil
	}
	errs := make([]error, len(l.masters))
	var asking sync.WaitGroup
	for i, m := range l.masters {
		asking.Go(func() { errs[i] = m.check(ctx) })
	}
	asking.Wait()
	away := 0
	for i, err := range errs {
		if err == nil {
			l.masters[i].back()
			continue
		}
		if !errors.Is(err, redisstate.ErrUnavailable) {
			return fmt.Errorf("lock master %d: %w", i+1, err)
		}
		if away++; l.masters[i].left() {
			l.log.WarnContext(ctx, "a lock master does not answer; leases need a majority of them",
				"op", "check", "family", "lock", "master", i+1, "masters", len(l.masters), "error", err)
		}
	}
	if away > len(l.masters)/2 {
		return fmt.Errorf("%d of %d lock masters do not answer: %w", away, len(l.masters), errors.Join(errs...))
	}
	return l.distinct()
}

// distinct makes sure that no master has two votes.
func (l *lockMasters) distinct() error {
	first := make(map[string]int)
	for i, m := range l.masters {
		for _, id := range m.runs() {
			if other, seen := first[id]; seen && id != "" {
				return fmt.Errorf("%w: lock masters %d and %d are the same server, which would have two votes; name independent ones in LockURLs (%s)",
					redisstate.ErrUnsuitable, other+1, i+1, lockURLs)
			}
			first[id] = i
		}
	}
	return nil
}

func (l *lockMasters) close() error {
	var errs []error
	if l.shared != nil {
		errs = append(errs, l.shared.Close())
	}
	for _, m := range l.masters {
		errs = append(errs, m.conn.Close())
	}
	return errors.Join(errs...)
}

func (m *lockMaster) check(ctx context.Context) error {
	m.mu.Lock()
	good := m.good
	m.mu.Unlock()
	if good {
		return m.conn.Check(ctx)
	}
	report, err := m.conn.Inspect(ctx)
	if err == nil {
		m.mu.Lock()
		m.good, m.report = true, report
		m.mu.Unlock()
	}
	return err
}

// looked tells whether every master was inspected once and found good.
func (l *lockMasters) looked() bool {
	for _, m := range l.masters {
		m.mu.Lock()
		good := m.good
		m.mu.Unlock()
		if !good {
			return false
		}
	}
	return true
}

// left notes that the master is away, and tells whether that is new.
func (m *lockMaster) left() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.away
	m.away = true
	return !before
}

func (m *lockMaster) back() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = false
}

// runs are the ids of the processes that were found.
func (m *lockMaster) runs() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.report.Nodes {
		ids = append(ids, n.RunID)
	}
	return ids
}

// tellLocks says at a start what the leases of these options are worth, if that is
// less than it could be.
func (o Options) tellLocks(ctx context.Context) {
	if len(o.LockURLs) >= 3 {
		if o.LockQuarantine < 0 {
			o.Logger.WarnContext(ctx, "lock masters that were started again are believed at once: if they have forgotten leases, two activities may be under one; "+
				"their fences tell them apart", "op", "start", "family", "lock", "remedy", "leave LockQuarantine at 0, or set LockTTL or more")
		}
		return
	}
	level := slog.LevelInfo
	locks := o.DefaultPolicy.Lock == interceptors.On
	for _, policy := range o.Policies {
		locks = locks || policy.Lock == interceptors.On
	}
	if locks {
		level = slog.LevelWarn
	}
	o.Logger.Log(ctx, level, "leases are on one Redis master: if it loses its data (a restart, a fail-over, a flush), two activities may be under one lease; "+
		"their fences tell them apart", "op", "start", "family", "lock", "remedy", "name 3 or 5 independent masters in LockURLs ("+lockURLs+")")
}

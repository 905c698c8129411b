//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/compozy/temporal-redis/bench/internal/harness"
	"github.com/compozy/temporal-redis/locking"
)

// contendedRows are 16 processes that want one lease, for 1 ms each time.
func contendedRows() []harness.Row {
	var once sync.Once
	var all []fight
	var failed error
	fights := func(ctx context.Context, lab *harness.Lab) ([]fight, error) {
		once.Do(func() { all, failed = runFights(ctx, lab) })
		return all, failed
	}
	row := func(outcome func([]fight) harness.Outcome) func(context.Context, *harness.Lab) (harness.Outcome, error) {
		return func(ctx context.Context, lab *harness.Lab) (harness.Outcome, error) {
			all, err := fights(ctx, lab)
			if err != nil {
				return harness.Outcome{}, err
			}
			return outcome(all), nil
		}
	}
	const what = "16 processes want one lease and hold it for 1 ms, again and again; ours: 3 masters, fenced; "
	return []harness.Row{
		{
			Key: "lock_contended_vs_redsync", Group: groupLock, Bar: harness.AtLeast(1.25),
			How: "leases per second; " + what + "theirs: redsync with its defaults on the same masters",
			Run: row(func(all []fight) harness.Outcome {
				return harness.Rates(all, func(f fight) float64 { return f[fighterOurs].perSecond() }, func(f fight) float64 { return f[fighterRedsync].perSecond() })
			}),
		},
		{
			Key: "lock_fairness", Group: groupLock, Bar: harness.AtLeast(0.98),
			How: "Jain's index of the leases that each process got (1: all the same); " + what + "theirs: redislock on one master, asking each millisecond",
			Run: row(func(all []fight) harness.Outcome {
				return harness.Parts(all, func(f fight) float64 { return f[fighterOurs].jain() }, func(f fight) float64 { return f[fighterRedislock].jain() })
			}),
		},
		{
			Key: "lock_max_wait_vs_best", Group: groupLock, Bar: harness.AtMost(0.5),
			How: "the longest wait of any process for a lease; " + what + "theirs: the best of redsync, redislock and rueidislock in the same round",
			Run: row(func(all []fight) harness.Outcome {
				return harness.Waits(all, func(f fight) time.Duration { return f[fighterOurs].longest() }, func(f fight) time.Duration {
					return min(f[fighterRedsync].longest(), f[fighterRedislock].longest(), f[fighterRueidislock].longest())
				})
			}),
		},
		{
			Key: "lock_contended_vs_rueidislock", Group: groupLock,
			How: "leases per second; " + what + "theirs: rueidislock on one master, which tells its waiters of a release by client-side caching",
			Run: row(func(all []fight) harness.Outcome {
				return harness.Rates(all, func(f fight) float64 { return f[fighterOurs].perSecond() }, func(f fight) float64 { return f[fighterRueidislock].perSecond() })
			}),
		},
		{
			Key: "lock_fairness_of_rueidislock", Group: groupLock,
			How: "Jain's index as in lock_fairness; theirs: rueidislock on one master",
			Run: row(func(all []fight) harness.Outcome {
				return harness.Parts(all, func(f fight) float64 { return f[fighterOurs].jain() }, func(f fight) float64 { return f[fighterRueidislock].jain() })
			}),
		},
	}
}

// The sides of a fight.
const (
	fighterOurs        = "ours"
	fighterRedsync     = "redsync"
	fighterRedislock   = "redislock"
	fighterRueidislock = "rueidislock"
)

const (
	fighters  = 16
	quickOnes = 3 // are enough to see that they fight
	fightHold = time.Millisecond
	// fightFor is how long one side fights, and fightAtMost if nobody got a lease: on a
	// machine that busy there would be nothing to divide by.
	fightFor    = 2 * time.Second
	fightAtMost = 16 * fightFor
	// contendFlag makes a process of this command a fighter.
	contendFlag = "-contend"
)

// fighter is what a process is told.
type fighter struct {
	Side    string
	Masters []string
	For     time.Duration
}

// bout is what a process did.
type bout struct {
	Leases  int
	Longest time.Duration
	Error   string
}

// bouts are those of one side, and fight is a round of all sides.
type (
	bouts struct {
		all    []bout
		lasted time.Duration
	}
	fight map[string]bouts
)

func (b bouts) leases() (n int) {
	for _, one := range b.all {
		n += one.Leases
	}
	return n
}

func (b bouts) perSecond() float64 { return float64(b.leases()) / b.lasted.Seconds() }

// jain is (sum x)^2 / (n sum x^2), see R. Jain, D. Chiu, W. Hawe: A Quantitative
// Measure of Fairness and Discrimination, DEC-TR-301, 1984.
func (b bouts) jain() float64 {
	var sum, squares float64
	for _, one := range b.all {
		sum += float64(one.Leases)
		squares += float64(one.Leases) * float64(one.Leases)
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(b.all)) * squares)
}

func (b bouts) longest() (longest time.Duration) {
	for _, one := range b.all {
		longest = max(longest, one.Longest)
	}
	return longest
}

func runFights(ctx context.Context, lab *harness.Lab) ([]fight, error) {
	var masters []string
	for range 3 {
		server, err := lab.Redis(ctx)
		if err != nil {
			return nil, err
		}
		masters = append(masters, server.Addr())
	}
	var all []fight
	for range lab.Rounds() {
		f := fight{}
		for side, addrs := range map[string][]string{fighterOurs: masters, fighterRedsync: masters, fighterRedislock: masters[:1], fighterRueidislock: masters[:1]} {
			b, err := runBouts(ctx, lab.Size(fighters, quickOnes), fighter{Side: side, Masters: addrs, For: time.Duration(lab.Size(int(fightFor), int(fightFor)/10))})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", side, err)
			}
			f[side] = b
		}
		all = append(all, f)
	}
	return all, nil
}

// runBouts has one side fight, for longer if nobody got a lease.
func runBouts(ctx context.Context, n int, f fighter) (bouts, error) {
	for {
		b, err := runBout(ctx, n, f)
		if err != nil || b.leases() > 0 {
			return b, err
		}
		if f.For *= 2; f.For > fightAtMost {
			return bouts{}, fmt.Errorf("nobody got a lease in %s", f.For/2)
		}
	}
}

// runBout has the n processes of one side start at the same time.
func runBout(ctx context.Context, n int, f fighter) (bouts, error) {
	role, err := json.Marshal(f)
	if err != nil {
		return bouts{}, err
	}
	type process struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Reader
	}
	var all []process
	defer func() {
		for _, p := range all {
			_ = p.in.Close()
			_ = p.cmd.Wait()
		}
	}()
	for range n {
		cmd := exec.CommandContext(ctx, os.Args[0], contendFlag, string(role)) //nolint:gosec // this very program
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return bouts{}, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return bouts{}, err
		}
		if err := cmd.Start(); err != nil {
			return bouts{}, err
		}
		all = append(all, process{cmd, in, bufio.NewReader(out)})
	}
	for _, p := range all {
		if _, err := p.out.ReadString('\n'); err != nil {
			return bouts{}, fmt.Errorf("a process did not get ready: %w", err)
		}
	}
	for _, p := range all {
		if _, err := io.WriteString(p.in, "go\n"); err != nil {
			return bouts{}, err
		}
	}
	results := bouts{lasted: f.For}
	for _, p := range all {
		var b bout
		if err := json.NewDecoder(p.out).Decode(&b); err != nil {
			return bouts{}, fmt.Errorf("a process gave no result: %w", err)
		}
		if b.Error != "" {
			return bouts{}, errors.New(b.Error)
		}
		results.all = append(results.all, b)
	}
	return results, nil
}

// contend is what a process of the fight does.
func contend(ctx context.Context, role string, in io.Reader, out io.Writer) error {
	var f fighter
	if err := json.Unmarshal([]byte(role), &f); err != nil {
		return err
	}
	var clients []redis.UniversalClient
	for _, addr := range f.Masters {
		client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, PoolSize: 4})
		defer func() { _ = client.Close() }()
		if err := client.Ping(ctx).Err(); err != nil {
			return err
		}
		clients = append(clients, client)
	}
	take, end, err := f.locker(clients)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, "ready\n"); err != nil {
		return err
	}
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
		return err
	}
	var b bout
	began := time.Now()
	for time.Since(began) < f.For {
		asked := time.Now()
		release, err := take(ctx)
		if errors.Is(err, errOver) {
			b.Longest = max(b.Longest, time.Since(asked))
			break
		}
		if err != nil {
			b.Error = err.Error()
			break
		}
		b.Longest = max(b.Longest, time.Since(asked))
		if time.Since(began) < f.For {
			b.Leases++
		}
		<-time.After(fightHold)
		if err := release(ctx); err != nil {
			b.Error = err.Error()
			break
		}
	}
	return errors.Join(json.NewEncoder(out).Encode(b), end())
}

// errOver says that a side got no lease to the end of the fight.
var errOver = errors.New("the fight is over")

// rueidislock waits by client-side caching. One key is its majority of one master. Some of
// its processes never get the lease again, also when all others have ended: so a wait ends
// with the fight.
func (f fighter) rueidislock() (take func(context.Context) (func(context.Context) error, error), end func() error, err error) {
	locks, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: f.Masters}, KeyMajority: 1, KeyValidity: lockTTL,
	})
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (func(context.Context) error, error) {
		bound, stop := context.WithTimeout(ctx, f.For)
		_, cancel, err := locks.WithContext(bound, "contended")
		if err != nil {
			if bound.Err() != nil && ctx.Err() == nil {
				err = errOver
			}
			stop()
			return nil, err
		}
		return func(context.Context) error {
			cancel()
			stop()
			return nil
		}, nil
	}, func() error { locks.Close(); return nil }, nil
}

// locker is how a side takes a lease, however long that takes.
func (f fighter) locker(clients []redis.UniversalClient) (take func(context.Context) (func(context.Context) error, error), end func() error, err error) {
	nothing := func() error { return nil }
	switch f.Side {
	case fighterOurs:
		m, err := locking.NewQuorum(clients, locking.Options{
			Quarantine: -1, Wait: time.Minute, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) (func(context.Context) error, error) {
			lease, err := m.Acquire(ctx, "contended")
			if err != nil {
				return nil, err
			}
			return lease.Release, nil
		}, func() error { return m.Close(context.Background()) }, nil
	case fighterRedsync:
		locks := redsyncOf(clients)
		return func(ctx context.Context) (func(context.Context) error, error) {
			for {
				m := locks.NewMutex("redsync", redsync.WithExpiry(lockTTL))
				err := m.LockContext(ctx)
				if _, taken := errors.AsType[*redsync.ErrTaken](err); taken || errors.Is(err, redsync.ErrFailed) {
					continue // its tries are over
				}
				if err != nil {
					return nil, err
				}
				return func(ctx context.Context) error { _, err := m.UnlockContext(ctx); return err }, nil
			}
		}, nothing, nil
	case fighterRedislock:
		locks := redislock.New(clients[0])
		return func(ctx context.Context) (func(context.Context) error, error) {
			l, err := locks.Obtain(ctx, "redislock", lockTTL, &redislock.Options{RetryStrategy: redislock.LinearBackoff(time.Millisecond)})
			if err != nil {
				return nil, err
			}
			return l.Release, nil
		}, nothing, nil
	case fighterRueidislock:
		return f.rueidislock()
	}
	return nil, nil, fmt.Errorf("there is no side %q", f.Side)
}

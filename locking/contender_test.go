package locking

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// ContenderVariable makes a process of the test binary a contender: its value is a
// Contender in JSON.
const ContenderVariable = "TEMPORAL_REDIS_TEST_CONTENDER"

// Contender is a process that takes one lease after the other, until its standard
// input ends. It tells Deeds on its standard output.
type Contender struct {
	Masters    []string      // host:port
	TTL        time.Duration // a third of it between renewals
	Quarantine time.Duration
	Hold       time.Duration // the longest, as a rule
	Wait       time.Duration // of each Acquire; 0: four times TTL
	Guard      string        // host:port of the store that is guarded by fences
	Broken     string        // how; empty: not
	Seed       uint64
	Number     int // tells the processes apart
}

// Deed is what a contender did. Times are of the clock that all processes of a
// machine share.
type Deed struct {
	By   int    // Contender.Number
	Kind string // acquire; held, while it is; write; end; refused, with an error; late, when the process was not run;
	// trouble, of the master By
	Lease string
	Fence uint64
	Call  int64
	// Return is when the call returned; of held and end, Call is when the lease was
	// held for sure.
	Return   int64
	Accepted bool // of write
	Held     bool // of write: the lease was held when it was answered
	Error    string
	Reason   string // of refused
}

// Reasons of a Deed that is refused.
const (
	HeldByAnother = "held by another"
	MastersAway   = "masters away"
)

// Claim is what the guarded store is asked, and Answer what it says.
type (
	Claim struct {
		Fence uint64
		Lease string
	}
	Answer struct{ Accepted bool }
)

// SharedClock is the monotonic clock of the machine.
func SharedClock() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

func contendFor(role string, in io.Reader, out io.Writer) error {
	var c Contender
	if err := json.Unmarshal([]byte(role), &c); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()
	var clients []redis.UniversalClient
	for _, addr := range c.Masters {
		client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second})
		defer func() { _ = client.Close() }()
		clients = append(clients, client)
	}
	m, err := BrokenQuorum(clients, Options{
		TTL: c.TTL, Quarantine: c.Quarantine, Wait: cmp.Or(c.Wait, 4*c.TTL),
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}, c.Broken)
	if err != nil {
		return err
	}
	// Not by ctx: it may be told to end before it has begun.
	store, err := net.DialTimeout("tcp", c.Guard, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	p := &player{
		Contender: c, manager: m, out: json.NewEncoder(out), random: rand.New(rand.NewPCG(c.Seed, uint64(c.Number))),
		ask: json.NewEncoder(store), answers: json.NewDecoder(bufio.NewReader(store)),
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() {
		Late(ctx, func(from, to int64) { _ = p.tell(Deed{By: c.Number, Kind: "late", Call: from, Return: to}) })
	})
	for ctx.Err() == nil {
		if err := p.play(ctx); err != nil {
			return err
		}
	}
	ending, ended := context.WithTimeout(context.Background(), 10*time.Second)
	defer ended()
	return m.Close(ending)
}

// player is a contender that runs.
type player struct {
	Contender
	manager *Manager
	telling sync.Mutex
	out     *json.Encoder
	random  *rand.Rand
	ask     *json.Encoder
	answers *json.Decoder
}

// play takes one lease, writes under it and gives it back.
func (p *player) play(ctx context.Context) error {
	called := SharedClock()
	lease, err := p.manager.Acquire(ctx, "r")
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		reason := HeldByAnother
		switch {
		case errors.Is(err, ErrUnavailable):
			reason = MastersAway
		case !errors.Is(err, ErrNotAcquired):
			return err
		}
		return p.tell(Deed{By: p.Number, Kind: "refused", Call: called, Return: SharedClock(), Error: err.Error(), Reason: reason})
	}
	d := Deed{By: p.Number, Lease: lease.ID(), Fence: lease.Fence()}
	told := func(kind string, call int64) error {
		d.Kind, d.Call, d.Return = kind, call, SharedClock()
		return p.tell(d)
	}
	if err := told("acquire", called); err != nil {
		return err
	}
	hold := time.Duration(p.random.Int64N(int64(p.Hold) + 1))
	sure := d.Return
	until := time.Now().Add(hold)
	for {
		now := SharedClock()
		if lease.Err() != nil {
			break
		}
		sure = now
		if err := told("held", sure); err != nil {
			return err
		}
		if !time.Now().Before(until) {
			break
		}
		<-time.After(min(time.Until(until), 5*time.Millisecond))
	}
	if d.Accepted, err = p.write(lease); err != nil {
		return err
	}
	d.Held = lease.Err() == nil
	if err := told("write", sure); err != nil {
		return err
	}
	if now := SharedClock(); lease.Err() == nil {
		sure = now
	}
	if err := lease.Release(ctx); err != nil && !errors.Is(err, ErrNotHeld) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("release: %w", err)
	}
	return told("end", sure)
}

// write asks the guarded store.
func (p *player) write(lease *Lease) (accepted bool, err error) {
	if err := p.ask.Encode(Claim{lease.Fence(), lease.ID()}); err != nil {
		return false, err
	}
	var a Answer
	err = p.answers.Decode(&a)
	return a.Accepted, err
}

func (p *player) tell(d Deed) error {
	p.telling.Lock()
	defer p.telling.Unlock()
	return p.out.Encode(d)
}

// Late tells when the process should have been run, and was not: the machine had
// something else to do. It returns when ctx ends.
func Late(ctx context.Context, tell func(from, to int64)) {
	const each = 10 * time.Millisecond
	tick := time.NewTicker(each)
	defer tick.Stop()
	for last := SharedClock(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := SharedClock()
		if due := last + each.Nanoseconds(); now > due+each.Nanoseconds() {
			tell(due, now)
		}
		last = now
	}
}

package locking

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// bellVigil is one wait. It listens for the whole of it with one command: who
// asks again goes to the end of the line.
type bellVigil struct {
	bells *bells
	keys  lockKeys
	until time.Time
	heard chan struct{}
	// polite says that others go first: that the lock is free is no reason to ask.
	polite bool
	poll   poller

	mu     sync.Mutex
	line   *line   // nil: not listening
	spare  *line   // listens beside line, see doubt
	lost   []*line // that hear nothing any more
	marked bool
	deaf   time.Time // does not listen until then; zero: it does
	ended  bool

	doubted time.Time     // when the last line was begun
	doubts  time.Duration // after how long the next is
}

// line is one blocked command.
type line struct {
	done chan struct{} // closed when it is over

	spare  bool // of a wait that has another
	since  time.Time
	leaves bool // for another wait; guarded by the bells' mu

	// mu is held while the command is being unblocked, so that the connection
	// does not go back to its pool, and to another wait, meanwhile.
	mu     sync.Mutex
	client *redis.Client
	id     int64 // of the blocked connection, 0 before and after
}

func (v *bellVigil) rung() <-chan struct{} { return v.heard }

func (v *bellVigil) listens() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.deaf.IsZero()
}

func (v *bellVigil) patience(remaining time.Duration) time.Duration {
	if !v.listens() {
		return v.poll.patience(remaining)
	}
	pause := bellPatience
	if remaining > 0 {
		pause = min(pause, remaining)
	}
	return pause + jitter(pause/10)
}

func (v *bellVigil) again() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended || len(v.heard) > 0 || time.Now().Before(v.deaf) {
		return
	}
	if v.line != nil {
		v.doubt()
		return
	}
	if !v.deaf.IsZero() {
		v.marked = false // nobody may have rung meanwhile
	}
	v.deaf = time.Now().Add(bellPatience)
	if v.bells.rests() {
		return
	}
	l, ok := v.bells.enter()
	if !ok {
		v.deaf = time.Now().Add(pollFirst) // by the next look there is a line
		return
	}
	v.deaf = time.Time{}
	v.line, v.doubted, v.doubts = l, time.Now(), v.bells.doubt
	v.listen(l)
}

// doubt begins a second line behind one that has heard nothing for long: its connection
// may be half-open, and the ring that it was handed be lost. It is not given up, or a
// wait that is just long would lose its place. The second is given up for another one
// after twice the time. There the mark is left again, in case that Redis lost it.
func (v *bellVigil) doubt() {
	if time.Since(v.doubted) < v.doubts {
		return
	}
	l, ok := v.bells.spare()
	if !ok {
		return
	}
	if before := v.spare; before != nil {
		v.lost = append(v.lost, before)
		v.bells.spawn(func() {
			if ended, _ := v.bells.retire(before); !ended {
				v.bells.leave(before)
			}
		})
	}
	v.spare, v.doubted, v.doubts = l, time.Now(), 2*v.doubts
	v.listen(l)
}

func (v *bellVigil) listen(l *line) {
	v.bells.spawn(func() {
		defer v.bells.leave(l)
		v.settle(l, v.hear(l))
	})
}

// hear blocks until there is a ring, and returns nil for one.
func (v *bellVigil) hear(l *line) error {
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	client, err := v.bells.client(ctx, v.keys.queue)
	if err != nil {
		return err
	}
	conn := client.Conn()
	defer func() { _ = conn.Close() }() // back to the pool
	free, id, err := v.announce(ctx, conn, l)
	if err != nil || free {
		return err
	}
	l.block(client, id)
	defer l.block(nil, 0) // before conn is closed
	if v.gaveUp(l) {
		return redis.Nil
	}
	// Whole seconds, because that is what the typed command sends; end cuts it
	// short. The typed one, because its read time-out follows the wait.
	atMost := time.Duration(math.Ceil(time.Until(v.until).Seconds())+1) * time.Second
	return conn.BZPopMin(context.Background(), atMost, v.keys.queue).Err()
}

// announce names the connection and gives its id. The first time it also leaves the
// mark, and looks whether the lock was released before the mark was there: then nobody
// rings.
func (v *bellVigil) announce(ctx context.Context, conn *redis.Conn, l *line) (free bool, id int64, err error) {
	var (
		number *redis.IntCmd
		mark   *redis.BoolCmd
		longer *redis.Cmd
		left   *redis.DurationCmd
	)
	v.mu.Lock()
	spare := l == v.spare
	first := v.bells.marks && (!v.marked || spare)
	v.mu.Unlock()
	name := listener(v.keys) // for List; no matter if it may not
	if spare {
		name = spareListener // a wait counts once
	}
	_, _ = rediserr.Settle(conn.Pipelined(ctx, func(p redis.Pipeliner) error {
		number = p.ClientID(ctx)
		p.ClientSetName(ctx, name)
		if first {
			life := min(max(time.Until(v.until), 0), fenceTTL) + bellPatience
			mark = p.SetNX(ctx, v.keys.mark, "1", life)
			longer = p.Do(ctx, "pexpire", v.keys.mark, life.Milliseconds(), "gt") // another's may be shorter
			left = p.PTTL(ctx, v.keys.lock)
		}
		return nil
	}))
	if number.Err() != nil {
		return false, 0, number.Err()
	}
	if !first {
		return false, number.Val(), nil
	}
	if err := errors.Join(mark.Err(), longer.Err(), left.Err()); err != nil {
		return false, 0, err
	}
	v.mu.Lock()
	v.marked = true
	v.mu.Unlock()
	return left.Val() == -2 && !v.polite && !spare, number.Val(), nil
}

// gaveUp tells whether nobody wants to hear what a line hears.
func (v *bellVigil) gaveUp(l *line) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended || (l != v.line && l != v.spare)
}

func (l *line) block(client *redis.Client, id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client, l.id = client, id
}

// blockedOn is nil if the command is not blocked.
func (l *line) blockedOn() *redis.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

// unblock ends the command if it is blocked, and tells whether it was.
func (l *line) unblock() (ended bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	n, err := l.client.ClientUnblock(ctx, l.id).Result()
	return n > 0, err
}

// settle says what came of a line.
func (v *bellVigil) settle(l *line, err error) {
	rung, evicted := err == nil, v.bells.evicts(l)
	v.mu.Lock()
	close(l.done)
	mine := v.forget(l, rung)
	ended := v.ended
	if !rung && mine && v.line == nil { // also an UNBLOCK that was not ours
		v.deaf = time.Now().Add(bellPatience)
	}
	unheard := rung
	if !ended && (rung || (mine && !evicted)) { // who was evicted looks when it would have done so anyway
		select {
		case v.heard <- struct{}{}: // a ring, or a reason to look at once and often
			unheard = false
		default: // one that was not used yet says as much
		}
	}
	v.mu.Unlock()
	switch {
	case unheard:
		v.passOn()
	case !rung && !ended && !errors.Is(err, redis.Nil):
		v.bells.rest(err)
	}
}

// forget takes a line away that is over, and tells whether the wait rested on it. What
// the spare hears, the line should have heard: Redis hands rings out in order.
func (v *bellVigil) forget(l *line, rung bool) (mine bool) {
	switch l {
	case v.line:
		if v.line, v.spare = v.spare, nil; v.line != nil {
			v.bells.promote(v.line)
		}
		return true
	case v.spare:
		v.spare = nil
		if rung && v.line != nil {
			v.bells.leave(v.line)
			v.lost, v.line = append(v.lost, v.line), nil
		}
	default:
		v.lost = slices.DeleteFunc(v.lost, func(other *line) bool { return other == l })
	}
	return false
}

func (v *bellVigil) pass() { v.bells.spawn(v.passOn) }

func (v *bellVigil) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	v.ended = true
	for _, l := range append(v.lost, v.line, v.spare) {
		if l != nil {
			v.bells.spawn(func() { v.bells.unblock(l) })
		}
	}
	select {
	case <-v.heard:
		v.bells.spawn(v.passOn)
	default:
	}
}

func (v *bellVigil) passOn() {
	ctx, cancel := context.WithTimeout(context.Background(), bellTimeout)
	defer cancel()
	_, _ = v.bells.pass(ctx, v.keys) // if it fails, the others look for themselves
}

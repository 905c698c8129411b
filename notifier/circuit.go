package notifier

import (
	"context"
	"sync"
	"time"
)

// circuit is closed while Redis answers. After a failure it opens: senders wait
// in gate, longer after each failed try, until one of them finds Redis back.
// Safe for concurrent use.
type circuit struct {
	mu      sync.Mutex
	open    bool
	since   time.Time // when it opened
	backoff backoff
	retryAt time.Time
	err     error // why it is open
	trying  bool  // somebody finds out whether Redis is back
}

func newCircuit() *circuit { return &circuit{} }

// gate waits until it is time to try. It reports whether the circuit is open,
// and ctx's error.
func (c *circuit) gate(ctx context.Context) (open bool, err error) {
	c.mu.Lock()
	open, wait := c.open, time.Until(c.retryAt)
	c.mu.Unlock()
	if !open || wait <= 0 {
		return open, ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, ctx.Err()
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// failed opens the circuit, or keeps it open. It reports whether this opened
// it.
func (c *circuit) failed(err error) (opened bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	now := time.Now()
	opened = !c.open
	if opened {
		c.open, c.since = true, now
	} else if now.Before(c.retryAt) {
		return false // another sender counted this failure
	}
	c.retryAt = now.Add(c.backoff.next())
	return opened
}

// succeeded closes the circuit. It reports whether it was open, and for how
// long.
func (c *circuit) succeeded() (closed bool, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return false, 0
	}
	after = time.Since(c.since)
	c.backoff.reset()
	c.open, c.err, c.retryAt = false, nil, time.Time{}
	return true, after
}

// cause is why the circuit is open, nil when it is not.
func (c *circuit) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// turn tells whether it is the caller's turn to try, who then calls tried: as long as the
// circuit is open, one at a time, and not before it is time.
func (c *circuit) turn() (open, now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.open:
		return false, true
	case c.trying || time.Now().Before(c.retryAt):
		return true, false
	}
	c.trying = true
	return true, true
}

// wait is how long to wait for the next turn, should nobody say before that the circuit
// is closed.
func (c *circuit) wait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := time.Until(c.retryAt); wait > 0 {
		return wait
	}
	return lastRetry
}

// tried ends a turn.
func (c *circuit) tried() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trying = false
}

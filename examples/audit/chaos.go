package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/compozy/temporal-redis/examples/audit/spec"
	"github.com/compozy/temporal-redis/internal/procs"
	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/notifier"
)

// outageLasts is how long --chaos keeps Redis away: longer than a hold, so that
// attempts are also given back and tried again.
const outageLasts = 15 * time.Second

// chaos kills the demo's own Redis in mid-run (SIGKILL) and starts it again. A
// killed server is noticed at once, so that nearly all of the outage is to be seen;
// a stopped one (SIGSTOP) would first be waited for, 9 s by who is asking for a
// lock. It has an append-only file, so that nothing of the report has to come from
// elsewhere.
//
// It begins with the first task that waits for the workflow's lock: others wait
// behind it and have not entered their code, so there is something to pause.
type chaos struct {
	server *redistest.Server

	mu     sync.Mutex // the goroutine of the outage and that of the events
	began  time.Time  // zero: not yet
	lasted time.Duration
	err    error // of the new start
	over   chan struct{}
	paused map[pausedAttempt]bool // by attempt; true: was told while Redis was away
}

type pausedAttempt struct {
	task    string
	attempt int32
}

// startChaos starts a redis-server for the demo alone. The function stops it,
// and removes its files.
func startChaos(ctx context.Context) (_ *chaos, stop func(), err error) {
	dir, err := os.MkdirTemp("", "audit-")
	if err != nil {
		return nil, nil, fmt.Errorf("--chaos: %w", err)
	}
	// While Redis is dead there is no process of it by whose end its files go.
	keeper, err := procs.Start(procs.Command{Path: "/bin/sleep", Args: []string{"86400"}, Scratch: dir})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--chaos: %w", err), os.RemoveAll(dir))
	}
	server, err := redistest.Run(ctx, dir, redistest.WithScratch(dir), redistest.WithPersistence())
	if err != nil {
		keeper.Kill()
		return nil, nil, errors.Join(fmt.Errorf("--chaos: start a Redis of its own: %w", err), os.RemoveAll(dir))
	}
	c := &chaos{server: server, over: make(chan struct{}), paused: make(map[pausedAttempt]bool)}
	return c, func() {
		server.Close()
		keeper.Kill()
		_ = os.RemoveAll(dir)
	}, nil
}

// suits refuses a workflow in which the outage would not begin.
func (s settings) suits(w *spec.Workflow) error {
	if !s.chaos {
		return nil
	}
	for _, t := range w.Tasks {
		if t.Critical || t.Task != nil && t.Task.Critical {
			return nil
		}
		for _, child := range t.Tasks {
			if child.Critical {
				return nil
			}
		}
	}
	return refuse("--chaos", "kills Redis when a task waits for the workflow's lock, and none of the file's has critical: true; give one, or leave the flag out")
}

// follow passes events on and looks at them. What it returns is closed after
// events, or when ctx ends. An outage ends early when interrupted does.
func (c *chaos) follow(ctx, interrupted context.Context, events <-chan notifier.Event) <-chan notifier.Event {
	seen := make(chan notifier.Event, cap(events))
	go func() {
		defer close(seen)
		for {
			select {
			case ev, ok := <-events:
				if !ok {
					return
				}
				c.see(interrupted, ev)
				select {
				case seen <- ev:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return seen
}

// see takes in one event. The first that says WAITING begins the outage.
func (c *chaos) see(interrupted context.Context, ev notifier.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ev.Kind != notifier.KindStatus:
	case ev.Status == notifier.StatusPaused:
		by := pausedAttempt{ev.TaskKey(), ev.Attempt}
		c.paused[by] = c.paused[by] || ev.Origin == notifier.OriginSource // Redis itself tells it afterwards
	case ev.Status == notifier.StatusWaiting && c.began.IsZero():
		c.server.Kill()
		c.began = time.Now()
		go c.end(interrupted)
	}
}

// end starts Redis again after outageLasts, or at once for what an interrupted run
// still has to do.
func (c *chaos) end(interrupted context.Context) {
	defer close(c.over)
	timer := time.NewTimer(outageLasts)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-interrupted.Done():
	}
	err := c.server.Restart(context.WithoutCancel(interrupted)) // has a bound of its own
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lasted, c.err = time.Since(c.began), err
}

// wait returns when the outage is over, and says whether there was one.
func (c *chaos) wait() error {
	c.mu.Lock()
	began := !c.began.IsZero()
	c.mu.Unlock()
	if !began {
		return errors.New("--chaos: Redis was not killed, since no task waited for the workflow's lock; let the file's critical tasks run")
	}
	<-c.over
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("--chaos: start Redis again: %w", c.err)
	}
	return nil
}

// print says what the outage did. That it used attempts of the user's is an error:
// user code is entered once for each task, as without it.
func (c *chaos) print(out io.Writer, tasks, entered int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := 0
	for _, whileAway := range c.paused {
		if whileAway {
			live++
		}
	}
	_, err := fmt.Fprintf(out, `outage      Redis was away for %.1f s, killed when a task waited for the lock
paused      %d attempts, %d of them on the screen while Redis was away
attempts    %d of user code for %d tasks, %d used by the outage
`, c.lasted.Seconds(), len(c.paused), live, entered, tasks, entered-tasks)
	switch {
	case err != nil:
		return err
	case entered != tasks:
		return fmt.Errorf("--chaos: user code was entered %d times for %d tasks; an outage uses no attempts", entered, tasks)
	case live == 0:
		return errors.New("--chaos: no task was seen PAUSED while Redis was away")
	}
	return nil
}

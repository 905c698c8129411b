package locking

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// post is a way to a master on which a transfer of commands may stay for a while, after
// the sender has given up, or not reach it at all.
type post struct {
	mu   sync.Mutex
	what delivery
	kept [][]any
}

// delivery is what becomes of what is sent.
type delivery int

const (
	arrives delivery = iota
	stays            // the sender gives up, it arrives later
	refused          // by the master, which does not execute it
	silent           // it is executed, the answer is lost
	hanging          // the sender waits as long as it may
)

func (p *post) set(what delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

func (*post) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*post) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (p *post) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.mu.Lock()
		what := p.what
		if what == stays {
			for _, cmd := range cmds {
				p.kept = append(p.kept, slices.Clone(cmd.Args()))
			}
		}
		p.mu.Unlock()
		var err error
		switch what {
		case stays:
			err = context.DeadlineExceeded
		case refused:
			err = readOnlyError{}
		case hanging:
			<-ctx.Done()
			err = ctx.Err()
		case silent:
			_ = next(ctx, cmds)
			err = io.EOF
		default:
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
}

// readOnlyError is the reply of a master that became a replica.
type readOnlyError struct{}

func (readOnlyError) Error() string { return "READONLY You can't write against a read only replica." }
func (readOnlyError) RedisError()   {}

// deliver lets arrive what stayed.
func (p *post) deliver(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	p.set(arrives)
	for _, args := range p.kept {
		_ = client.Do(t.Context(), args...).Err() // what it says nobody hears
	}
}

// posted is a parliament with a post before each master.
func posted(t *testing.T, masters int) (*parliament, []*post) {
	t.Helper()
	p := convene(t, masters)
	posts := make([]*post, masters)
	for i, n := range p.nodes {
		posts[i] = new(post)
		n.client.(*redis.Client).AddHook(posts[i])
	}
	p.give(p.take()) // the masters know the scripts from here on
	p.tasks.Wait()
	return p, posts
}

// A vote that was given back in vain is obtained again; then the first message arrives.
func TestRelease_that_comes_late_leaves_what_was_obtained_after_it(t *testing.T) {
	t.Parallel()
	p, posts := posted(t, 1)
	c := p.take()
	posts[0].set(stays)
	c.quit(p.bounded(), 0)
	posts[0].set(arrives)
	if err := c.obtain(p.bounded(), DefaultTTL); err != nil {
		t.Fatal(err)
	}
	if len(posts[0].kept) == 0 {
		t.Fatal("nothing stayed on its way")
	}
	posts[0].deliver(t, p.nodes[0].client)
	if p.count(c) != 1 {
		t.Error("the release that came late took what was obtained after it")
	}
	p.give(c)
	if p.count(c) != 0 {
		t.Error("the lock is not given back")
	}
}

// A lease that is gone at its release was lost, unless a release of it may have got
// through.
func TestRelease_tells_a_lost_lease_from_a_lost_answer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first delivery
		lost  bool // it is lost before the first release
		want  error
	}{
		"the first one was refused":             {first: refused, lost: true, want: errGone},
		"the first one was refused, it is held": {first: refused},
		"its answer was lost":                   {first: silent},
	} {
		for masters, n := range map[string]int{"one master": 1, "three masters": 3} {
			t.Run(name+"/"+masters, func(t *testing.T) {
				t.Parallel()
				p, posts := posted(t, n)
				c := p.take()
				p.tasks.Wait()
				for i, server := range p.servers {
					posts[i].set(test.first)
					if test.lost {
						server.Del(p.keys.lock)
					}
				}
				if err := c.release(p.bounded(), nil); !errors.Is(err, ErrUnavailable) {
					t.Fatalf("the first release gave %v", err)
				}
				p.tasks.Wait()
				for i, node := range p.nodes {
					posts[i].set(arrives)
					node.rest.until.Store(0)
				}
				if err := c.release(p.bounded(), nil); !errors.Is(err, test.want) {
					t.Errorf("the second release gave %v; want %v", err, test.want)
				}
			})
		}
	}
}

// What one release gave back stays given back to the end, for the next one.
func TestRelease_in_two_steps_counts_both(t *testing.T) {
	t.Parallel()
	p, posts := posted(t, 3)
	c := p.take()
	p.tasks.Wait()
	posts[1].set(refused)
	posts[2].set(refused)
	if err := c.release(p.bounded(), nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the first release gave %v", err)
	}
	p.tasks.Wait()
	p.servers[1].Del(p.keys.lock)
	posts[1].set(arrives)
	posts[2].set(arrives)
	p.back(1, 2)
	if err := c.release(p.bounded(), nil); err != nil {
		t.Errorf("a majority held it to the end, and the release gives %v", err)
	}
}

// A renewal that nobody listens to any more finds the lease lost: so does the release.
func TestRelease_behind_a_renewal_that_found_the_lease_gone_tells_so(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"one master": 1, "three masters": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := convene(t, n)
			c := p.take()
			p.tasks.Wait()
			for _, server := range p.servers {
				server.FlushAll()
			}
			if err := c.extend(p.bounded(), DefaultTTL); !errors.Is(err, errGone) {
				t.Fatalf("the renewal gave %v", err)
			}
			p.tasks.Wait()
			for range 2 {
				if err := c.release(p.bounded(), nil); !errors.Is(err, errGone) {
					t.Errorf("the release gave %v", err)
				}
			}
		})
	}
}

// The renewal is still under way when the release begins, which comes behind it.
func TestRelease_behind_a_renewal_that_is_under_way_tells_what_that_finds(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	c := p.take()
	p.tasks.Wait()
	for _, server := range p.servers {
		server.FlushAll()
	}
	var opens []func()
	for _, d := range p.doors {
		opens = append(opens, d.close())
	}
	renewed := make(chan error, 1)
	go func() { renewed <- c.extend(p.bounded(), DefaultTTL) }()
	for _, n := range p.nodes { // it is in every lane
		comes(t, func() bool {
			n.lanes.mu.Lock()
			defer n.lanes.mu.Unlock()
			return len(n.lanes.last) > 0
		})
	}
	released := make(chan error, 1)
	go func() { released <- c.release(p.bounded(), nil) }()
	comes(t, c.ended)
	for _, open := range opens {
		open()
	}
	if err := <-renewed; !errors.Is(err, errGone) {
		t.Errorf("the renewal gave %v", err)
	}
	if err := <-released; !errors.Is(err, errGone) {
		t.Errorf("the release gave %v", err)
	}
}

// A renewal that is overtaken by a release whose answer is lost finds nothing: that is no
// loss.
func TestRenewal_behind_a_release_whose_answer_was_lost_is_no_loss(t *testing.T) {
	t.Parallel()
	p, posts := posted(t, 1)
	c := p.take()
	posts[0].set(silent)
	if err := c.release(p.bounded(), nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the first release gave %v", err)
	}
	posts[0].set(arrives)
	if err := c.extend(p.bounded(), DefaultTTL); !errors.Is(err, errGone) {
		t.Errorf("the renewal gave %v", err)
	}
	if err := c.release(p.bounded(), nil); err != nil {
		t.Errorf("it was held to the end, and the release gives %v", err)
	}
}

// comes waits until something holds.
func comes(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it does not come")
		}
	}
}

// noCopy is an ACL that lacks one command of a grant.
type noCopy struct{}

func (noCopy) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (noCopy) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (noCopy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if cmd.Name() == "copy" {
				cmd.SetErr(permissionError{})
				err = permissionError{}
			}
		}
		return err
	}
}

type permissionError struct{}

func (permissionError) Error() string {
	return "NOPERM this user has no permissions to run the 'copy' command"
}
func (permissionError) RedisError() {}

func TestObtain_that_is_refused_beside_its_grant_gives_that_back(t *testing.T) {
	t.Parallel()
	p := convene(t, 1)
	p.nodes[0].client.(*redis.Client).AddHook(noCopy{})
	c := p.candidate()
	if err := c.obtain(p.bounded(), DefaultTTL); !errors.Is(err, ErrDenied) {
		t.Fatalf("got %v", err)
	}
	if p.count(c) != 1 || !c.pending() {
		t.Fatalf("it has %d masters, pending: %v", p.count(c), c.pending())
	}
	p.give(c)
	if p.count(c) != 0 {
		t.Error("the lock stays, for nobody")
	}
}

// A master rests because of another resource while it is still being asked for this one.
func TestRelease_goes_on_with_a_master_that_rests_while_it_is_asked(t *testing.T) {
	t.Parallel()
	p := convene(t, 3)
	p.persist = func(_ time.Duration, do func(context.Context) error) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for do(t.Context()) != nil {
			<-tick.C
		}
	}
	last := (p.home(p.keys) + 1) % 3
	open := p.doors[last].close()
	c := p.take()
	p.nodes[last].rest.until.Store(int64(time.Since(p.nodes[last].rest.began) + time.Minute))
	p.give(c)
	p.nodes[last].rest.until.Store(0)
	open()
	p.tasks.Wait()
	if left := p.holders(); left[last] != "" {
		t.Errorf("a master keeps %q", left[last])
	}
}

func TestQuorum_does_not_leave_masters_alone_to_whom_a_caller_gave_no_time(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		patience time.Duration
		rests    bool
	}{
		"no time":    {patience: hastyCall / 10},
		"their time": {patience: 2 * hastyCall, rests: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, posts := posted(t, 3)
			c := p.take()
			p.tasks.Wait()
			for _, post := range posts {
				post.set(hanging)
			}
			ctx, cancel := context.WithTimeout(t.Context(), test.patience)
			defer cancel()
			if err := c.extend(ctx, DefaultTTL); !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			p.tasks.Wait()
			for i, n := range p.nodes {
				if rests := n.rest.until.Load() != 0; rests != test.rests {
					t.Errorf("master %d is left alone: %v", i, rests)
				}
				posts[i].set(arrives)
			}
			p.back(0, 1, 2)
			p.give(c)
		})
	}
}

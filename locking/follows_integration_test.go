//go:build integration

package locking_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/locking"
)

// A is granted the lock and loses it, then B has it, and A again, while something happens
// to all masters. Whether A's second lease follows its first is not for those to say that may have
// forgotten B's.
func TestFollows_is_not_told_by_masters_that_may_have_forgotten_a_grant(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(*testing.T, *successor) (then func())
		between bool // B is granted the lock in between
		want    bool
	}{
		"nothing":                                {nothing, false, true},
		"nothing, but B":                         {nothing, true, false},
		"connections break":                      {disconnect, false, true},
		"connections break, and B":               {disconnect, true, false},
		"it starts again from an older copy":     {startAgain, true, false},
		"it starts again from a full copy":       {startAgain, false, false}, // who knows that it is
		"it was a replica for a while":           {stepDown, false, false},   // who knows of whom; its connections stay
		"a replica takes over that lacks B":      {failOver, true, false},
		"a replica takes over that lacks no one": {failOver, false, false},
	} {
		for number, masters := range map[string]int{"one master": 1, "three masters": 3} {
			t.Run(number+"/"+name, func(t *testing.T) {
				t.Parallel()
				all := make([]*successor, masters)
				clients := make([]redis.UniversalClient, masters)
				for i := range all {
					all[i] = &successor{Server: redistest.Start(t)}
					clients[i] = all[i].client(t)
				}
				opts := unhurried
				opts.Quarantine = -1 // there is none, or it is over
				a, b := openOn(t, clients, opts, ""), openOn(t, clients, opts, "")
				release(t, acquire(t, a))
				for _, s := range all {
					until(t, "the master has said who it is", func() bool { return s.asked.Load() > 0 })
				}
				first := acquire(t, a)
				lock, _, _, _ := first.Keys()
				for _, s := range all {
					if err := s.ControlClient(t).Del(t.Context(), lock).Err(); err != nil {
						t.Fatal(err)
					}
				}
				if err := first.Renew(t.Context()); !errors.Is(err, locking.ErrNotHeld) {
					t.Fatalf("it is not lost: %v", err)
				}
				var then []func()
				for _, s := range all {
					then = append(then, test.happens(t, s))
				}
				if test.between {
					release(t, acquire(t, b))
				}
				for _, happens := range then {
					happens()
				}
				if next := acquire(t, a); next.Follows(first) != test.want {
					t.Errorf("it says %v", !test.want)
				}
			})
		}
	}
}

func nothing(*testing.T, *successor) func() { return func() {} }

func disconnect(t *testing.T, s *successor) func() {
	t.Helper()
	control := s.ControlClient(t)
	return func() {
		if err := control.ClientKillByFilter(t.Context(), "type", "normal").Err(); err != nil {
			t.Error(err)
		}
	}
}

func startAgain(t *testing.T, s *successor) func() {
	t.Helper()
	if err := s.ControlClient(t).Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return func() {
		s.Kill()
		s.MustRestart(t)
	}
}

func stepDown(t *testing.T, s *successor) func() {
	t.Helper()
	control := s.ControlClient(t)
	return func() {
		for _, of := range [][2]string{{"127.0.0.1", "1"}, {"NO", "ONE"}} {
			if err := control.ReplicaOf(t.Context(), of[0], of[1]).Err(); err != nil {
				t.Error(err)
			}
		}
	}
}

func failOver(t *testing.T, s *successor) func() {
	t.Helper()
	replica := redistest.Start(t)
	by := follow(t, replica, s.Server)
	by.cut()
	return func() {
		s.Kill()
		by.takeOver(t)
		address := replica.Addr()
		s.address.Store(&address)
	}
}

// successor is a master, and whoever takes its place.
type successor struct {
	*redistest.Server

	address atomic.Pointer[string] // of who took its place
	asked   atomic.Int64           // how often it said who it is
}

// client finds whoever has the master's place.
func (s *successor) client(t *testing.T) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			if other := s.address.Load(); other != nil {
				address = *other
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	client.AddHook(countInfo{&s.asked})
	return client
}

// countInfo counts what came of INFO.
type countInfo struct{ n *atomic.Int64 }

func (countInfo) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (countInfo) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (c countInfo) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if cmds[0].Name() == "info" {
			c.n.Add(1)
		}
		return err
	}
}

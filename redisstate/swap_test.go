package redisstate

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// onTrip calls before and after for each pipeline of a client, counted from 1.
type onTrip struct {
	failing
	before func(trip int, cmds []redis.Cmder) error
	after  func(trip int)
}

func (h *onTrip) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if handshake(cmds) {
			return next(ctx, cmds)
		}
		h.seen++
		trip := h.seen
		if h.before != nil {
			if err := h.before(trip, cmds); err != nil {
				for _, cmd := range cmds {
					cmd.SetErr(err)
				}
				return err
			}
		}
		err := next(ctx, cmds)
		if h.after != nil {
			h.after(trip)
		}
		return err
	}
}

const contestedKey = "temporal-redis:config:a"

// contested is an id that has a content, and somebody who writes and reads beside the
// store under test.
type contested struct {
	*testing.T
	server *miniredis.Miniredis
	o      Options
	other  *Store
	first  Ref
}

func contest(t *testing.T, o Options) *contested {
	t.Helper()
	o.Logger, o.NearCacheBytes = quiet().Logger, -1
	c := &contested{T: t, server: newServer(t), o: o}
	c.other = newStore(t, newClient(t, c.server), o)
	c.first = c.set(c.other, 1)
	return c
}

// set saves n under the id.
func (c *contested) set(s *Store, n int) Ref {
	c.Helper()
	refs, err := s.Set(c.Context(), Entry{ID: "a", Workflow: "w", Value: n})
	if err != nil {
		c.Errorf("saving %d: %v", n, err)
		return Ref{}
	}
	return refs[0]
}

// hooked is a store with a hook.
func (c *contested) hooked(h redis.Hook) *Store {
	c.Helper()
	client := newClient(c.T, c.server)
	client.AddHook(h)
	return newStore(c.T, client, c.o)
}

func (c *contested) finds(when string, refs ...Ref) {
	c.Helper()
	for i, ref := range refs {
		if _, err := c.other.Get(context.WithoutCancel(c.Context()), ref.Key()); err != nil {
			c.Errorf("%s ref %d gives %v", when, i+1, err)
		}
	}
}

// Another writer comes before any trip of a Set, which may die after any. What Set has
// returned is found at every moment.
func TestSet_hides_no_ref_of_another_writer_for_a_moment(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		o      Options
		value  int // 1 is what is there already, under another workflow
		remove bool
	}{
		"other content":           {value: 3},
		"the same content":        {value: 1},
		"encrypted":               {o: Options{Keys: mustRing(t, "a")}, value: 3},
		"what is there is gone":   {value: 3, remove: true},
		"the same, which is gone": {value: 1, remove: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1; at <= 3; at++ {
				for dies := at + 1; dies <= 6; dies++ {
					c := contest(t, test.o)
					refs := []Ref{c.first}
					h := &onTrip{}
					h.before = func(trip int, _ []redis.Cmder) error {
						if trip == dies {
							return errDied
						}
						if trip != at {
							return nil
						}
						if test.remove {
							if _, err := c.other.Delete(t.Context(), ID("a"), c.first.Key()); err != nil {
								t.Error(err)
							}
							refs = nil
						}
						refs = append(refs, c.set(c.other, 2))
						return nil
					}
					h.after = func(int) { c.finds("meanwhile", refs...) }
					s := c.hooked(h)
					entry := Entry{ID: "a", Workflow: "z", Value: test.value}
					saved, err := s.Set(t.Context(), entry)
					if err == nil {
						refs = append(refs, saved...)
					} else if !errors.Is(err, ErrUnavailable) {
						t.Errorf("got %v", err)
					}
					c.finds("in the end", refs...)
				}
			}
		})
	}
}

// writesOver tells whether a pipeline is the transaction that writes over contents.
func writesOver(cmds []redis.Cmder) bool {
	return cmds[0].Name() == "multi" && slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
		return cmd.Name() == "set" && cmd.Args()[1] == contestedKey && !slices.Contains(cmd.Args(), any("nx"))
	})
}

func TestSet_gets_on_beside_a_writer_who_is_always_faster(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	refs := []Ref{c.first}
	h := &onTrip{before: func(_ int, cmds []redis.Cmder) error {
		if writesOver(cmds) {
			refs = append(refs, c.set(c.other, len(refs)+1))
		}
		return nil
	}}
	saved := c.set(c.hooked(h), 0)
	if want := 1 + 2*swapTries + 3; h.seen != want {
		t.Errorf("it took %d trips; want %d", h.seen, want)
	}
	c.finds("in the end", append(refs, saved)...)
	if config, err := c.other.Get(t.Context(), ID("a")); err != nil || string(config.JSON()) != "0" {
		t.Errorf("it has %s, %v", config.JSON(), err)
	}
}

func TestSet_ends_with_its_caller_beside_a_writer_who_is_always_faster(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	writes := 0
	h := &onTrip{before: func(_ int, cmds []redis.Cmder) error {
		if writesOver(cmds) {
			if writes++; writes == 4 {
				cancel()
			}
			c.set(c.other, writes+1)
		}
		return nil
	}}
	if _, err := c.hooked(h).Set(ctx, Entry{ID: "a", Value: 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if writes != 4 {
		t.Errorf("it tried %d times", writes)
	}
}

// A reply is lost, and another writer comes before the next trip. What was no transaction
// is sent again.
func TestSet_hides_no_ref_when_a_reply_is_lost(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]error{"watch": nil, "exec": ErrUnavailable} {
		c := contest(t, Options{})
		refs := []Ref{c.first}
		var lost atomic.Bool
		proxy := newLossy(t, c.server.Addr(), func(request []byte) bool {
			over := !bytes.Contains(request, []byte("\r\nnx\r\n$3\r\nget\r\n"))
			return over && bytes.Contains(request, []byte("\r\n"+command+"\r\n")) && !lost.Swap(true)
		})
		client := redis.NewClient(&redis.Options{Addr: proxy.addr, ContextTimeoutEnabled: true, MaxRetries: 1})
		t.Cleanup(func() { _ = client.Close() })
		client.AddHook(&onTrip{after: func(int) {
			if lost.Load() && len(refs) == 1 {
				refs = append(refs, c.set(c.other, 2))
			}
			c.finds(command+" is lost, meanwhile", refs...)
		}})
		saved, err := newStore(t, client, c.o).Set(t.Context(), Entry{ID: "a", Workflow: "w", Value: 3})
		if !errors.Is(err, want) || proxy.lost.Load() != 1 {
			t.Errorf("%s: got %v after %d lost replies", command, err, proxy.lost.Load())
		}
		c.finds(command+" was lost, in the end", append(refs, saved...)...)
	}
}

// Who may not watch, saves nevertheless.
func TestSet_writes_over_others_without_a_watch(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	h := &onTrip{before: func(_ int, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "watch" {
				cmd.Args()[0] = "refused"
			}
		}
		return nil
	}}
	c.finds("in the end", c.first, c.set(c.hooked(h), 2))
	if h.seen != 4 {
		t.Errorf("it took %d trips; want 4", h.seen)
	}
}

// A connection that goes back to the client watches nothing: the next transaction on it
// is somebody else's.
func TestSet_leaves_no_watch_on_a_connection(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(c *contested, trip int, cmds []redis.Cmder) error{
		"something else is there": func(c *contested, trip int, _ []redis.Cmder) error {
			if trip == 2 {
				c.server.Del(contestedKey)
				if _, err := c.server.Push(contestedKey, "x"); err != nil {
					c.Error(err)
				}
			}
			return nil
		},
		"the writer dies": func(_ *contested, trip int, _ []redis.Cmder) error { return map[int]error{3: errDied}[trip] },
		"it was overtaken": func(c *contested, trip int, _ []redis.Cmder) error {
			return map[int]error{4: errDied}[c.overtake(trip, 2)]
		},
		"it succeeds": func(*contested, int, []redis.Cmder) error { return nil },
		"what is put aside is there": func(c *contested, trip int, _ []redis.Cmder) error {
			if trip == 1 {
				c.set(c.other, 2)
				c.set(c.other, 1)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := contest(t, Options{})
			client := redis.NewClient(&redis.Options{Addr: c.server.Addr(), MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1})
			t.Cleanup(func() { _ = client.Close() })
			h := &onTrip{}
			h.before = func(trip int, cmds []redis.Cmder) error { return spoil(c, trip, cmds) }
			client.AddHook(h)
			_, _ = newStore(t, client, c.o).Set(t.Context(), Entry{ID: "a", Value: 3})
			h.before = nil
			c.server.Del(contestedKey)
			c.set(c.other, 4)
			if _, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil }); err != nil {
				t.Errorf("the next transaction gives %v", err)
			}
			if n := client.PoolStats().Misses; n != 1 {
				t.Errorf("%d connections were made; want 1, or this shows nothing", n)
			}
		})
	}
}

// overtake lets another writer write before a trip.
func (c *contested) overtake(trip, before int) int {
	c.Helper()
	if trip == before {
		c.set(c.other, 2)
	}
	return trip
}

// The trips of a Set over what is there.
func TestSet_writes_over_others_in_three_round_trips(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		o       Options
		entries []Entry
		want    int
	}{
		"other content":       {entries: []Entry{{ID: "a", Workflow: "w", Value: 2}}, want: 3},
		"other contents":      {entries: []Entry{{ID: "a", Value: 2}, {ID: "b", Value: 2}, {ID: "new", Value: 2}}, want: 3},
		"under another name":  {entries: []Entry{{ID: "a", Workflow: "x", Value: 1}}, want: 3},
		"all of them":         {entries: []Entry{{ID: "a", Workflow: "x", Value: 1}, {ID: "b", Workflow: "x", Value: 1}, {ID: "c", Value: 2}}, want: 3},
		"encrypted":           {o: Options{Keys: mustRing(t, "a")}, entries: []Entry{{ID: "a", Workflow: "w", Value: 2}}, want: 3},
		"for a longer time":   {entries: []Entry{{ID: "a", Workflow: "w", Value: 1, TTL: 2 * DefaultTTL}}, want: 3},
		"for the same time":   {entries: []Entry{{ID: "a", Workflow: "w", Value: 1}}, want: 2},
		"what nobody has yet": {entries: []Entry{{ID: "new", Workflow: "w", Value: 1}}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, o := newServer(t), quiet()
			o.Keys = test.o.Keys
			client := newClient(t, server)
			h := &onTrip{}
			client.AddHook(h)
			s := newStore(t, client, o)
			for _, id := range []string{"a", "b", "c"} {
				saves(t, s, Entry{ID: id, Workflow: "w", Value: 1})
			}
			h.seen = 0
			saves(t, s, slices.Clone(test.entries)...)
			if h.seen != test.want {
				t.Errorf("it took %d trips; want %d", h.seen, test.want)
			}
		})
	}
}

// What another writer puts there meanwhile may lie aside under a key that is to go.
func TestSet_seals_again_what_another_writer_put_there_meanwhile(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{Keys: mustRing(t, "old")})
	second := c.set(c.other, 2)
	c.set(c.other, 1) // the second is aside under the old key
	c.o.Keys = mustRing(t, "new", "old")
	rotated := newStore(t, newClient(t, c.server), c.o)
	c.set(c.hooked(&onTrip{before: func(trip int, _ []redis.Cmder) error {
		if trip == 3 {
			c.set(rotated, 2)
		}
		return nil
	}}), 3)
	c.o.Keys = mustRing(t, "new")
	c.other = newStore(t, newClient(t, c.server), c.o)
	c.finds("without the old key", second)
}

func TestSet_tells_that_what_lists_overwritten_contents_is_something_else(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	if err := c.server.Set(c.other.space.WorkflowAsideIndex("w"), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.other.Set(t.Context(), Entry{ID: "a", Workflow: "w", Value: 2}); !errors.Is(err, ErrWrongType) {
		t.Errorf("got %v; want ErrWrongType", err)
	}
	c.finds("nevertheless", c.first)
}

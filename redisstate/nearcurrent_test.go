package redisstate

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
)

func byKey() Options {
	o := quiet()
	o.NearCacheByKey = true
	return o
}

// newNearStore makes a store that answers reads by id, and waits until it may.
func newNearStore(t *testing.T, client redis.UniversalClient) *Store {
	t.Helper()
	s := newStore(t, client, byKey())
	hearsBells(t, s)
	return s
}

// hearsBells waits until bells are known to arrive.
func hearsBells(t *testing.T, s *Store) {
	t.Helper()
	until(t, "bells are known to arrive", s.current.beats.fresh)
}

// readsNow checks what a store says that an id has, and whether it asked Redis.
func readsNow(t *testing.T, s *Store, want int, near bool) {
	t.Helper()
	before := testutil.ToFloat64(s.hits) + testutil.ToFloat64(s.misses)
	c, err := s.Get(t.Context(), ID("a"))
	got := valueOf(t, c, err)
	asked := testutil.ToFloat64(s.hits)+testutil.ToFloat64(s.misses) > before
	if err != nil || got != want || asked == near {
		t.Errorf("it is %d, %v, and Redis was asked: %v; want %d, asked: %v", got, err, asked, want, !near)
	}
}

func TestStore_answers_ids_from_memory_until_a_bell_rings(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s, other := newNearStore(t, newClient(t, server)), newStore(t, newClient(t, server), quiet())
	heard := func() float64 { return testutil.ToFloat64(s.current.bells) }
	for name, change := range map[string]func() int{
		"another content": func() int {
			saves(t, other, Entry{ID: "a", Value: 2})
			return 2
		},
		"another workflow": func() int {
			saves(t, other, Entry{ID: "a", Value: 1, Workflow: "w2"})
			return 1
		},
		"deleted and saved again": func() int {
			if n, err := other.Delete(t.Context(), ID("a")); n != 1 || err != nil {
				t.Errorf("deleted %d, %v", n, err)
			}
			saves(t, other, Entry{ID: "a", Value: 3})
			return 3
		},
		"deleted by its ref": func() int {
			ref := Ref{ID: "a", Digest: currentDigest(t, other, "a")}
			if n, err := other.Delete(t.Context(), ref.Key()); n != 1 || err != nil {
				t.Errorf("deleted %d, %v", n, err)
			}
			saves(t, other, Entry{ID: "a", Value: 4})
			return 4
		},
		"deleted with its workflow": func() int {
			if n, err := other.DeleteWorkflow(t.Context(), "w"); n != 1 || err != nil {
				t.Errorf("deleted %d, %v", n, err)
			}
			saves(t, other, Entry{ID: "a", Value: 5})
			return 5
		},
	} {
		t.Run(name, func(t *testing.T) { // one after the other
			if _, err := other.Delete(t.Context(), ID("a")); err != nil {
				t.Fatal(err)
			}
			saves(t, other, Entry{ID: "a", Value: 1, Workflow: "w"})
			until(t, "it is read from Redis and remembered", func() bool {
				before := testutil.ToFloat64(s.hits)
				config, err := s.Get(t.Context(), ID("a"))
				return err == nil && string(config.JSON()) == "1" && testutil.ToFloat64(s.hits) == before
			})
			readsNow(t, s, 1, true)
			before := heard()
			want := change()
			until(t, "a bell is heard", func() bool { return heard() > before })
			readsNow(t, s, want, false)
			readsNow(t, s, want, true)
			got, err := s.GetMany(t.Context(), ID("a"), ID("none"))
			if err != nil || len(got) != 1 {
				t.Errorf("together they are %v, %v", got, err)
			}
		})
	}
}

// valueOf is the number that was read.
func valueOf(t *testing.T, c Config, err error) int {
	t.Helper()
	if err != nil {
		return -1
	}
	n, err := Decode[int](c)
	if err != nil {
		t.Fatal(err)
	}
	return *n
}

func currentDigest(t *testing.T, s *Store, id string) Digest {
	t.Helper()
	c, err := s.Get(t.Context(), ID(id))
	if err != nil {
		t.Fatal(err)
	}
	return c.Ref.Digest
}

// What this process writes it sees at once, whatever becomes of the bell.
func TestStore_forgets_what_it_wrote_itself(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newNearStore(t, newClient(t, server))
	s.current.beats.bell = func(string) {}
	s.current.beats.bus.Close() // from now on it hears nothing
	for i, write := range []func() error{
		func() error { _, err := s.Set(t.Context(), Entry{ID: "a", Value: 1, Workflow: "w"}); return err },
		func() error { _, err := s.Set(t.Context(), Entry{ID: "a", Value: 2, Workflow: "w"}); return err },
		func() error { _, err := s.Delete(t.Context(), ID("a")); return err },
		func() error { _, err := s.Set(t.Context(), Entry{ID: "a", Value: 4, Workflow: "w"}); return err },
		func() error {
			_, err := s.Delete(t.Context(), Key{ID: "a", Digest: currentDigest(t, s, "a")})
			return err
		},
		func() error { _, err := s.Set(t.Context(), Entry{ID: "a", Value: 6, Workflow: "w"}); return err },
		func() error { _, err := s.DeleteWorkflow(t.Context(), "w"); return err },
		func() error { _, err := s.Set(t.Context(), Entry{ID: "a", Value: 8, Workflow: "w"}); return err },
		func() error { // Redis has lost it meanwhile
			server.FlushAll()
			_, err := s.Set(t.Context(), Entry{ID: "a", Value: 9, Workflow: "w"})
			return err
		},
	} {
		trust(s)
		if err := write(); err != nil {
			t.Fatal(err)
		}
		c, err := s.Get(t.Context(), ID("a"))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		got := valueOf(t, c, err)
		if err != nil || got != i+1 {
			t.Errorf("after write %d it is %d, %v", i+1, got, err)
		}
		readsNow(t, s, got, true)
	}
}

// trust makes a store believe that bells arrive, unless it listens already.
func trust(s *Store) {
	s.current.beats.start.Do(func() {})
	s.current.beats.until.Store(int64(time.Hour))
	s.current.beats.untilWall.Store(time.Now().Add(time.Hour).UnixNano())
}

// A read is overtaken by a bell, or by a flush: what it brings is not remembered.
func TestCurrent_remembers_nothing_that_was_overtaken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(c *current)
		life      time.Duration
		want      bool
	}{
		"nothing":              {life: time.Second, want: true},
		"a bell of another":    {meanwhile: func(c *current) { c.heard("b") }, life: time.Second, want: true},
		"a bell":               {meanwhile: func(c *current) { c.heard("a") }, life: time.Second},
		"a write of its own":   {meanwhile: func(c *current) { c.forget("b", "a") }, life: time.Second},
		"a flush":              {meanwhile: func(c *current) { c.forgetAll() }, life: time.Second},
		"it expired":           {life: 0},
		"it was not there":     {life: noKey},
		"another read and end": {meanwhile: func(c *current) { c.done(c.begin("a"), "", 0) }, life: time.Second, want: true},
		"another read that brought the same": {meanwhile: func(c *current) {
			c.done(c.begin("a"), digestOf(c, "a"), time.Second)
		}, life: time.Second, want: true},
		"another read that brought something else": {meanwhile: func(c *current) {
			c.done(c.begin("a"), "sha256:x", time.Second)
		}, life: time.Second},
		"another read, as this one, after a third": {meanwhile: func(c *current) {
			c.done(c.begin("a"), "sha256:x", time.Second)
			c.done(c.begin("a"), digestOf(c, "a"), time.Second)
			c.done(c.begin("a"), digestOf(c, "a"), time.Second) // began when it was clear which one is the later
		}, life: time.Second, want: true},
		"another read that found nothing": {meanwhile: func(c *current) {
			c.done(c.begin("a"), missing, noKey)
		}, life: time.Second},
		"another read that failed": {meanwhile: func(c *current) {
			c.done(c.begin("a"), "", 0)
		}, life: time.Second, want: true},
		"another read, when no bells were known to arrive": {meanwhile: func(c *current) {
			until := c.beats.until.Swap(0)
			other := c.begin("a")
			c.beats.until.Store(until)
			c.done(other, "sha256:x", time.Second)
		}, life: time.Second},
		"a bell for another read that ended": {meanwhile: func(c *current) {
			other := c.begin("a")
			c.heard("a")
			c.done(other, "sha256:x", time.Second)
		}, life: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, newClient(t, newServer(t)), byKey())
			trust(s)
			saves(t, s, Entry{ID: "a", Value: 1})
			digest := currentDigest(t, s, "a")
			s.current.forget("a")
			if digest != digestOf(s.current, "a") {
				t.Fatal("the near cache does not have it")
			}
			token := s.current.begin("a")
			if test.meanwhile != nil {
				test.meanwhile(s.current)
			}
			s.current.done(token, digest, test.life)
			if got := s.current.get("a") != nil; got != test.want {
				t.Errorf("it is remembered: %v", got)
			}
			if len(s.current.tokens) != 0 {
				t.Errorf("left are %d tokens", len(s.current.tokens))
			}
		})
	}
}

// digestOf is the content of an id that a near cache has.
func digestOf(c *current, id string) Digest {
	if e, ok := c.near.cache.GetIfPresent(id); ok {
		return e.last.digest
	}
	return ""
}

// An entry ends with the life of what was read, as it was before it was read, and
// after maxCurrentAge.
func TestCurrent_remembers_nothing_for_too_long(t *testing.T) {
	t.Parallel()
	for life, want := range map[time.Duration]time.Duration{
		10 * time.Second: 10 * time.Second,
		time.Hour:        maxCurrentAge,
		forever:          maxCurrentAge,
	} {
		server := newServer(t)
		s := newStore(t, newClient(t, server), byKey())
		trust(s)
		saves(t, s, Entry{ID: "a", Value: 1, TTL: max(life, time.Millisecond)})
		if life == forever {
			if err := s.client.Persist(t.Context(), s.space.Config("a")).Err(); err != nil {
				t.Fatal(err)
			}
		}
		before := s.current.beats.now()
		readsNow(t, s, 1, false)
		after := s.current.beats.now()
		now, ok := s.current.known.GetIfPresent("a")
		if !ok || now.until < before+want-time.Second || now.until > after+want {
			t.Errorf("with %v to live it is remembered: %v, until %v; it was read from %v to %v", life, ok, now.until, before, after)
		}
		s.current.known.Set("a", currently{digest: now.digest, until: s.current.beats.now()})
		readsNow(t, s, 1, false)
	}
}

// Without the content itself, or word that bells arrive, Redis is asked.
func TestStore_asks_Redis_when_in_doubt(t *testing.T) {
	t.Parallel()
	for name, doubt := range map[string]func(s *Store){
		"the content went":           func(s *Store) { s.near.drop("a") },
		"no beat for a while":        func(s *Store) { s.current.beats.until.Store(int64(s.current.beats.now())) },
		"the machine was suspended":  func(s *Store) { s.current.beats.untilWall.Store(time.Now().UnixNano()) },
		"everything was forgotten":   func(s *Store) { s.current.forgetAll() },
		"the channel was subscribed": func(s *Store) { s.current.beats.again(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, newClient(t, newServer(t)), byKey())
			trust(s)
			saves(t, s, Entry{ID: "a", Value: 1})
			readsNow(t, s, 1, false)
			readsNow(t, s, 1, true)
			doubt(s)
			token := s.current.begin("a")
			if token.remember != s.current.beats.fresh() {
				t.Errorf("a read is to be remembered: %v", token.remember)
			}
			s.current.done(token, "", 0)
			readsNow(t, s, 1, false)
		})
	}
}

func TestNewStore_refuses_a_near_cache_by_key_that_cannot_be(t *testing.T) {
	t.Parallel()
	o := byKey()
	o.NearCacheBytes = -1
	if _, err := NewStore(newClient(t, newServer(t)), o); !errors.Is(err, ErrInvalidOptions) {
		t.Errorf("without a near cache: %v", err)
	}
	replicas := redis.NewClusterClient(&redis.ClusterOptions{ReadOnly: true})
	t.Cleanup(func() { _ = replicas.Close() })
	if _, err := NewStore(replicas, byKey()); !errors.Is(err, ErrInvalidOptions) {
		t.Errorf("with a client that reads from replicas: %v", err)
	}
}

// A hook of the host may panic while something is read.
func TestStore_does_not_keep_account_of_reads_that_panicked(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	s := newNearStore(t, client)
	var broken atomic.Bool
	client.AddHook(onPipeline(func() {
		if broken.Load() {
			panic("hook")
		}
	}))
	saves(t, s, Entry{ID: "a", Value: 1})
	broken.Store(true)
	for name, read := range map[string]func(){
		"one":  func() { _, _ = s.Get(t.Context(), ID("a")) },
		"many": func() { _, _ = s.GetMany(t.Context(), ID("a"), ID("b")) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("reading %s did not panic", name)
				}
			}()
			read()
		}()
	}
	broken.Store(false)
	s.current.mu.Lock()
	left := len(s.current.tokens)
	s.current.mu.Unlock()
	if left != 0 {
		t.Errorf("%d ids are said to be read", left)
	}
	readsNow(t, s, 1, false)
	readsNow(t, s, 1, true)
}

//go:build integration

package redisstate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// load is traffic on one store while servers fail: each writer has ids of its
// own and raises a number under them, and reads back what it knows.
type load struct {
	store *redisstate.Store
	stop  chan struct{}
	all   sync.WaitGroup

	calls, outages atomic.Int64
	mu             sync.Mutex
	wrong          []string
	last           string         // outage that was told
	acked          map[string]int // highest number whose Set was answered
}

const (
	writers     = 4
	idsOfWriter = 8
)

func startLoad(t *testing.T, store *redisstate.Store) *load {
	t.Helper()
	l := &load{store: store, stop: make(chan struct{}), acked: map[string]int{}}
	for w := range writers {
		l.all.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond) // the servers want to run, too
			defer tick.Stop()
			for n := 1; ; n++ {
				select {
				case <-l.stop:
					return
				case <-tick.C:
					l.round(w, n)
				}
			}
		})
	}
	return l
}

// round writes all ids of a writer and reads them back, alone and together.
func (l *load) round(w, n int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var entries []redisstate.Entry
	var keys []redisstate.Key
	for i := range idsOfWriter {
		id := fmt.Sprintf("w%d-%d", w, i)
		entries = append(entries, redisstate.Entry{ID: id, Workflow: "wf", Value: n})
		keys = append(keys, redisstate.ID(id))
	}
	_, err := l.store.Set(ctx, entries...)
	if l.note("set", err) {
		l.mu.Lock()
		for _, e := range entries {
			l.acked[e.ID] = n
		}
		l.mu.Unlock()
	}
	_, err = l.store.Get(ctx, keys[n%len(keys)])
	l.note("get", err)
	_, err = l.store.GetMany(ctx, keys...)
	l.note("get many", err)
}

// note counts a call. It succeeds or tells an outage; what a fail-over lost may
// be missing.
func (l *load) note(what string, err error) (done bool) {
	l.calls.Add(1)
	switch {
	case err == nil:
		return true
	case errors.Is(err, redisstate.ErrUnavailable):
		l.outages.Add(1)
		l.mu.Lock()
		l.last = what + ": " + err.Error()
		l.mu.Unlock()
	case errors.Is(err, redisstate.ErrNotFound):
	default:
		l.mu.Lock()
		l.wrong = append(l.wrong, what+": "+err.Error())
		l.mu.Unlock()
	}
	return false
}

// awaitProgress waits until every writer had a Set answered after now.
func (l *load) awaitProgress(t *testing.T, after string) {
	t.Helper()
	start := time.Now()
	l.mu.Lock()
	before := maps.Clone(l.acked)
	l.mu.Unlock()
	for deadline := start.Add(30 * time.Second); ; {
		on := 0
		l.mu.Lock()
		for w := range writers {
			if id := fmt.Sprintf("w%d-0", w); l.acked[id] > before[id] {
				on++
			}
		}
		l.mu.Unlock()
		if on == writers {
			t.Logf("%s: going on after %v; %d calls, %d told an outage", after, time.Since(start).Round(time.Millisecond), l.calls.Load(), l.outages.Load())
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d of %d writers go on after 30 s; %d calls, %d told an outage, the last: %s", after, on, writers, l.calls.Load(), l.outages.Load(), l.last)
		}
		timer := time.NewTimer(5 * time.Millisecond)
		<-timer.C
	}
}

// finish ends the traffic and looks at what is stored.
func (l *load) finish(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.all.Wait()
	for _, text := range l.wrong {
		t.Errorf("neither success nor outage: %s", text)
	}
	if len(l.acked) != writers*idsOfWriter {
		t.Errorf("only %d ids were ever written", len(l.acked))
	}
	for id, n := range l.acked {
		var config redisstate.Config
		err := answered(func() (err error) {
			config, err = l.store.Get(t.Context(), redisstate.ID(id))
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		// What was answered last stands, or a later one whose answer was lost.
		if got, _ := strconv.Atoi(string(config.JSON())); got < n {
			t.Errorf("%s is %d; %d was acknowledged", id, got, n)
		}
	}
}

// answered repeats a read that is told an outage, for a few seconds: until every
// sentinel knows of a fail-over, a new connection may still be led to the old
// primary.
func answered(read func() error) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := read()
		if !errors.Is(err, redisstate.ErrUnavailable) || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
}

// saved writes configs before the faults and gives a check that they are all
// there.
func saved(t *testing.T, store *redisstate.Store) (check func(when string)) {
	t.Helper()
	const n = 200
	entries := make([]redisstate.Entry, n)
	for i := range entries {
		entries[i] = redisstate.Entry{ID: fmt.Sprintf("saved-%d", i), Workflow: "saved", Value: i}
	}
	refs, err := store.Set(t.Context(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]redisstate.Key, n)
	for i, ref := range refs {
		keys[i] = redisstate.ID(ref.ID)
	}
	return func(when string) {
		t.Helper()
		var found map[redisstate.Key]redisstate.Config
		err := answered(func() (err error) {
			found, err = store.GetMany(t.Context(), keys...)
			return err
		})
		if err != nil || len(found) != n {
			t.Fatalf("%s: found %d of %d, %v", when, len(found), n, err)
		}
		for i, key := range keys {
			if string(found[key].JSON()) != strconv.Itoa(i) {
				t.Fatalf("%s: %s is %s", when, key.ID, found[key].JSON())
			}
		}
	}
}

func TestStore_goes_on_by_itself_after_Sentinel_failovers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	group := redistest.StartSentinel(t, redistest.WithPassword("pw"), redistest.WithSentinelPassword("watch"))
	for _, sentinel := range group.Sentinels() {
		grantTo(t, sentinel, "watcher", sentinelRules...)
	}
	store := open(t, dial(t, redisstate.Options{URL: group.URL(), SentinelUsername: "watcher", SentinelPassword: "watcher-secret"}))
	check := saved(t, store)
	if err := group.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	traffic := startLoad(t, store)
	traffic.awaitProgress(t, "at first")
	if _, err := group.Failover(ctx); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "after a planned fail-over")
	check("after a planned fail-over")
	if _, _, err := group.KillPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "after the primary was killed")
	check("after the primary was killed")
	traffic.finish(t)
	if traffic.outages.Load() == 0 {
		t.Error("no call saw an outage: this showed nothing")
	}
	for _, sentinel := range group.Sentinels() { // the client does not say what it was denied
		if denied, err := sentinel.ControlClient(t).Do(ctx, "acl", "log").Slice(); err != nil || len(denied) > 0 {
			t.Errorf("%s denied %v, %v", sentinel.Addr(), denied, err)
		}
	}
}

func TestStore_goes_on_by_itself_when_a_Cluster_changes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	group := redistest.StartCluster(t, redistest.WithPassword("pw"))
	store := open(t, hostOf(t, dial(t, redisstate.Options{URL: group.URL()})))
	check := saved(t, store)
	if err := group.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	traffic := startLoad(t, store)
	traffic.awaitProgress(t, "at first")
	slot, err := group.Slot(ctx, "temporal-redis:config:w0-0")
	if err != nil {
		t.Fatal(err)
	}

	// Keys of the slot are away (ASK), being moved (TRYAGAIN), then elsewhere for
	// good (MOVED).
	m, err := group.BeginMigration(ctx, slot)
	if err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "while a slot is open")
	if _, err := m.Move(ctx, 100); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "while its keys are on the other side")
	check("while keys are on the other side")
	if err := m.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "after it moved")
	check("after a slot moved")
	if n := traffic.outages.Load(); n != 0 {
		t.Errorf("%d calls saw the slot move", n)
	}

	if err := group.AwaitWhole(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := group.Failover(ctx, slot); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "after a planned fail-over")
	check("after a planned fail-over")
	if err := group.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := group.KillMaster(ctx, slot); err != nil {
		t.Fatal(err)
	}
	traffic.awaitProgress(t, "after a master was killed")
	check("after a master was killed")
	traffic.finish(t)
}

// hostOf is a client of a host's own like the given one, but that it asks for the slots by
// itself in no time that a test takes.
func hostOf(t *testing.T, client redis.UniversalClient) redis.UniversalClient {
	t.Helper()
	members, ok := client.(*redis.ClusterClient)
	if !ok {
		t.Fatalf("%T is no client of a Cluster", client)
	}
	options := *members.Options()
	options.ClusterStateReloadInterval = time.Hour
	own := redis.NewClusterClient(&options)
	t.Cleanup(func() { _ = own.Close() })
	return own
}

// On Cluster a listing can be lost alone, when the master of the index dies before its
// replica has it. Who extends the config lists it again.
func TestStore_lists_again_what_a_Cluster_lost(t *testing.T) {
	t.Parallel()
	conn := dial(t, redisstate.Options{URL: redistest.StartCluster(t).URL()})
	store := open(t, conn)
	ctx := t.Context()
	refs, err := store.Set(ctx, redisstate.Entry{ID: "lost", Workflow: "w", Value: 1}, redisstate.Entry{ID: "kept", Workflow: "w", Value: 2})
	if err != nil {
		t.Fatal(err)
	}
	lose := func() {
		t.Helper()
		if n, err := conn.ZRem(ctx, "temporal-redis:index:w", "lost").Result(); n != 1 || err != nil {
			t.Fatalf("%d listings are lost, %v", n, err)
		}
	}
	listed := func() (n int) {
		t.Helper()
		n, err := store.Count(ctx, redisstate.Scope{Workflow: "w"})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lose()
	if n := listed(); n != 1 {
		t.Fatalf("it lists %d without it", n)
	}
	if n, err := store.Extend(ctx, 48*time.Hour, refs[0].Key()); n != 1 || err != nil {
		t.Fatalf("%d are extended, %v", n, err)
	}
	if n := listed(); n != 2 {
		t.Errorf("it lists %d", n)
	}
	lose()
	if err := conn.Del(ctx, "temporal-redis:index:w").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Extend(ctx, 72*time.Hour, refs[0].Key(), refs[1].Key()); err != nil {
		t.Fatal(err)
	}
	if n := listed(); n != 2 {
		t.Errorf("of an index that was lost it lists %d", n)
	}
	if life, err := conn.TTL(ctx, "temporal-redis:index:w").Result(); err != nil || life < 71*time.Hour {
		t.Errorf("the index lives for %v, %v", life, err)
	}
}

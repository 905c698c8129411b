package redisstate

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestStore_is_closed_after_Close(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server)
	store := newStore(t, client, quiet())
	ref, err := For[doc](store).Set(t.Context(), "", "a", &doc{"a", 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, getErr := store.Get(t.Context(), ref.Key())
	_, manyErr := store.GetMany(t.Context(), ID("a"))
	_, setErr := store.Set(t.Context(), Entry{ID: "a", Value: 1})
	_, deleteErr := store.Delete(t.Context(), ID("a"))
	var scanErr error
	for _, err := range store.Scan(t.Context(), Scope{}) {
		scanErr = err
	}
	for name, err := range map[string]error{"get": getErr, "get many": manyErr, "set": setErr, "delete": deleteErr, "scan": scanErr} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s gave %v; want ErrClosed", name, err)
		}
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatalf("the client was closed too: %v", err)
	}
}

func TestNewStore_refuses_a_Ring(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	if _, err := NewStore(ring, quiet()); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), "ClusterClient") {
		t.Errorf("got %v", err)
	}
}

func TestStore_says_ErrClosed_when_the_client_is_closed(t *testing.T) {
	t.Parallel()
	client := newClient(t, newServer(t))
	store := newStore(t, client, quiet())
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), ID("a")); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v; want ErrClosed", err)
	}
}

func TestStore_says_ErrUnavailable_for_every_kind_of_outage(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"LOADING Redis is loading the dataset in memory",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"READONLY You can't write against a read only replica.",
		"ERR max number of clients reached",
	} {
		server := newServer(t)
		store := newStore(t, newClient(t, server), quiet())
		server.SetError(reply)
		_, getErr := store.Get(t.Context(), ID("a"))
		_, manyErr := store.GetMany(t.Context(), ID("a"), ID("b"))
		_, setErr := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1})
		_, deleteErr := store.Delete(t.Context(), ID("a"))
		_, pinnedErr := store.Delete(t.Context(), Key{"a", sum{}.digest()})
		var scanErr error
		for _, err := range store.Scan(t.Context(), Scope{Workflow: "wf"}) {
			scanErr = err
		}
		for name, err := range map[string]error{
			"get": getErr, "get many": manyErr, "set": setErr, "delete": deleteErr, "delete pinned": pinnedErr, "scan": scanErr,
		} {
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %s gave %v; want ErrUnavailable", reply, name, err)
			}
		}
	}
}

func TestStore_says_ErrDenied_when_the_user_may_not(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	server.SetError("NOPERM this user has no permissions to run the 'get' command")
	if _, err := store.Get(t.Context(), ID("a")); !errors.Is(err, ErrDenied) || errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v; want ErrDenied", err)
	}
}

func TestStore_namespaces_do_not_see_each_other(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := func(namespace string) *Store {
		o := quiet()
		o.Namespace = namespace
		return newStore(t, newClient(t, server), o)
	}
	if _, err := store("one").Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1}); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"two", "on", "one:config", "One"} {
		if _, err := store(namespace).Get(t.Context(), ID("a")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v", namespace, err)
		}
		for key, err := range store(namespace).Scan(t.Context(), Scope{}) {
			t.Errorf("%s lists %v, %v", namespace, key, err)
		}
	}
}

func TestStore_says_so_when_an_index_is_no_index(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	store := newStore(t, newClient(t, server), quiet())
	if err := server.Set("temporal-redis:index:wf", "a string"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Set(t.Context(), Entry{ID: "a", Workflow: "wf", Value: 1}); !errors.Is(err, ErrWrongType) {
		t.Fatalf("set gave %v; want ErrWrongType", err)
	}
	for _, err := range store.Scan(t.Context(), Scope{Workflow: "wf"}) {
		if !errors.Is(err, ErrWrongType) {
			t.Fatalf("scan gave %v; want ErrWrongType", err)
		}
	}
}

func TestStore_under_load_keeps_refs_and_contents_together(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	stores := make([]*Store, 3)
	for i := range stores {
		o := quiet()
		o.NearCacheBytes = []int64{0, 4 << 10, -1}[i] // roomy, always full, none
		stores[i] = newStore(t, newClient(t, server), o)
	}
	var all sync.WaitGroup
	for g := range 12 {
		all.Go(func() {
			store := stores[g%len(stores)]
			for i := range 40 {
				v := doc{strings.Repeat("x", i), g*1000 + i}
				refs, err := store.Set(t.Context(), Entry{ID: "shared", Workflow: "wf", Value: v}, Entry{ID: v.Name + "-own", Value: v})
				if err != nil {
					t.Error(err)
					return
				}
				for _, other := range stores {
					for _, ref := range refs {
						got, gotRef, err := For[doc](other).Get(t.Context(), ref.Key())
						if errors.Is(err, ErrNotFound) {
							continue
						}
						if err != nil || got.N != v.N || gotRef != ref {
							t.Errorf("%v gave %v, %v, %v", ref, got, gotRef, err)
							return
						}
					}
				}
			}
		})
	}
	all.Wait()
}

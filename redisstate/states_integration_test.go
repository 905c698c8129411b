//go:build integration

package redisstate_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/redisstate"
)

// What the server did to a config behind our back is told as what it is, and
// the next Set mends it.
func TestStore_tells_what_became_of_a_config(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := dial(t, redisstate.Options{URL: server.URL()})
	const key = "temporal-redis:config:a"
	for name, test := range map[string]struct {
		do   func(*testing.T)
		want error
	}{
		"flushed": {func(t *testing.T) { must(t, client.FlushAll(t.Context()).Err()) }, redisstate.ErrNotFound},
		"expired": {func(t *testing.T) {
			must(t, client.PExpire(t.Context(), key, time.Millisecond).Err())
			for gone := false; !gone; { // by Redis' own clock
				gone = client.Exists(t.Context(), key).Val() == 0
			}
		}, redisstate.ErrNotFound},
		"of another type": {func(t *testing.T) {
			must(t, client.Del(t.Context(), key).Err())
			must(t, client.RPush(t.Context(), key, "x").Err())
		}, redisstate.ErrWrongType},
		"overwritten by somebody else": {func(t *testing.T) {
			must(t, client.Set(t.Context(), key, "something", 0).Err())
		}, redisstate.ErrCorrupt},
	} {
		store := open(t, client)
		must(t, client.FlushAll(t.Context()).Err())
		refs, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: name})
		must(t, err)
		test.do(t)
		other := open(t, client) // without what the first one keeps near
		for how, key := range map[string]redisstate.Key{"by id": redisstate.ID("a"), "by ref": refs[0].Key()} {
			if config, err := other.Get(t.Context(), key); !errors.Is(err, test.want) || errors.Is(err, redisstate.ErrUnavailable) {
				t.Errorf("%s, %s: got %s, %v; want %v", name, how, config.JSON(), err, test.want)
			}
		}
		if config, err := store.Get(t.Context(), refs[0].Key()); err != nil {
			t.Errorf("%s: what is near gave %s, %v", name, config.JSON(), err)
		}
		if errors.Is(test.want, redisstate.ErrWrongType) {
			must(t, client.Del(t.Context(), key).Err()) // another program's data is not ours to overwrite
		}
		if again, err := store.Set(t.Context(), redisstate.Entry{ID: "a", Workflow: "wf", Value: name}); err != nil || again[0] != refs[0] {
			t.Errorf("%s: saved again as %v, %v", name, again, err)
		}
		if _, err := other.Get(t.Context(), refs[0].Key()); err != nil {
			t.Errorf("%s: after saving again: %v", name, err)
		}
	}
}

// The danger that Inspect warns of: with an evicting policy configs go before
// their time, and a read says so.
func TestStore_says_not_found_for_what_was_evicted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.WithConfig("maxmemory", "4mb"), redistest.WithConfig("maxmemory-policy", "allkeys-lru"))
	store := open(t, dial(t, redisstate.Options{URL: server.URL()}))
	text := strings.Repeat("x", 50_000)
	var refs []redisstate.Ref
	for i := range 100 {
		got, err := store.Set(t.Context(), redisstate.Entry{ID: fmt.Sprint(i), Workflow: "wf", Value: fmt.Sprint(i, text)})
		must(t, err)
		refs = append(refs, got...)
	}
	reader := open(t, dial(t, redisstate.Options{URL: server.URL()}))
	gone := 0
	for i, ref := range refs {
		config, err := reader.Get(t.Context(), ref.Key())
		switch {
		case errors.Is(err, redisstate.ErrNotFound):
			gone++
		case err != nil || !strings.HasPrefix(string(config.JSON()), `"`+fmt.Sprint(i)+"x"):
			t.Errorf("%d gave %.20s, %v", i, config.JSON(), err)
		}
	}
	if gone == 0 || gone == len(refs) {
		t.Errorf("%d of %d are gone; want some", gone, len(refs))
	}
}

// A primary that becomes a replica refuses writes: an outage, and the same
// client goes on when it is a primary again.
func TestStore_takes_READONLY_for_an_outage(t *testing.T) {
	t.Parallel()
	server, other := redistest.Start(t), redistest.Start(t)
	store := open(t, dial(t, redisstate.Options{URL: server.URL()}))
	entry := redisstate.Entry{ID: "a", Workflow: "wf", Value: 1}
	_, err := store.Set(t.Context(), entry)
	must(t, err)
	control := server.ControlClient(t)
	must(t, control.ReplicaOf(t.Context(), "127.0.0.1", fmt.Sprint(other.Port())).Err())
	if _, err := store.Set(t.Context(), entry); !errors.Is(err, redisstate.ErrUnavailable) || !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("set on a replica gave %v; want ErrUnavailable with READONLY", err)
	}
	must(t, control.ReplicaOf(t.Context(), "no", "one").Err())
	if _, err := store.Set(t.Context(), entry); err != nil {
		t.Errorf("set on a primary again: %v", err)
	}
}

// oldTLS is a server that speaks TLS 1.1 at most.
func oldTLS(t *testing.T) (address string, certificates *redistest.Certificates) {
	t.Helper()
	certificates, err := redistest.NewCertificates(t.TempDir())
	must(t, err)
	pair, err := tls.LoadX509KeyPair(certificates.ServerCertFile, certificates.ServerKeyFile)
	must(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				_ = conn.(*tls.Conn).HandshakeContext(t.Context())
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return listener.Addr().String(), certificates
}

func TestConnect_speaks_no_TLS_below_1_2(t *testing.T) {
	t.Parallel()
	address, certificates := oldTLS(t)
	lax := certificates.ClientConfig()
	lax.MinVersion = tls.VersionTLS10
	conn, err := tls.Dial("tcp", address, lax)
	must(t, err) // or the refusals below show nothing
	must(t, conn.Close())
	for name, o := range map[string]redisstate.TLSOptions{
		"files":           {CAFile: certificates.CAFile},
		"a host's Config": {Config: lax}, // is raised too
	} {
		conn, err := redisstate.Connect(t.Context(), redisstate.Options{
			URL: "rediss://" + address, TLS: o, Registerer: prometheus.NewRegistry(), MaxRetries: -1,
		})
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.Check(t.Context()); !errors.Is(err, redisstate.ErrDenied) || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: got %v; want a refusal of the protocol version", name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

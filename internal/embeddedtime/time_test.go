package embeddedtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(tb testing.TB, pass func(*miniredis.Miniredis)) *redis.Client {
	tb.Helper()
	server := miniredis.RunT(tb)
	pass(server)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func TestKeysExpireWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	client, ctx := start(t, Pass), t.Context()
	const ttl = 10 * Step
	for range 20 {
		began := time.Now()
		if err := client.Set(ctx, "k", "v", ttl).Err(); err != nil {
			t.Fatal(err)
		}
		set := time.Now()
		for client.Exists(ctx, "k").Val() == 1 {
			if late := time.Since(set) - ttl; late > time.Minute {
				t.Fatalf("still there %s after its time", late)
			}
		}
		if lived := time.Since(began); lived < ttl-Step {
			t.Fatalf("it ended after %s of %s", lived, ttl)
		}
	}
}

func TestTimeIsExact(t *testing.T) {
	t.Parallel()
	client, ctx := start(t, Pass), t.Context()
	for range 100 {
		before := time.Now()
		told, err := client.Time(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		if told.Before(before.Truncate(time.Microsecond)) || told.After(time.Now()) {
			t.Fatalf("%s, asked at %s", told, before)
		}
	}
}

// Who comes after a pause finds the right time, however many come at once.
func TestTheTimeIsRightAfterAPause(t *testing.T) {
	t.Parallel()
	client, ctx := start(t, Pass), t.Context()
	for range 20 {
		<-time.After(4 * Step)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				key := fmt.Sprint("k", i)
				began := time.Now()
				if err := client.Set(ctx, key, "v", 3*Step).Err(); err != nil {
					t.Error(err)
				}
				left, err := client.PTTL(ctx, key).Result()
				if lived := time.Since(began); err != nil || left < 3*Step-lived-Step-time.Millisecond {
					t.Errorf("%s left after %s of %s (%v)", left, lived, 3*Step, err)
				}
			})
		}
		all.Wait()
	}
}

// The commands of a script run under the server's lock.
func TestScriptsDoNotWaitForTheClock(t *testing.T) {
	t.Parallel()
	client, ctx := start(t, Pass), t.Context()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for began := time.Now(); time.Since(began) < 4*Step; {
				if err := client.Eval(ctx, `for i = 1, 1000 do redis.call("set", KEYS[1], i) end`, []string{"k"}).Err(); !errors.Is(err, redis.Nil) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Beside miniredis' own way, with as many keys as a host has configs.
func BenchmarkGet(b *testing.B) {
	for name, pass := range map[string]func(*miniredis.Miniredis){
		"Pass":     Pass,
		"ClockTTL": func(s *miniredis.Miniredis) { s.ClockTTL(true) },
	} {
		b.Run(name, func(b *testing.B) {
			client, ctx := start(b, pass), context.Background()
			for i := range 5000 {
				if err := client.Set(ctx, fmt.Sprint("config:", i), "v", 24*time.Hour).Err(); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := client.Get(ctx, "config:42").Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

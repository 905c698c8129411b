package redisstate

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// newBeatsFor makes beats whose flushes are counted, and which do not listen.
func newBeatsFor(t *testing.T, client redis.UniversalClient) (b *beats, flushes *int) {
	t.Helper()
	space, err := keys.NewSpace("beats", "")
	if err != nil {
		t.Fatal(err)
	}
	b, flushes = newBeats(client, space, slog.New(slog.DiscardHandler), prometheus.NewCounter(prometheus.CounterOpts{})), new(int)
	b.flush, b.bell = func() { *flushes++ }, func(string) {}
	b.start.Do(func() {})
	return b, flushes
}

func TestBeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, flushes := newBeatsFor(t, nil)
		defer b.close()
		beat := func(address string) { b.send(t.Context(), silentClient{}, address) }
		expect := func(when string, fresh bool, more int) {
			t.Helper()
			if b.fresh() != fresh || *flushes != more {
				t.Errorf("%s: bells are known to arrive: %v, %d flushes; want %v, %d", when, b.fresh(), *flushes, fresh, more)
			}
			*flushes = 0
		}
		expect("at first", false, 0)
		b.among("m1", "m2")
		expect("with masters", false, 1)
		beat("m1")
		beat("m2")
		b.hear("1 m1")
		b.hear("1 m2")
		expect("before the bells' channel is subscribed", false, 0)
		b.again(true)
		b.again(false)
		expect("subscribed", false, 2)
		beat("m1")
		beat("m2")
		b.hear("2 m1")
		expect("with one master heard", false, 0)
		b.hear("2 m2")
		expect("with both", true, 0)
		for _, nonsense := range []string{"", "x m1", "2 m1", "9 m1", "3 m3", "-1 m1"} {
			b.hear(nonsense)
		}
		expect("after nonsense", true, 0)
		<-time.After(beatsFor - time.Second)
		beat("m1")
		b.hear("3 m1")
		expect("before the oldest is too old", true, 0)
		<-time.After(time.Second)
		expect("when it is", false, 0)
		beat("m2")
		b.hear("3 m2")
		expect("heard again, in order", true, 0)
		beat("m1")
		beat("m1")
		b.hear("5 m1")
		expect("with one left out, what follows it counts", true, 1)
		beat("m2")
		b.hear("4 m2")
		expect("and both heard", true, 0)
		b.among("m2", "m1")
		expect("with the same masters", true, 0)
		b.passed(time.Second, 2*time.Second)
		expect("after a suspension", false, 1)
		beat("m1")
		beat("m2")
		b.hear("6 m1")
		b.hear("5 m2")
		expect("and both heard", true, 0)
		b.passed(time.Second, time.Second-time.Hour) // somebody set the clock back
		expect("after a step of the clock", true, 0)
		b.among("m1", "m3")
		expect("with another master", false, 1)
		for range 2 * keptBeats {
			beat("m3")
		}
		if n := len(b.masters["m3"].at); n > keptBeats {
			t.Errorf("%d beats are remembered", n)
		}
	})
}

// silentClient takes what is published.
type silentClient struct{ redis.Cmdable }

func (silentClient) Publish(ctx context.Context, _ string, _ any) *redis.IntCmd {
	return redis.NewIntCmd(ctx)
}

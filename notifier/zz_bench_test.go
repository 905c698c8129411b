//go:build integration

package notifier

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/keys"
)

func TestZZBench(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client(t)
	space, _ := keys.NewSpace("", "")
	l := &eventLog{client: c, space: space, length: 500, tasks: 5000, retention: time.Hour}
	ctx := context.Background()
	var a, b []time.Duration
	for i := range 6000 {
		ev := status("w", fmt.Sprint(i%100), 1, StatusRunning)
		ev.Time = time.Now()
		e := entry{Event: ev, Source: "abcdefghabcdefgh", Number: int64(i)}
		s := time.Now()
		body, _ := e.encode()
		if err := l.append(ctx, "w", []record{{event: &ev, key: ev.TaskKey(), body: body}}); err != nil {
			t.Fatal(err)
		}
		a = append(a, time.Since(s))
		s = time.Now()
		c.Set(ctx, "x", body, time.Hour)
		b = append(b, time.Since(s))
	}
	slices.Sort(a)
	slices.Sort(b)
	t.Logf("append p50 %v set p50 %v ratio %.2f", a[3000], b[3000], float64(a[3000])/float64(b[3000]))

	p := openPublisher(t, server.Client(t), PublisherOptions{LogLength: 10000, Buffer: 1000000})
	h := openHub(t, server.Client(t), SubscriberOptions{})
	var wg sync.WaitGroup
	const n, subs = 20000, 50
	for range subs {
		s := mustSubscribe(t, h, "f")
		wg.Go(func() {
			for range n {
				<-s.Events()
			}
		})
	}
	s := time.Now()
	for i := range n {
		mustPublish(t, p, numbered2(i))
	}
	wg.Wait()
	t.Logf("fanout %.0f delivered/s", n*subs/time.Since(s).Seconds())

	// latency at 1k/s
	var lat []time.Duration
	var mu sync.Mutex
	const m = 3000
	for range subs {
		s := mustSubscribe(t, h, "g")
		wg.Go(func() {
			var mine []time.Duration
			for range m {
				ev := <-s.Events()
				mine = append(mine, time.Since(ev.Time))
			}
			mu.Lock()
			lat = append(lat, mine...)
			mu.Unlock()
		})
	}
	tick := time.NewTicker(time.Millisecond)
	for i := range m {
		<-tick.C
		ev := numbered2(i)
		ev.WorkflowID = "g"
		mustPublish(t, p, ev)
	}
	wg.Wait()
	slices.Sort(lat)
	t.Logf("latency p50 %v p99 %v", lat[len(lat)/2], lat[len(lat)*99/100])
}

func numbered2(i int) Event {
	ev := progress("f", "a")
	ev.Data = fmt.Append(nil, i)
	return ev
}

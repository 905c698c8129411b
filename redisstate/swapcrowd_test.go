package redisstate

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
)

// Who has waited long enough for its turn takes it, however far away it is.
func TestSet_is_guarded_for_a_while_only(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	h := &onTrip{}
	writes := 0
	h.before = func(_ int, cmds []redis.Cmder) error {
		if writesOver(cmds) {
			writes++
			c.set(c.other, writes+1)
		}
		return nil
	}
	s := c.hooked(h)
	s.guards = 0
	c.set(s, 0)
	if want := 1 + 2 + 3; h.seen != want {
		t.Errorf("it took %d trips; want %d", h.seen, want)
	}
}

// One id of many is written by another all the time. The others are not sent again and
// again for that.
func TestSet_writes_over_many_beside_a_writer_of_one(t *testing.T) {
	t.Parallel()
	const ids = 64
	c := contest(t, Options{})
	var entries []Entry
	for i := range ids {
		entries = append(entries, Entry{ID: "a" + strings.Repeat("x", i), Workflow: "w", Value: 1})
	}
	saves(t, c.other, slices.Clone(entries)...)
	sent, writes := 0, 1
	h := &onTrip{before: func(_ int, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "set" && !slices.Contains(cmd.Args(), any("nx")) {
				sent++
			}
		}
		if writesOver(cmds) {
			writes++
			c.set(c.other, writes)
		}
		return nil
	}}
	for i := range entries {
		entries[i].Value = 0
	}
	refs, err := c.hooked(h).Set(t.Context(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	c.finds("in the end", append(refs, c.first)...)
	if sent > 4*ids { // once, the halves that lead to the one, and that alone
		t.Errorf("%d contents were sent for %d", sent, ids)
	}
}

// Another writer moves the same content to another workflow after it was read: that is
// where it is listed when it is put aside.
func TestSet_puts_aside_what_is_there_and_not_what_was(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	c.set(c.hooked(&onTrip{before: func(trip int, _ []redis.Cmder) error {
		if trip == 2 {
			saves(t, c.other, Entry{ID: "a", Workflow: "mine", Value: 1})
		}
		return nil
	}}), 2)
	if _, err := c.other.DeleteWorkflow(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	c.finds("without its first workflow", c.first)
	if _, err := c.other.DeleteWorkflow(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.other.Get(t.Context(), c.first.Key()); !errors.Is(err, ErrNotFound) {
		t.Errorf("without its second: %v", err)
	}
}

// The same content was there for a longer time, and then another: ours lives as long as it
// was to.
func TestSet_over_another_writer_has_its_own_time_to_live(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{FixedTTL: true})
	saves(t, c.other, Entry{ID: "a", Workflow: "x", Value: 3, TTL: 10 * time.Hour})
	s := c.hooked(&onTrip{before: func(trip int, _ []redis.Cmder) error {
		if trip == 2 {
			saves(t, c.other, Entry{ID: "a", Workflow: "w", Value: 2, TTL: time.Hour})
		}
		return nil
	}})
	saves(t, s, Entry{ID: "a", Workflow: "w", Value: 3, TTL: time.Hour})
	if left := c.server.TTL(contestedKey); left != time.Hour {
		t.Errorf("it lives for %s", left)
	}
}

// What the client has tried again itself is not tried again by us.
func TestBroke_is_a_connection_that_was_there(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"lost":           {io.EOF, true},
		"reset":          {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		"never made":     {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, false},
		"none was free":  {redis.ErrPoolTimeout, false},
		"client closed":  {redis.ErrClosed, false},
		"refused":        {replyError("ERR no"), false},
		"lost a race":    {redis.TxFailedErr, false},
		"nothing failed": {nil, false},
	} {
		if got := broke(test.err); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A race that was lost is no failure, in metrics and in traces.
func TestSet_that_was_overtaken_is_a_conflict(t *testing.T) {
	t.Parallel()
	c := contest(t, Options{})
	spans, provider := recorder(t)
	o, registry := c.o, prometheus.NewRegistry()
	o.URL, o.TracerProvider, o.Registerer = "redis://"+c.server.Addr(), provider, registry
	conn, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	once := false
	conn.Client().AddHook(&onTrip{before: func(_ int, cmds []redis.Cmder) error {
		if writesOver(cmds) && !once {
			once = true
			c.set(c.other, 2)
		}
		return nil
	}})
	c.set(newStore(t, conn.Client(), c.o), 3)
	for _, span := range spans.Ended() {
		if status := span.Status(); status.Code == codes.Error {
			t.Errorf("%s ended as %q", span.Name(), status.Description)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(map[string]uint64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "outcome" {
					outcomes[label.GetValue()] += metric.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	if outcomes["conflict"] != 1 || outcomes["unavailable"] != 0 {
		t.Errorf("outcomes are %v", outcomes)
	}
}

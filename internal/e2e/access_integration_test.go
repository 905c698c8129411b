//go:build integration

package e2e

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/worker"
)

// The worker's user, as docs/operations.md grants it.
const (
	userName   = "worker"
	userSecret = "C4n4ry"
	userMay    = "~temporal-redis:* &workflow:* &temporal-redis:* +@all -@admin -@dangerous +info +client|unblock"
)

// notebook is a log that a test reads.
type notebook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

// lines are those that contain all of the words.
func (n *notebook) lines(words ...string) (found []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(n.text.String()) {
		is := true
		for _, word := range words {
			is = is && strings.Contains(line, word)
		}
		if is {
			found = append(found, line)
		}
	}
	return found
}

// An operator who rotates the worker's password, or takes its permissions, for 10 s
// pauses workflows with Compozy's activity options: user code is entered as often as
// without it. Readiness is red meanwhile, and the log is loud, once a connection.
func TestARefusedUserPausesAWorkflow(t *testing.T) {
	t.Parallel()
	const long = 10 * time.Second
	var all sync.WaitGroup // most of the time is waiting
	for name, rules := range map[string]struct{ away, back string }{
		"the password is rotated":     {"resetpass >" + userSecret + "2", "resetpass >" + userSecret},
		"the permissions are revoked": {"-@all", userMay},
	} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), long+bound)
				defer cancel()
				server := redistest.Start(t, redistest.WithUser(userName, append([]string{"on", ">" + userSecret}, strings.Fields(userMay)...)...))
				control := server.ControlClient(t)
				tr, log := newTroubles(), &notebook{}
				run := begin(ctx, t, server, tr, func(o *worker.Options) {
					o.Redis.URL = server.URLFor(userName, userSecret)
					o.Logger = slog.New(slog.NewTextHandler(log, nil))
				})
				eventually(ctx, t, "the worker is ready", func() bool { return run.readiness(ctx) == http.StatusOK })
				hit := run.hit()
				tr.note(func() { tr.away = true })
				setUser(ctx, t, control, rules.away)
				begun := time.Now()
				if err := run.signal(ctx); err != nil {
					t.Fatal(err)
				}
				tr.until(ctx, t, "attempts met the outage", func() bool { return tr.begun["later"] > 0 && tr.begun["later-locked"] > 0 })
				close(tr.leave)
				eventually(ctx, t, "the worker is not ready", func() bool { return run.readiness(ctx) == http.StatusServiceUnavailable })
				hit.before, hit.held = run.sit(t, begun.Add(long), true)
				if got := run.readiness(ctx); got != http.StatusServiceUnavailable {
					t.Errorf("after %v readiness is %d", long, got)
				}
				setUser(ctx, t, control, rules.back)
				back := time.Now()
				run.check(ctx, t)
				tr.report(t, hit, back)
				if hit.held == 0 {
					t.Error("no activity was held")
				}
				if after := tr.last().Sub(back); after > long { // two thirds of a lease
					t.Errorf("work went on %v after Redis let the worker in: a lock that was free was kept", after)
				}
				eventually(ctx, t, "the worker is ready again", func() bool { return run.readiness(ctx) == http.StatusOK })
				checkOutage(t, run.registry, log)
			})
		})
	}
	all.Wait()
}

// checkOutage looks at what operators saw: one outage and one loud line a connection.
func checkOutage(t *testing.T, registry *prometheus.Registry, log *notebook) {
	t.Helper()
	if n := metric(t, registry, "redis_activities_holding", ""); n != 0 {
		t.Errorf("%v activities are held still", n)
	}
	connections := []string{"configs", "locks"}
	for _, name := range connections {
		if n := metric(t, registry, "redis_outages_total", name); n != 1 {
			t.Errorf("%v outages of %s were counted", n, name)
		}
		if lines := log.lines("level=ERROR", "op=health", "client="+name); len(lines) != 1 {
			t.Errorf("the loud lines of %s are %q", name, lines)
		}
	}
	publisher := len(log.lines("level=ERROR", "op=publish")) // may say that it keeps the events
	if lines := log.lines("level=ERROR"); publisher > 1 || len(lines) != len(connections)+publisher {
		t.Errorf("the log is louder than that: %q", lines)
	}
	if lines := log.lines(userSecret); len(lines) > 0 {
		t.Errorf("the password is in the log: %q", lines)
	}
}

// setUser changes the worker's user, and has it come in again.
func setUser(ctx context.Context, t *testing.T, control *redis.Client, rules string) {
	t.Helper()
	command := []any{"acl", "setuser", userName}
	for rule := range strings.FieldsSeq(rules) {
		command = append(command, rule)
	}
	if err := control.Do(ctx, command...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := control.Do(ctx, "client", "kill", "user", userName).Err(); err != nil {
		t.Fatal(err)
	}
}

// readiness is what /readyz says.
func (r *outageRun) readiness(ctx context.Context) int {
	recorder := httptest.NewRecorder()
	r.stage.plugin.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
	return recorder.Code
}

// last is when user code was entered for the last time.
func (tr *troubles) last() (last time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, at := range tr.times {
		if at.After(last) {
			last = at
		}
	}
	return last
}

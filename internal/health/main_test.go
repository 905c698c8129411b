package health

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leak.DeadDial()) }

// script is a prober that answers what it is told.
type script struct {
	mu     sync.Mutex
	say    finding
	asked  int
	active int
	most   int                       // probes at the same time
	wait   func(ctx context.Context) // before the answer; nil: not
	closed bool
	early  bool // closed under a probe
}

func (s *script) probe(ctx context.Context) finding {
	s.mu.Lock()
	s.asked++
	s.active++
	s.most = max(s.most, s.active)
	wait := s.wait
	s.mu.Unlock()
	if wait != nil {
		wait(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	return s.say
}

func (s *script) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.early = true, s.early || s.active > 0
	return nil
}

func (s *script) will(f finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say = f
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

var (
	fine   = finding{verdict: good}
	gone   = finding{lost, rediserr.Unavailable, rediserr.WordConnection}
	silent = finding{lost, rediserr.Unavailable, rediserr.WordTimeout}
	full   = finding{refused, rediserr.Unavailable, rediserr.WordOOM}
	barred = finding{refused, rediserr.Denied, rediserr.WordDenied}
	some   = finding{partial, rediserr.Unavailable, rediserr.WordConnection}
)

// journal is a log that a test reads.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, strings.TrimSpace(string(p)))
	return len(p), nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string{}, j.lines...)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

package notifier

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

// testSink is a log in memory, with faults.
type testSink struct {
	mu       sync.Mutex
	log      map[string][]string // bodies by workflow id
	appends  []time.Time
	pings    int
	down     error // nothing works
	unlisted bool  // enlist does not answer
	listed   map[string]bool
	refuse   map[string]error
	once     error // the next append is refused with it
	loseNext bool  // run the next append, and lose its reply
	hang     bool  // no reply until the context ends

	lose map[string]func() // by workflow id: as loseNext; called meanwhile

	owners map[string]string // shards by workflow id; none: no Cluster
	away   map[string]bool   // shards that do not answer
}

func newTestSink() *testSink {
	return &testSink{log: make(map[string][]string), refuse: make(map[string]error), listed: make(map[string]bool), lose: make(map[string]func())}
}

func (s *testSink) append(ctx context.Context, workflowID string, records []record) (last int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appends = append(s.appends, time.Now())
	if err := s.fault(ctx); err != nil {
		return 0, err
	}
	if err := s.refuse[workflowID]; err != nil {
		return 0, err
	}
	if err := s.once; err != nil {
		s.once = nil
		return 0, err
	}
	if s.away[s.owners[workflowID]] {
		return 0, s.never(ctx)
	}
	for _, r := range records {
		s.log[workflowID] = append(s.log[workflowID], r.body)
	}
	if during := s.lose[workflowID]; during != nil {
		delete(s.lose, workflowID)
		during()
		return 0, io.ErrUnexpectedEOF
	}
	if s.loseNext {
		s.loseNext = false
		return 0, io.ErrUnexpectedEOF
	}
	return int64(len(s.log[workflowID])), nil
}

func (s *testSink) fault(ctx context.Context) error {
	if s.hang {
		return s.never(ctx)
	}
	return s.down
}

// never is no answer until the context ends.
func (s *testSink) never(ctx context.Context) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	<-ctx.Done()
	return ctx.Err()
}

func (s *testSink) lastNumber(ctx context.Context, workflowID, source string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last int64
	for _, body := range s.log[workflowID] {
		if e, err := decode(body); err == nil && e.Source == source {
			last = e.Number
		}
	}
	return last, s.fault(ctx)
}

func (s *testSink) enlist(ctx context.Context, due map[string]listing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unlisted {
		return s.never(ctx)
	}
	if err := s.fault(ctx); err != nil {
		return err
	}
	for id, l := range due {
		s.listed[id] = l.active
	}
	return nil
}

func (s *testSink) ping(ctx context.Context, workflowID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pings++
	if s.away[s.owners[workflowID]] {
		return s.never(ctx)
	}
	return s.fault(ctx)
}

func (s *testSink) shard(_ context.Context, workflowID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owners[workflowID]
}

func (s *testSink) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// told gives a workflow's log as "task STATUS", "task progress" or "gap n".
func (s *testSink) told(t *testing.T, workflowID string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var told []string
	for _, body := range s.log[workflowID] {
		e, err := decode(body)
		if err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case KindGap:
			var gap struct{ Dropped int }
			if err := json.Unmarshal(e.Data, &gap); err != nil {
				t.Fatal(err)
			}
			told = append(told, fmt.Sprint("gap ", gap.Dropped))
		case KindProgress:
			told = append(told, e.TaskID+" progress")
		default:
			told = append(told, e.TaskID+" "+string(e.Status))
		}
	}
	return told
}

// replyError is an error that Redis answered.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

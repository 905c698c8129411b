package notifier

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Of a Cluster one shard may be away while the others answer. Each has a circuit of its
// own, and what waits for one that is away is put aside, so that it holds no sender.

// shards are the circuits, by the address of the slot's owner. Safe for concurrent use.
type shards struct {
	mu   sync.Mutex
	away map[string]*circuit
}

func newShards() *shards { return &shards{away: make(map[string]*circuit)} }

func (s *shards) of(owner string) *circuit {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.away[owner]
	if c == nil {
		c = newCircuit()
		s.away[owner] = c
	}
	return c
}

// cause is why circuits are open, nil if none is.
func (s *shards) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var causes []error
	for _, c := range s.away {
		causes = append(causes, c.cause())
	}
	return errors.Join(causes...)
}

// shard is the owner of a log's slot, "" without a Cluster.
func (l *eventLog) shard(ctx context.Context, workflowID string) string {
	node, err := l.master(ctx, workflowID)
	switch {
	case err != nil:
		return "unknown"
	case node == nil:
		return ""
	}
	return node.Options().Addr
}

// ping tells whether the server answers that has a log.
func (l *eventLog) ping(ctx context.Context, workflowID string) error {
	node, err := l.master(ctx, workflowID)
	if err != nil {
		return err
	}
	if node == nil {
		return l.client.Ping(ctx).Err()
	}
	_, err = node.Ping(ctx).Result()
	return l.outcome(ctx, nil, err)
}

// master is the owner of a log's slot, nil without a Cluster.
func (l *eventLog) master(ctx context.Context, workflowID string) (*redis.Client, error) {
	cluster, ok := l.client.(*redis.ClusterClient)
	if !ok {
		return nil, nil //nolint:nilnil // there is none
	}
	return cluster.MasterForKey(ctx, l.space.Events(workflowID).Seq)
}

// admit finds the circuit for a batch. It reports false if the batch was put aside,
// because its shard is away.
func (p *BackgroundPublisher) admit(b batch) (*circuit, bool) {
	id, before := b.mailbox.workflowID, b.mailbox.away
	owner := p.sink.shard(p.ctx, id)
	if owner == "" {
		return p.circuit, true
	}
	if b.mailbox.away = owner; before != "" && before != owner { // another has taken its place
		p.succeeded(p.shards.of(before))
	}
	c := p.shards.of(owner)
	open, now := c.turn()
	if open && now && !p.answers(c, id) {
		c.tried()
		now = false
	}
	if !now {
		p.queue.postpone(b, c.wait())
	}
	return c, now
}

// answers asks before sending: a server that hangs would run, once it goes on, every
// append that was tried meanwhile.
func (p *BackgroundPublisher) answers(c *circuit, workflowID string) bool {
	err := p.try(p.ctx, func(ctx context.Context) error { return p.sink.ping(ctx, workflowID) })
	if !isOutage(rediserr.Classify(p.ctx, err)) {
		return true
	}
	p.failed(c, err)
	return false
}

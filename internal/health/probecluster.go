package health

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/compozy/temporal-redis/internal/redisdial"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

const (
	// probeKeys are tried to find one for each master. One that has a hundredth
	// of the slots is missed once in 30,000 Clusters.
	probeKeys = 1024
	// probeBuffer is the size of the buffers of a probe's connection, in bytes.
	probeBuffer = 4 << 10
)

func quietMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// shards asks every master of a Cluster that has slots, each with a key of its own.
type shards struct {
	of   *redis.ClusterClient
	keys []string
	o    Options

	view  *redis.ClusterClient // tells who has which slot; nil: to be made
	nodes map[string]*server   // by address
	away  bool                 // one was, when they were asked last
}

func newShards(of *redis.ClusterClient, o Options) *shards {
	s := &shards{of: of, o: o, nodes: make(map[string]*server)}
	for n := range probeKeys {
		s.keys = append(s.keys, o.Space.Health(n))
	}
	return s
}

func (s *shards) probe(ctx context.Context) finding {
	asked, err := s.masters(ctx)
	if err != nil {
		s.forget()
		return judge(err)
	}
	found := make([]finding, len(asked))
	var asking sync.WaitGroup
	for i, node := range asked {
		asking.Go(func() { found[i] = node.probe(ctx) })
	}
	asking.Wait()
	f := together(found)
	s.look(ctx, f, moved(found))
	return f
}

// look has the slots asked for again where they may have changed: for us, to ask the
// right masters next time, and for the client, which does not notice while work
// waits that another master took over.
func (s *shards) look(ctx context.Context, f finding, moved bool) {
	changes := f.verdict == partial || moved
	if f.verdict == lost {
		s.forget() // all nodes may come back with other addresses
	} else if changes || f.verdict == refused {
		s.view.ReloadState(ctx)
	}
	if changes || (f.verdict == good && s.away) {
		s.of.ReloadState(ctx)
	}
	s.away = f.verdict != good
}

// masters are those that have slots, as far as we know.
func (s *shards) masters(ctx context.Context) ([]*server, error) {
	if s.view == nil {
		s.view = redis.NewClusterClient(dedicatedCluster(*s.of.Options()))
	}
	present := make(map[string]*server)
	for _, key := range s.keys {
		client, err := s.view.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		of := client.Options()
		if present[of.Addr] != nil {
			continue
		}
		node := s.nodes[of.Addr]
		if node == nil {
			node = newServer(*of, key, s.o)
		}
		node.key = key // slots may have moved
		present[of.Addr] = node
	}
	for address, node := range s.nodes {
		if present[address] == nil {
			node.drop()
		}
	}
	s.nodes = present
	asked := make([]*server, 0, len(present))
	for _, node := range present {
		asked = append(asked, node)
	}
	return asked, nil
}

// together is what the masters' findings mean for all.
func together(found []finding) finding {
	var worst finding
	bad := 0
	for _, f := range found {
		if f.verdict == good {
			continue
		}
		if bad++; worst.verdict == good || f.verdict > worst.verdict {
			worst = f
		}
	}
	switch {
	case len(found) == 0:
		return finding{lost, rediserr.Unavailable, rediserr.WordClusterDown}
	case bad == 0:
		return finding{verdict: good}
	case bad < len(found):
		worst.verdict = partial
	}
	return worst
}

// moved tells whether a master has other slots than we thought.
func moved(found []finding) bool {
	for _, f := range found {
		if f.verdict == good && f.why == rediserr.WordFailover {
			return true
		}
	}
	return false
}

func (s *shards) forget() {
	if s.view != nil {
		_ = s.view.Close() // it failed already
		s.view = nil
	}
}

func (s *shards) close() error {
	var errs []error
	for _, node := range s.nodes {
		errs = append(errs, node.close())
	}
	if s.view != nil {
		errs = append(errs, s.view.Close())
	}
	return errors.Join(errs...)
}

// dedicatedCluster is dedicated for a Cluster.
func dedicatedCluster(o redis.ClusterOptions) *redis.ClusterOptions {
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = probeTimeout, probeTimeout, probeTimeout, probeTimeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MaxConcurrentDials, o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = probePool, probePool, 0, 0, 0
	o.PipelinePoolSize = -1
	o.ConnMaxIdleTime = probeIdle
	o.ReadBufferSize, o.WriteBufferSize = probeBuffer, probeBuffer
	o.PushNotificationProcessor = nil
	o.MaintNotificationsConfig = quietMaintenance()
	makeClient := o.NewClient
	o.NewClient = func(node *redis.Options) *redis.Client { return redisdial.With(makeClient(node)) }
	return &o
}

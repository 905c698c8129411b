package locking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Held is a lock as Redis has it, for people who look.
type Held struct {
	// Resource is its name.
	Resource string
	// Holder is Options.Holder of who has it; empty for a lock of another making.
	Holder string
	// Age is the time since it was granted.
	Age time.Duration
	// TTL is when it ends unless it is renewed.
	TTL time.Duration
	// Fence is the number of the grant, or a higher one that was given out in vain
	// meanwhile.
	Fence uint64
	// Waiters are the processes that listen for its release. Those that poll, and
	// those who stand in line behind another of their process, are not counted. -1:
	// Redis does not tell (CLIENT LIST is refused).
	Waiters int
	// Masters is how many of the masters say so, Of how many there are. Less than a
	// majority is a lease on its way, or what was left of one.
	Masters int
	Of      int
}

// List looks for all locks of the namespace, by SCAN on every master: it is for
// people and not for programs that decide by it. Errors: ErrUnavailable if fewer
// than a majority of the masters answered, ErrDenied, ErrClosed.
func (m *Manager) List(ctx context.Context) ([]Held, error) {
	q, ok := m.masters.(*quorum)
	if !ok {
		return nil, errors.New("locking: list: these masters cannot be listed")
	}
	if !m.begin() {
		return nil, fmt.Errorf("locking: list: the manager is %w", ErrClosed)
	}
	defer m.tasks.Done()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	found := make([][]seen, len(q.nodes))
	errs := make([]error, len(q.nodes))
	var asking sync.WaitGroup
	for i, n := range q.nodes {
		asking.Go(func() { found[i], errs[i] = n.list(ctx, m.space) })
	}
	asking.Wait()
	answered := 0
	var failed error
	for _, err := range errs {
		if err != nil {
			failed = worse(failed, err)
		} else {
			answered++
		}
	}
	if answered < q.majority() {
		return nil, q.short(failed, len(q.nodes)-answered)
	}
	return q.together(m.space, found), nil
}

// seen is one lock on one master.
type seen struct {
	resource string
	value    string
	ttl      time.Duration
	fence    uint64
	now      time.Time
	waiters  int
}

// together puts what the masters say into one list, by resource. Of different
// tokens the one that most have is shown.
func (q *quorum) together(space keys.Space, found [][]seen) []Held {
	byResource := make(map[string][]Held)
	waiters := make(map[string]int)
	tokens := make(map[string]map[string]int) // resource -> token -> place in byResource
	for i, all := range found {
		for _, s := range all {
			if i == q.home(keysOf(space, s.resource)) {
				waiters[s.resource] = s.waiters
			}
			h := holderOf(s.value)
			one := Held{Resource: s.resource, Holder: h.By, Age: h.age(s.now), TTL: s.ttl, Fence: s.fence, Masters: 1, Of: len(q.nodes)}
			token := tokenOf(s.value)
			if tokens[s.resource] == nil {
				tokens[s.resource] = make(map[string]int)
			}
			place, known := tokens[s.resource][token]
			if !known {
				tokens[s.resource][token] = len(byResource[s.resource])
				byResource[s.resource] = append(byResource[s.resource], one)
				continue
			}
			same := &byResource[s.resource][place]
			same.Age, same.TTL, same.Fence, same.Masters = max(same.Age, one.Age), max(same.TTL, one.TTL), max(same.Fence, one.Fence), same.Masters+1
		}
	}
	list := make([]Held, 0, len(byResource))
	for resource, all := range byResource {
		most := slices.MaxFunc(all, func(a, b Held) int { return a.Masters - b.Masters })
		most.Waiters = -1
		if n, known := waiters[resource]; known {
			most.Waiters = n
		}
		list = append(list, most)
	}
	slices.SortFunc(list, func(a, b Held) int { return strings.Compare(a.Resource, b.Resource) })
	return list
}

// listTimeout bounds List.
const listTimeout = 10 * time.Second

// scanCount is how many keys Redis looks at for one reply of SCAN.
const scanCount = 1000

// list looks for locks on one master, which may be a Cluster.
func (n *node) list(ctx context.Context, space keys.Space) (all []seen, err error) {
	members, ok := n.client.(*redis.ClusterClient)
	if !ok {
		return listOne(ctx, n.client, space)
	}
	var mu sync.Mutex
	err = members.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
		more, err := listOne(ctx, one, space)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, more...)
		return err
	})
	return all, wrap("locking: list", err)
}

func listOne(ctx context.Context, client redis.UniversalClient, space keys.Space) ([]seen, error) {
	var all []seen
	listening := listenersOf(ctx, client)
	iterated := make(map[string]bool) // SCAN may name a key twice
	names := client.Scan(ctx, 0, space.LockPattern(), scanCount).Iterator()
	for names.Next(ctx) {
		resource, ok := space.LockResource(names.Val())
		if !ok || iterated[resource] {
			continue
		}
		iterated[resource] = true
		s, err := look(ctx, client, keysOf(space, resource), resource)
		if err != nil {
			return nil, err
		}
		if s.value == "" {
			continue // it ended meanwhile
		}
		if s.waiters = -1; listening != nil {
			s.waiters = listening[listener(keysOf(space, resource))]
		}
		all = append(all, s)
	}
	return all, wrap("locking: list", names.Err())
}

func look(ctx context.Context, client redis.UniversalClient, k lockKeys, resource string) (seen, error) {
	var value *redis.StringCmd
	var left *redis.DurationCmd
	var fence *redis.FloatCmd
	var now *redis.TimeCmd
	_, err := rediserr.Settle(client.Pipelined(ctx, func(p redis.Pipeliner) error {
		value, left, fence, now = p.Get(ctx, k.lock), p.PTTL(ctx, k.lock), p.ZScore(ctx, k.fence, fenceMember), p.Time(ctx)
		return nil
	}))
	if err != nil && value.Err() == nil {
		err = errors.Join(left.Err(), now.Err())
	}
	switch classOf(err) {
	case rediserr.OK, rediserr.NotFound:
	case rediserr.Permanent: // a key of another type is none of ours
		return seen{}, nil
	default:
		return seen{}, wrap("locking: list", err)
	}
	return seen{resource: resource, value: value.Val(), ttl: left.Val(), fence: uint64(max(fence.Val(), 0)), now: now.Val()}, nil
}

// listenersOf counts connections that listen for a release, by their names; nil if
// Redis does not tell.
func listenersOf(ctx context.Context, client redis.UniversalClient) map[string]int {
	text, err := client.ClientList(ctx).Result()
	if err != nil {
		return nil
	}
	listening := make(map[string]int)
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(line, " name="+listenerPrefix)
		name, rest, _ := strings.Cut(rest, " ")
		if _, flags, _ := strings.Cut(rest, "flags="); name != "" && strings.HasPrefix(flags, "b") { // it is blocked
			listening[listenerPrefix+name]++
		}
	}
	return listening
}

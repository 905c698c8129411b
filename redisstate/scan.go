package redisstate

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
)

// scanCount is how many elements Redis looks at per step: a step of SCAN blocks
// the server for well under a millisecond.
const scanCount = 1000

// Scan implements ConfigStore.
func (s *Store) Scan(ctx context.Context, scope Scope) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		if err := s.checkScan(scope); err != nil {
			yield(Key{}, err)
			return
		}
		each := func(ids []string) bool {
			for _, id := range ids {
				if !yield(Key{ID: id}, nil) {
					return false
				}
			}
			return true
		}
		var err error
		if scope.Workflow != "" {
			err = s.scanIndex(ctx, scope, each)
		} else {
			err = s.scanKeys(ctx, scope.Prefix, each)
		}
		if err != nil {
			yield(Key{}, redisError(ctx, opScan, err))
		}
	}
}

func (s *Store) checkScan(scope Scope) error {
	if err := s.checkOpen(opScan); err != nil {
		return err
	}
	if err := checkWorkflow(scope.Workflow); err != nil {
		return fail(opScan, err)
	}
	if len(scope.Prefix) > keys.MaxIDBytes {
		return fail(opScan, checkID("prefix", scope.Prefix))
	}
	return nil
}

// scanIndex walks over a workflow's index and passes on the ids whose config is
// there and of the workflow. On one server the index says so of most; of the
// others, and on Cluster of all, the values do. What is gone is taken out of the
// index at the end, not on the way: a walk need not stand that.
func (s *Store) scanIndex(ctx context.Context, scope Scope, each func(ids []string) bool) error {
	var gone []string
	defer func() { _ = s.prune(ctx, scope.Workflow, gone) }() // else the next walk does
	starts := func(ids []string) []string {
		return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, scope.Prefix) })
	}
	return s.walkIndex(ctx, s.space.WorkflowIndex(scope.Workflow), func(page indexPage) (bool, error) {
		sure, unsure := page.sure, page.unsure
		if !s.ordered {
			sure, unsure = nil, page.all()
		}
		if sure = starts(sure); !each(sure) {
			return false, nil
		}
		found, err := s.members(ctx, scope.Workflow, starts(unsure))
		if err != nil {
			return false, err
		}
		gone = append(gone, found.out...)
		return each(found.listed()), nil
	})
}

// scanKeys walks over all keys of every master, one master after the other.
func (s *Store) scanKeys(ctx context.Context, prefix string, each func(ids []string) bool) error {
	masters, err := s.masters(ctx)
	if err != nil {
		return err
	}
	pattern := s.space.Config(prefix) + "*"
	seen := make(map[string]bool)
	for _, master := range masters {
		for cursor := uint64(0); ; {
			names, next, err := master.Scan(ctx, cursor, pattern, scanCount).Result()
			if err != nil {
				return err
			}
			var fresh []string
			for _, name := range names {
				if id, ours := s.space.ConfigID(name); ours && !seen[id] {
					seen[id] = true
					fresh = append(fresh, id)
				}
			}
			if !each(fresh) {
				return nil
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// masters are the servers that hold the keys.
func (s *Store) masters(ctx context.Context) ([]redis.Cmdable, error) {
	c, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{s.client}, nil
	}
	var mu sync.Mutex // asked at the same time
	var masters []redis.Cmdable
	err := c.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, node)
		return nil
	})
	return masters, err
}

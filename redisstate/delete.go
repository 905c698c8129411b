package redisstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Delete implements ConfigStore. Indexes are not touched: Scan prunes them.
func (s *Store) Delete(ctx context.Context, keys ...Key) (int, error) {
	if err := s.checkOpen(opDelete); err != nil {
		return 0, err
	}
	var errs []error
	sums := make([]sum, len(keys))
	for i, key := range keys {
		want, _, err := key.check()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): key %d of %d: %w", opDelete, family, i+1, len(keys), err))
		}
		sums[i] = want
	}
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	gone := make([]bool, len(keys))
	err := s.deleteNamed(ctx, keys, sums, gone)
	for i := 0; i < len(keys) && err == nil; i++ {
		if keys[i].Digest == "" {
			continue
		}
		var was bool
		was, err = s.deleteIf(ctx, keys[i].ID, sums[i])
		gone[i] = gone[i] || was
	}
	removed := 0
	for i, was := range gone {
		s.near.drop(keys[i].ID)
		if was {
			removed++
		}
	}
	return removed, redisError(ctx, opDelete, err)
}

// deleteNamed removes, in pipelines, current contents of keys without digest
// and put-aside contents of keys with one, and notes which were there.
func (s *Store) deleteNamed(ctx context.Context, keys []Key, sums []sum, gone []bool) error {
	for start := 0; start < len(keys); start += maxBatch {
		end := min(start+maxBatch, len(keys))
		replies := make([]*redis.IntCmd, 0, end-start)
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := start; i < end; i++ {
				name := s.space.Config(keys[i].ID)
				if keys[i].Digest != "" {
					name = s.aside(keys[i].ID, sums[i])
				}
				replies = append(replies, p.Del(ctx, name))
			}
			return nil
		})
		for i, reply := range replies {
			gone[start+i] = reply.Val() > 0
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteTries bounds how often deleteIf meets a writer of the same id.
const deleteTries = 16

// deleteIf removes the current content of an id if it is the given one, and
// tells whether it was. WATCH makes the comparison and the removal one.
func (s *Store) deleteIf(ctx context.Context, id string, content sum) (was bool, err error) {
	name := s.space.Config(id)
	for range deleteTries {
		err = s.client.Watch(ctx, func(tx *redis.Tx) error {
			was = false
			header, err := tx.GetRange(ctx, name, 0, headerBytes-1).Bytes()
			if err != nil {
				return err
			}
			if held, ok := heldSum(header); !ok || held != content {
				return nil
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Del(ctx, name)
				return nil
			})
			was = err == nil
			return err
		}, name)
		switch {
		case errors.Is(err, redis.TxFailedErr):
			continue // someone wrote it meanwhile: look again
		case err == nil || rediserr.IsWrongType(err):
			return was, nil
		}
		return false, err
	}
	return false, err
}

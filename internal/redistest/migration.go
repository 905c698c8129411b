//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Migration is a slot on its way from one master to another. While it is, its
// old master answers ASK for keys that have gone; after Finish it answers MOVED.
type Migration struct {
	cluster  *Cluster
	slot     int
	from, to *Server
	toID     string
}

// BeginMigration opens the slot's way to a master that does not have it yet;
// nothing has moved then. Finish it before anything else is changed.
func (c *Cluster) BeginMigration(ctx context.Context, slot int) (*Migration, error) {
	from, _, err := c.Owner(ctx, slot)
	if err != nil {
		return nil, err
	}
	m := &Migration{cluster: c, slot: slot, from: from}
	for other := 0; m.to == nil && other < slotCount; other += slotCount / masters / 2 {
		owner, _, err := c.Owner(ctx, other)
		if err != nil {
			return nil, err
		}
		if owner != from {
			m.to = owner
		}
	}
	if m.to == nil {
		return nil, errors.New("redistest: no other master to migrate to")
	}
	fromID, err := from.clusterID(ctx)
	if err != nil {
		return nil, err
	}
	if m.toID, err = m.to.clusterID(ctx); err != nil {
		return nil, err
	}
	return m, errors.Join(
		m.to.setSlot(ctx, slot, "importing", fromID),
		from.setSlot(ctx, slot, "migrating", m.toID))
}

func (s *Server) setSlot(ctx context.Context, slot int, state, id string) error {
	return s.with(func(client *redis.Client) error {
		return client.Do(ctx, "cluster", "setslot", slot, state, id).Err()
	})
}

// From is the old master.
func (m *Migration) From() *Server { return m.from }

// To is the new master.
func (m *Migration) To() *Server { return m.to }

// Move moves up to most keys of the slot and tells how many.
func (m *Migration) Move(ctx context.Context, most int) (moved int, err error) {
	err = m.from.with(func(client *redis.Client) error {
		keys, err := client.ClusterGetKeysInSlot(ctx, m.slot, most).Result()
		if err != nil || len(keys) == 0 {
			return err
		}
		args := []any{"migrate", "127.0.0.1", m.to.Port(), "", 0, 5000,
			"auth2", controlUser, m.to.secret, "keys"}
		for _, key := range keys {
			args = append(args, key)
		}
		moved = len(keys)
		return client.Do(ctx, args...).Err()
	})
	return moved, err
}

// Finish moves what is left and gives the slot to its new master.
func (m *Migration) Finish(ctx context.Context) error {
	for {
		moved, err := m.Move(ctx, 100)
		if err != nil {
			return err
		}
		if moved == 0 {
			break
		}
	}
	// The new owner first: nobody would have the slot the other way round.
	for _, node := range append([]*Server{m.to, m.from}, m.cluster.nodes...) {
		if err := node.setSlotNode(ctx, m.slot, m.toID); err != nil {
			return err
		}
	}
	return nil
}

// setSlotNode tells a master whose the slot is; a replica learns it from its
// master.
func (s *Server) setSlotNode(ctx context.Context, slot int, id string) error {
	return s.with(func(client *redis.Client) error {
		values, err := replication(ctx, client)
		if err != nil || values["role"] != "master" {
			return err
		}
		if err := client.Do(ctx, "cluster", "setslot", slot, "node", id).Err(); err != nil {
			return fmt.Errorf("give slot %d away: %w", slot, err)
		}
		return nil
	})
}

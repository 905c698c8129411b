package locking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// AcquireAll takes the leases of several resources, one after the other in the order
// of their names, whatever the order they are given in: so callers that want some of
// the same cannot wait for each other in a circle. The leases come in the order of
// the resources; one that is named twice is taken once. WithWait bounds the wait for
// all of them together. After an error none is held. Errors are those of Acquire;
// ErrNotAcquired comes also when one was lost in the wait for others.
func AcquireAll(ctx context.Context, m LockManager, resources []string, opts ...Option) ([]*Lease, error) {
	whole := request{wait: -1}
	for _, opt := range opts {
		if opt != nil {
			opt(&whole)
		}
	}
	began := time.Now()
	taken := make(map[string]*Lease, len(resources))
	for _, resource := range slices.Compact(slices.Sorted(slices.Values(resources))) {
		mine := opts
		if whole.wait > 0 {
			mine = append(slices.Clone(opts), WithWait(max(whole.wait-time.Since(began), 0)))
		}
		lease, err := m.Acquire(ctx, resource, mine...)
		if err != nil {
			return nil, errors.Join(err, releaseAll(ctx, taken))
		}
		taken[resource] = lease
	}
	for _, lease := range taken {
		if lost := lease.Err(); lost != nil {
			err := fmt.Errorf("locking: acquire: %w: a lease was lost while others were waited for: %s", ErrNotAcquired, lost.Error())
			return nil, errors.Join(err, releaseAll(ctx, taken))
		}
	}
	leases := make([]*Lease, len(resources))
	for i, resource := range resources {
		leases[i] = taken[resource]
	}
	return leases, nil
}

// releaseAll tells what goes wrong, but not that leases were lost. It takes no longer
// than one release: Redis may say nothing to any of them.
func releaseAll(ctx context.Context, taken map[string]*Lease) error {
	ended := make(chan error, len(taken))
	for _, lease := range taken {
		go func() { ended <- lease.Release(ctx) }()
	}
	var errs []error
	for range taken {
		if err := <-ended; !errors.Is(err, ErrNotHeld) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

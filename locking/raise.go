package locking

import (
	"context"
	"errors"
	"fmt"

	"github.com/compozy/temporal-redis/internal/keys"
)

// Raise has the fences of a resource go on above the given one. It is for a store
// that guards its writes by fences and refused one because it remembers a higher
// fence: Redis has lost its counter, and its clock was set back. The next lease then
// has a higher one. A fence that is not higher than what Redis counts changes
// nothing. Errors: ErrInvalidResource, ErrInvalidOptions for a fence of 2^52 or more (the
// microseconds of the year 2112, which none of ours is),
// ErrUnavailable unless a majority of the masters took it, ErrDenied, ErrClosed.
func (m *Manager) Raise(ctx context.Context, resource string, fence uint64) error {
	var errs []error
	if bad := keys.Check("resource", resource); bad != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrInvalidResource, bad))
	}
	if fence >= maxFence/2 { // a counter holds twice as much, and has to go on from there
		errs = append(errs, fmt.Errorf("%w: the fence %d is none of ours; they are below 2^52", ErrInvalidOptions, fence))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("locking: raise: %w", err)
	}
	if !m.begin() {
		return fmt.Errorf("locking: raise: the manager is %w", ErrClosed)
	}
	defer m.tasks.Done()
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return m.masters.raise(ctx, keysOf(m.space, resource), fence)
}

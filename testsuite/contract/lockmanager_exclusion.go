package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/locking"
)

func letsOneIn(t *testing.T, b LockManagerBackend) {
	if err := contend(context.Background(), func() locking.LockManager { return b.Open(t, quick) }); err != nil {
		t.Fatal(err)
	}
}

// contend has 16 goroutines on 4 managers want the same resource 10 times each,
// and tells what went wrong.
func contend(ctx context.Context, open func() locking.LockManager) error {
	const managers, each, rounds = 4, 4, 10
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var (
		section Exclusion
		wg      sync.WaitGroup
		errs    = make(chan error, managers*each)
	)
	for range managers {
		m := open()
		for range each {
			wg.Go(func() {
				for range rounds {
					if err := visit(ctx, m, &section); err != nil {
						errs <- err
						return
					}
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	if err := errors.Join(section.Err(), <-errs); err != nil {
		return err
	}
	if got := section.Visits(); got != managers*each*rounds {
		return fmt.Errorf("%d visits; want %d", got, managers*each*rounds)
	}
	return nil
}

func visit(ctx context.Context, m locking.LockManager, section *Exclusion) error {
	lease, err := m.Acquire(ctx, "r")
	if err != nil {
		return err
	}
	section.Enter(lease.Fence())
	linger()
	section.Leave()
	return lease.Release(ctx)
}

// linger gives others the time to get in.
func linger() { <-time.After(time.Millisecond) }

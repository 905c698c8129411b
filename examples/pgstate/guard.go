package pgstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Claimant is a lease; *locking.Lease is one.
type Claimant interface {
	Resource() string
	Fence() uint64
	ID() string
}

// ErrStaleFence says that a later lease has written already, or one with the same
// fence: whoever gets it has lost its lease, and may not know yet.
var ErrStaleFence = errors.New("pgstate: a later lease has written already")

// StaleFenceError is an ErrStaleFence with the numbers.
type StaleFenceError struct {
	Resource      string
	Fence, Stored uint64
}

// Error implements error.
func (e *StaleFenceError) Error() string {
	return fmt.Sprintf("%v: the fence of this one is %d, and %d was seen", ErrStaleFence, e.Fence, e.Stored)
}

// Is finds ErrStaleFence.
func (*StaleFenceError) Is(target error) bool { return target == ErrStaleFence }

const (
	takeFence = `INSERT INTO fences AS f (resource, fence, owner) VALUES ($1, $2, $3)
		ON CONFLICT (resource) DO UPDATE SET fence = EXCLUDED.fence, owner = EXCLUDED.owner
		WHERE f.fence < EXCLUDED.fence OR (f.fence = EXCLUDED.fence AND f.owner = EXCLUDED.owner)
		RETURNING fence`
	selectFence = `SELECT fence FROM fences WHERE resource = $1`
)

// Guard lets a transaction of a lease's holder go on unless a later lease of the
// resource has written: it remembers the highest fence, in the transaction, and
// refuses lower ones, and the same one of another grant, with a *StaleFenceError.
// Call it first in the transaction, before what will be changed is read, too: a
// holder that is stopped may write until the next one has been here. Its row stays
// locked until the commit, so what a holder writes and what the next one writes do
// not mix, however late the first one is.
func Guard(ctx context.Context, tx pgx.Tx, lease Claimant) error {
	var fence uint64
	err := tx.QueryRow(ctx, takeFence, lease.Resource(), lease.Fence(), lease.ID()).Scan(&fence)
	if !errors.Is(err, pgx.ErrNoRows) {
		return fail("guard by fence", err)
	}
	if err := tx.QueryRow(ctx, selectFence, lease.Resource()).Scan(&fence); err != nil {
		return fail("guard by fence", err)
	}
	return &StaleFenceError{Resource: lease.Resource(), Fence: lease.Fence(), Stored: fence}
}

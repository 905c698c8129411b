package pgstate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/compozy/temporal-redis/redisstate"
)

// rollbackTimeout bounds a rollback, also for a caller who gave up.
const rollbackTimeout = 5 * time.Second

// transact runs fn in a transaction, behind a savepoint if db is one, and ends it
// by commit. After an error or a panic it is rolled back, unless commit ended it.
func transact(ctx context.Context, db handle, fn func(tx pgx.Tx) error, commit func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fail("begin", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		// If it fails, the connection is lost, and with it the transaction.
		_ = tx.Rollback(ctx) // nothing after a commit
	}()
	if err := fn(tx); err != nil {
		return err
	}
	return commit(ctx, tx)
}

// commitTimeout bounds a COMMIT whose context has no deadline.
const commitTimeout = 15 * time.Second

// commitTx commits and says of an error what it means. A caller who gives up while
// COMMIT is under way does not end it: then nobody would know what came of it.
func commitTx(ctx context.Context, tx pgx.Tx) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pgstate: commit: %w: %w", redisstate.ErrRolledBack, err) // which transact does
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(commitTimeout)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	return commitError(tx.Commit(ctx))
}

// commitError says what an error of COMMIT means: rolled back if the server said
// so, or if COMMIT was never sent; else nobody knows.
func commitError(err error) error {
	switch {
	case err == nil:
		return nil
	case certainlyRolledBack(err):
		return fmt.Errorf("pgstate: commit: %w: %w", redisstate.ErrRolledBack, err)
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}

func certainlyRolledBack(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true // a statement had failed, and COMMIT was answered by ROLLBACK
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		// FATAL ends the connection (a shutdown, say), and what stands between us
		// and the server may invent codes of class 08. 40003 says it in words.
		return server.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(server.Code, "08") && server.Code != "40003"
	}
	return pgconn.SafeToRetry(err) // the deadline had passed; pgx closes the connection
}

// releaseSavepoint ends an inner transaction. Its error is no commit's.
func releaseSavepoint(ctx context.Context, tx pgx.Tx) error {
	return fail("release savepoint", tx.Commit(ctx))
}

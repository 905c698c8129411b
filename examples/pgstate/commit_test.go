package pgstate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/compozy/temporal-redis/redisstate"
)

// notSentError is one of pgx from before it sent anything.
type notSentError struct{ error }

func (notSentError) SafeToRetry() bool { return true }

func TestCommitError_says_what_is_known(t *testing.T) {
	t.Parallel()
	server := func(severity, code string) error {
		return &pgconn.PgError{SeverityUnlocalized: severity, Severity: "ungünstig", Code: code}
	}
	for name, test := range map[string]struct {
		err        error
		rolledBack bool
	}{
		"answered by ROLLBACK":           {pgx.ErrTxCommitRollback, true},
		"a deferred constraint":          {server("ERROR", "23503"), true},
		"a serialization failure":        {fmt.Errorf("wrapped: %w", server("ERROR", "40001")), true},
		"COMMIT was never sent":          {notSentError{context.Canceled}, true},
		"a shutdown":                     {server("FATAL", "57P01"), false},
		"a crash of the server":          {server("PANIC", "XX000"), false},
		"a pooler that lost the server":  {server("ERROR", "08006"), false},
		"resolution unknown":             {server("ERROR", "08007"), false},
		"completion unknown":             {server("ERROR", "40003"), false},
		"the connection was lost":        {io.ErrUnexpectedEOF, false},
		"nobody waited for the answer":   {context.DeadlineExceeded, false},
		"a transaction ended by another": {pgx.ErrTxClosed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := commitError(test.err)
			if !errors.Is(err, test.err) {
				t.Errorf("%v does not wrap %v", err, test.err)
			}
			if errors.Is(err, redisstate.ErrRolledBack) != test.rolledBack || errors.Is(err, ErrCommitUnknown) == test.rolledBack {
				t.Errorf("%v; rolled back: want %v", err, test.rolledBack)
			}
		})
	}
	if err := commitError(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

package rediserr_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestWhy_says_it_in_one_of_a_few_words(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err   error
		want  rediserr.Word
		about bool // the way to Redis
	}{
		{nil, rediserr.WordNone, false},
		{reply("LOADING Redis is loading the dataset in memory"), rediserr.WordLoading, false},
		{reply("BUSY Redis is busy running a script."), rediserr.WordBusy, false},
		{reply("READONLY You can't write against a read only replica. script: 25, on @user_script:1."), rediserr.WordReadOnly, false},
		{reply("ERR Error running script (call to f_25): @user_script:1: -NOREPLICAS Not enough good replicas to write."), rediserr.WordNoReplicas, false},
		{reply("OOM command not allowed when used memory > 'maxmemory'."), rediserr.WordOOM, false},
		{reply("MISCONF Redis is configured to save RDB snapshots"), rediserr.WordMisconf, false},
		{reply("CLUSTERDOWN The cluster is down"), rediserr.WordClusterDown, false},
		{reply("MASTERDOWN Link with MASTER is down"), rediserr.WordMasterDown, false},
		{reply("UNBLOCKED force unblock from blocking operation"), rediserr.WordFailover, false},
		{reply("MOVED 1 127.0.0.1:1"), rediserr.WordFailover, false},
		{reply("NOPERM this user has no permissions"), rediserr.WordDenied, false},
		{reply("ERR The user executing the script can't run this command"), rediserr.WordDenied, false},
		{reply("ERR max number of clients reached"), rediserr.WordClients, true},
		{reply("ERR syntax error"), rediserr.WordRefused, false},
		{reply("LOADINGx no code of ours"), rediserr.WordRefused, false},
		{fmt.Errorf("wrapped: %w", redis.TxFailedErr), rediserr.WordConflict, false},
		{redis.ErrPoolTimeout, rediserr.WordPool, true},
		{context.DeadlineExceeded, rediserr.WordTimeout, true},
		{x509.UnknownAuthorityError{}, rediserr.WordTLS, false},
		{errors.New("redis: can't marshal x"), rediserr.WordOther, true},
		{errors.New("something"), rediserr.WordOther, true},
	} {
		if got := rediserr.Why(test.err); got != test.want || got.AboutConnection() != test.about {
			t.Errorf("%v: got %s, about the connection: %v", test.err, got, got.AboutConnection())
		}
	}
	for name, err := range connectionErrors(t) {
		if got := rediserr.Why(err); !got.AboutConnection() || got == rediserr.WordOther {
			t.Errorf("%s: %v is %s", name, err, got)
		}
	}
	if rediserr.IsReply(redis.ErrPoolTimeout) || !rediserr.IsReply(fmt.Errorf("x: %w", reply("ERR x"))) {
		t.Error("what Redis said is not told from what the client did")
	}
}

func TestWhy_gives_only_known_words(t *testing.T) {
	t.Parallel()
	for text, class := range replies {
		word := rediserr.Why(reply(text))
		if !slices.Contains(rediserr.Words(), word) {
			t.Errorf("%s: %q is no known word", text, word)
		}
		if denied := word == rediserr.WordDenied; denied != (class == rediserr.Denied) {
			t.Errorf("%s: %s, but %v", text, word, class)
		}
	}
}

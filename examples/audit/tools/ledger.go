package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ledgerLine is one line of the ledger. Each holds the hash of the line before
// it, so two writers that did not see each other break the chain for all to
// see.
type ledgerLine struct {
	Seq   int             `json:"seq"`   // from 1
	Prev  string          `json:"prev"`  // SHA-256 of the line before, "" for the first
	Fence uint64          `json:"fence"` // of the lock under which it was written
	Key   string          `json:"key"`
	Entry json.RawMessage `json:"entry"`
}

type ledgerInput struct {
	Out   string          `json:"out"`
	Key   string          `json:"key"` // unique; an entry that is there already is not added again
	Entry json.RawMessage `json:"entry"`
}

// LedgerName is the file in the out directory that holds a workflow's ledger.
func LedgerName(workflowID string) string { return "ledger-" + workflowID + ".jsonl" }

// store stands for the transaction of a store that guards its writes by the fence, as
// the database of examples/pgstate does: nobody writes between the look and the write.
// One process runs a workflow of the demo, so that a mutex is enough.
var store sync.Mutex

// errOver says that the lock was another's meanwhile, as after a FLUSHALL.
var errOver = errors.New("the lease is over: the ledger has a line with a higher fence")

// ledgerAppend adds a line to the workflow's ledger. It reads the whole file
// and replaces it, so it must not run twice at a time: the task that uses it is
// critical. Where Redis loses the lock, two may run; then the fence tells which of
// them comes too late, and that one is to try again.
func ledgerAppend(_ context.Context, call Call, in ledgerInput) (any, error) {
	store.Lock()
	defer store.Unlock()
	file := filepath.Join(in.Out, LedgerName(call.WorkflowID))
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var last uint64
	next := ledgerLine{Seq: 1, Fence: call.Fence, Key: in.Key, Entry: in.Entry}
	for line := range bytes.Lines(data) {
		var l ledgerLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%w: line %d of the ledger: %w", ErrInput, next.Seq, err)
		}
		if l.Key == in.Key {
			return map[string]any{"seq": l.Seq}, nil // an earlier attempt wrote it
		}
		last = l.Fence
		sum := sha256.Sum256(line)
		next.Seq, next.Prev = l.Seq+1, hex.EncodeToString(sum[:])
	}
	if last > call.Fence {
		return nil, fmt.Errorf("%w (%d, not %d)", errOver, last, call.Fence)
	}
	line, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("%w: entry: %w", ErrInput, err)
	}
	return map[string]any{"seq": next.Seq}, replace(file, append(append(data, line...), '\n'))
}

// replace writes a file so that readers see the old content or the new.
func replace(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

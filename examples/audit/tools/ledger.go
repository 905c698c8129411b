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

type ledgerOutput struct {
	Seq int `json:"seq"`
}

// ledgerAppend adds a line to the workflow's ledger. It reads the whole file
// and replaces it, so it must not run twice at a time: the task that uses it is
// critical.
func ledgerAppend(_ context.Context, call Call, in ledgerInput) (ledgerOutput, error) {
	file := filepath.Join(in.Out, ledgerName(call.WorkflowID))
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ledgerOutput{}, err
	}
	lines, err := parseLedger(data)
	if err != nil {
		return ledgerOutput{}, err
	}
	for _, l := range lines {
		if l.Key == in.Key {
			return ledgerOutput{Seq: l.Seq}, nil // an earlier attempt wrote it
		}
	}
	next := ledgerLine{Seq: len(lines) + 1, Prev: head(data), Fence: call.Fence, Key: in.Key, Entry: in.Entry}
	line, err := json.Marshal(next)
	if err != nil {
		return ledgerOutput{}, fmt.Errorf("%w: entry: %w", ErrInput, err)
	}
	return ledgerOutput{Seq: next.Seq}, replace(file, append(append(data, line...), '\n'))
}

// ledgerName keeps the ledgers of workflows that share a directory apart.
func ledgerName(workflowID string) string { return "ledger-" + workflowID + ".jsonl" }

func parseLedger(data []byte) ([]ledgerLine, error) {
	var lines []ledgerLine
	for line := range bytes.Lines(data) {
		var l ledgerLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%w: line %d of the ledger: %w", ErrInput, len(lines)+1, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// head is the hash of the last line of a ledger.
func head(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	last := data[bytes.LastIndexByte(data[:len(data)-1], '\n')+1:]
	sum := sha256.Sum256(last)
	return hex.EncodeToString(sum[:])
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

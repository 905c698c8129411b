package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
)

// logBook keeps warnings and errors off the screen, which belongs to the table,
// for the case that something fails.
type logBook struct {
	mu    sync.Mutex
	lines [][]byte
}

const keptLines = 20

func newLogBook() *logBook { return &logBook{} }

func (b *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Write keeps a line; the oldest goes when there are too many.
func (b *logBook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, bytes.Clone(line))
	if len(b.lines) > keptLines {
		b.lines = b.lines[1:]
	}
	return len(line), nil
}

// dump writes what was kept.
func (b *logBook) dump(w io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.lines {
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

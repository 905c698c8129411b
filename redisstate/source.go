package redisstate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// Source gives configs that are not in Redis any more: a host that keeps them
// in its database, or can make them again, implements it. It must be safe for
// concurrent use.
type Source interface {
	// Load gives the config of key.ID as it would be given to Set; an empty
	// Entry.ID means key.ID. With a digest, exactly that content is wanted: a
	// source that keeps earlier content can find it by key.Digest, any other
	// gives what it has now. What answers a digest is saved for refs only and is
	// not listed by Scan; the current content comes with a read by id.
	//
	// A config that is deleted while it is loaded may come back with the load:
	// delete it in the source first.
	//
	// An error wrapping ErrNotFound says that there is no such config. The texts
	// of errors are passed on, also to Temporal: keep secrets out of them. ctx
	// has the values of the first reader's context and ends when all of them
	// gave up or the store is closed.
	Load(ctx context.Context, key Key) (Entry, error)
}

// SourceFunc is a function as a Source.
type SourceFunc func(ctx context.Context, key Key) (Entry, error)

// Load calls f.
func (f SourceFunc) Load(ctx context.Context, key Key) (Entry, error) { return f(ctx, key) }

// sourceParallel bounds the loads that one GetMany starts at a time.
const sourceParallel = 8

// regenerate answers a key that Redis does not have. All who ask for the same
// key at the same time wait for one load.
func (s *Store) regenerate(ctx context.Context, key Key) (Config, error) {
	config, err := s.loads.do(ctx, key, func(ctx context.Context) (Config, error) { return s.load(ctx, key) })
	if err != nil && s.closed.Load() {
		return Config{}, fail(opSource, ErrClosed)
	}
	return config, err
}

// regenerateAll answers what GetMany did not find.
func (s *Store) regenerateAll(ctx context.Context, missing []*reading) {
	_ = inParallel(len(missing), sourceParallel, allErrors, func(i int) error {
		missing[i].config, missing[i].err = s.regenerate(ctx, missing[i].key)
		return nil // each has its own error
	})
}

func (s *Store) load(ctx context.Context, key Key) (Config, error) {
	outcome := telemetry.SourceFailed
	defer func() { s.metrics.SourceLoads.WithLabelValues(outcome).Inc() }()
	w, err := s.ask(ctx, key)
	if _, missing := errors.AsType[*MissingError](err); missing {
		outcome = telemetry.SourceMissing
	}
	if err != nil {
		return Config{}, err
	}
	config := Config{Ref: w.ref, Workflow: w.new.workflow, content: w.content}
	matches := key.Digest == "" || key.Digest == w.ref.Digest
	outcome = telemetry.SourceLoaded
	current, err := s.restore(ctx, w, key.Digest != "" && matches)
	if err != nil {
		outcome = telemetry.SourceUnsaved
		s.log.WarnContext(ctx, "A config was loaded from Options.Source and could not be saved in Redis; it is served without",
			"op", opSource, "family", family, "error", redisError(ctx, opSet, err))
	}
	switch {
	case !matches:
		outcome = telemetry.SourceMismatch
		return Config{}, &MissingError{Op: opGet, Family: family, Err: ErrSourceMismatch}
	case key.Digest == "" && current != nil: // saved meanwhile, and newer than what the source gave
		return s.open(ctx, key.ID, current, nil)
	}
	if err == nil {
		s.remember(w)
	}
	return config, nil
}

// ask calls the Source and encodes what it gives. A panic of the host's code in
// that, methods of its error and its value included, is an error for those who
// wait: on this goroutine it would end the process.
func (s *Store) ask(ctx context.Context, key Key) (w *writing, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "Options.Source panicked", "op", opSource, "family", family, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			w, err = nil, fail(opSource, &sourceError{text: fmt.Sprintf("it panicked (%T)", p)})
		}
	}()
	w, err = s.fromSource(ctx, key)
	returned = true
	return w, err
}

func (s *Store) fromSource(ctx context.Context, key Key) (*writing, error) {
	entry, err := s.source.Load(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, &MissingError{Op: opGet, Family: family, Err: err}
	}
	if err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		return nil, fail(opSource, &sourceError{text: text, cause: err})
	}
	if entry.ID == "" {
		entry.ID = key.ID
	}
	if entry.ID != key.ID {
		return nil, fail(opSource, &sourceError{text: "it gave a config with another id"})
	}
	w, err := s.prepareOne(entry)
	if err != nil {
		return nil, fail(opSource, err)
	}
	return w, nil
}

// restore saves what the source gave without overwriting anything: what a ref
// names where refs find it, anything else as the current content if the id has
// none. What a ref names may be earlier content, so it never becomes current. It
// returns what the id has if that is other content.
func (s *Store) restore(ctx context.Context, w *writing, pinned bool) (current []byte, err error) {
	if pinned {
		w.old, w.kept = w.new, w.raw
		return nil, s.putAside(ctx, []*writing{w}, false)
	}
	if err := s.create(ctx, []*writing{w}); err != nil {
		return nil, err
	}
	raw, err := w.reply.Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil // the id had none
	}
	if err != nil {
		return nil, err
	}
	held, _, ours := w.examine(raw)
	if ours && sameContent(held, w.new) {
		_, err = s.keep(ctx, []*writing{w}) // saved meanwhile
		raw = nil
	}
	if w.index != nil && held.workflow != w.new.workflow { // which lists it, and must not
		err = errors.Join(err, s.prune(ctx, w.new.workflow, []string{w.ref.ID}))
	}
	return raw, err
}

// sourceError is a failure of a Source.
type sourceError struct {
	text  string
	cause error
}

func (e *sourceError) Error() string {
	return ErrSourceFailed.Error() + ": " + e.text
}

func (e *sourceError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrSourceFailed}
	}
	return []error{ErrSourceFailed, e.cause}
}

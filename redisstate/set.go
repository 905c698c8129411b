package redisstate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Set implements ConfigStore. New configs cost one round trip for all of them.
// Unchanged ones take a second one, which extends their lives. For an id that has
// other content, or other things stored with it (its workflow, a shorter time to
// live), there are two more: on one server the id is watched and looked at once more,
// and then its old content is put aside, where its refs find it, and overwritten, in
// one transaction that Redis refuses if somebody else wrote the id meanwhile; who is
// refused looks again. So whoever dies in between, and whoever writes the same id at
// the same time, a ref that Set returned is not missing.
//
// Where several writers are faster than one for a second, or eight times in a row, it
// writes over what is there unguarded. So it does on Cluster, with a client that is no
// *redis.Client, and for a user who may not WATCH. If it replaces then what another
// wrote a moment ago, it puts that aside a round trip later; in between refs to that
// content get ErrNotFound (or ask the Source), never other content; and for good if it
// loses its connection just then. Writers that want none of that give each content an
// id of its own.
//
// On one server new configs are written in one transaction, as a whole or not at all,
// up to 1000 and 8 MiB; what overwrites others comes in another one, or in several if
// others write the same ids. On Cluster each entry stands for itself.
func (s *Store) Set(ctx context.Context, entries ...Entry) ([]Ref, error) {
	if err := s.checkOpen(opSet); err != nil {
		return nil, err
	}
	batch, err := s.prepare(entries)
	if err != nil {
		return nil, err
	}
	refs := make([]Ref, len(batch))
	for i, w := range batch {
		refs[i] = w.ref
	}
	for len(batch) > 0 {
		var part []*writing
		part, batch = cut(batch)
		if err := s.write(ctx, part); err != nil {
			return nil, redisError(ctx, opSet, err)
		}
		for _, w := range part {
			s.remember(w)
		}
		s.tidyFor(ctx, part)
	}
	return refs, nil
}

// remember notes what was just written. That an id has other content no bell told, if
// Redis had lost what was there.
func (s *Store) remember(w *writing) {
	if k := s.current.find(w.ref.ID); k == nil || k.digest != w.ref.Digest {
		s.current.forget(w.ref.ID)
	}
	s.near.add(w.ref.ID, w.content, w.new.workflow, s.slides.saved(slideKey{Key: w.ref.Key()}, w.new.ttl))
}

// writing is one entry on its way into Redis.
type writing struct {
	ref     Ref
	key     string // of the current content
	new     value
	raw     []byte // new, encoded
	content *content

	envelope envelope // that raw is made with

	reply *redis.StringCmd
	index *index        // that lists it; nil without a workflow
	old   value         // what was there, if readable
	stale bool          // it must be written again, whatever its content
	kept  []byte        // what has to be put aside before it is overwritten
	same  bool          // old has the content of new: only what is stored with it changes
	asked time.Duration // time to live that rewrite has changed

	left  *redis.DurationCmd // how long what is there lives
	aside *redis.StringCmd   // the head of old where it may be aside already
}

// need is what an entry needs after the trip that writes new ones.
type need int

const (
	nothing     need = iota
	longerLife       // it is there as it should be, and was saved again
	overwriting      // the id has other content, or other things are stored with it
)

// prepare checks and encodes all entries before anything is written.
func (s *Store) prepare(entries []Entry) ([]*writing, error) {
	var errs []error
	batch := make([]*writing, 0, len(entries))
	for i, e := range entries {
		w, err := s.prepareOne(e)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): entry %d of %d: %w", opSet, family, i+1, len(entries), err))
			continue
		}
		batch = append(batch, w)
	}
	return batch, errors.Join(errs...)
}

func (s *Store) prepareOne(e Entry) (*writing, error) {
	if err := errors.Join(checkID("config id", e.ID), checkWorkflow(e.Workflow)); err != nil {
		return nil, err
	}
	ttl := e.TTL
	if ttl == 0 {
		ttl = s.ttl
	}
	if ttl < time.Millisecond {
		return nil, fmt.Errorf("%w: TTL is %v; use at least 1ms, or 0 for the store's", ErrInvalidValue, e.TTL)
	}
	w := &writing{
		ref: Ref{ID: e.ID},
		key: s.space.Config(e.ID),
		new: value{ttl: ttl, workflow: e.Workflow},

		envelope: s.envelope,
	}
	if err := s.encode(w, e.Value); err != nil {
		return nil, err
	}
	w.content = s.contents.share(w.new.sum, newContent(w.new.sum, w.new.payload, s.codec))
	w.ref.Digest = w.content.digest
	return w, nil
}

// encode makes the payload, its digest and the stored bytes. A payload that is
// stored as it is stands behind its header from the start and is not copied.
func (s *Store) encode(w *writing, v any) error {
	var space [128]byte // enough for most headers, so that none is allocated
	head, bare := space[:0], w.envelope.bare()
	if bare {
		head = w.new.appendHead(head)
	}
	raw, err := appendValue(head, s.codec, v)
	if err != nil {
		return err
	}
	w.new.payload = raw[len(head):]
	if isNothing(v, w.new.payload) {
		return fmt.Errorf("%w: %T is nil; give it a value", ErrInvalidValue, v)
	}
	if n := len(w.new.payload); n > s.maxBytes {
		return fmt.Errorf("%w: %d bytes of JSON; split it, or raise Options.MaxConfigBytes (%d)", ErrTooLarge, n, s.maxBytes)
	}
	w.new.sum = sha256.Sum256(w.new.payload)
	if bare {
		copy(raw[digestAt:headerBytes], w.new.sum[:])
		w.raw = raw
	} else {
		w.raw = w.new.encode(w.envelope, w.ref.ID)
	}
	return nil
}

// isNothing tells whether JSON was made of a nil pointer: a reader would take it for an
// empty config.
func isNothing(v any, payload []byte) bool {
	if string(payload) != "null" {
		return false
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// maxBatchBytes bounds what one pipeline carries, so that it fits the client's
// time-outs and does not hold up the server.
const maxBatchBytes = 8 << 20

// cut takes from batch what goes into one pipeline: usually all of it. An id
// that comes again waits for the next one, so that the last entry wins.
func cut(batch []*writing) (part, rest []*writing) {
	total := 0
	seen := make(map[string]bool, len(batch))
	for i, w := range batch {
		total += len(w.raw)
		if i > 0 && (total > maxBatchBytes || i == maxBatch || seen[w.key]) {
			return batch[:i], batch[i:]
		}
		seen[w.key] = true
	}
	return batch, nil
}

func (s *Store) write(ctx context.Context, batch []*writing) error {
	var same, other []*writing
	for len(batch) > 0 {
		if err := s.create(ctx, batch); err != nil {
			return err
		}
		same = same[:0]
		for _, w := range batch {
			switch needs, err := w.conflicts(); {
			case err != nil:
				return err
			case needs == longerLife:
				same = append(same, w)
			case needs == overwriting:
				other = append(other, w)
			}
		}
		var err error
		if batch, err = s.keep(ctx, same); err != nil { // what is gone is new
			return err
		}
	}
	if len(other) == 0 {
		return nil
	}
	return s.overwrite(ctx, other)
}

// keep gives what was saved again a longer life. It returns what expired or was
// removed since it was seen.
func (s *Store) keep(ctx context.Context, batch []*writing) (gone []*writing, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	left := make([]*redis.DurationCmd, len(batch))
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, w := range batch {
			p.Do(ctx, "pexpire", w.key, w.new.ttl.Milliseconds(), "gt")
			left[i] = p.PTTL(ctx, w.key)
		}
		return nil
	})
	if err = rediserr.Reason(err, cmds); err != nil {
		return nil, err
	}
	for i, w := range batch {
		if left[i].Val() == noKey {
			gone = append(gone, w)
		}
	}
	return gone, nil
}

// noKey is PTTL's answer for a key that is not there.
const noKey = time.Duration(-2)

// create writes the indexes, and each entry whose id has no content yet. What
// the others hold is in the replies.
func (s *Store) create(ctx context.Context, batch []*writing) error {
	if s.ordered {
		err := s.creates.Do(ctx, batch)
		if errors.Is(err, errAborted) {
			err = s.createAll(ctx, [][]*writing{batch})
		}
		if err != nil {
			return err
		}
		return indexErrors(batch)
	}
	for _, x := range s.indexes(batch) {
		cmds, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			x.add(ctx, p)
			return nil
		})
		if err = rediserr.Reason(err, cmds); err != nil {
			return err
		}
	}
	cmds, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.BatchProcess(ctx, creations(ctx, batch)...) })
	return unlessReply(err, cmds)
}

// errAborted says that Redis refused a transaction of several callers because of
// a command of one of them. Nothing was written, so each sends its own again,
// alone, and gets its own answer.
var errAborted = errors.New("a transaction of several callers was refused")

// createAll writes the batches of several callers in one transaction. What one
// of them did to an id is a conflict for the others, as if they had come after it.
func (s *Store) createAll(ctx context.Context, batches [][]*writing) error {
	batch := batches[0]
	if len(batches) > 1 {
		batch = slices.Concat(batches...)
	}
	cmds, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		addAll(ctx, p, s.indexes(batch))
		return p.BatchProcess(ctx, creations(ctx, batch)...)
	})
	if len(batches) > 1 && redis.IsExecAbortError(err) {
		return errAborted
	}
	return unlessReply(err, cmds)
}

// creations are the commands that write entries whose ids have no content yet.
func creations(ctx context.Context, batch []*writing) []redis.Cmder {
	cmds := make([]redis.Cmder, len(batch))
	for i, w := range batch {
		w.reply = redis.NewStringCmd(ctx, "set", w.key, w.raw, "px", w.new.ttl.Milliseconds(), "nx", "get")
		cmds[i] = w.reply
	}
	return cmds
}

// sizeOf is how many bytes a batch writes, about.
func sizeOf(batch []*writing) int {
	total := 0
	for _, w := range batch {
		total += len(w.raw)
	}
	return total
}

// unlessReply is what went wrong with a pipeline, but for what single replies say about
// single entries: those are looked at one by one. On Cluster a node may be away beside one
// that answers.
func unlessReply(err error, cmds []redis.Cmder) error {
	single := func(err error) bool { return errors.Is(err, redis.Nil) || rediserr.IsWrongType(err) }
	if err = rediserr.Reason(err, cmds); err == nil || !single(err) {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !single(err) {
			return err
		}
	}
	return nil
}

// conflicts looks at what the id held and tells what is left to do.
func (w *writing) conflicts() (need, error) {
	raw, err := w.reply.Bytes()
	if errors.Is(err, redis.Nil) {
		return nothing, nil // it held nothing
	}
	if err != nil {
		return nothing, err
	}
	var ours bool
	if w.old, w.stale, ours = w.examine(raw); !ours {
		return overwriting, nil // no ref can be served from it
	}
	if !sameContent(w.old, w.new) {
		w.kept = raw
		return overwriting, nil
	}
	// The same content never gets a shorter life from being saved again.
	if w.new.workflow == w.old.workflow && w.new.ttl <= w.old.ttl && !w.stale {
		return longerLife, nil
	}
	w.rewrite()
	return overwriting, nil
}

// rewrite makes w a change of what is stored with the content that is there.
func (w *writing) rewrite() {
	w.asked = w.new.ttl
	w.new.ttl = max(w.new.ttl, w.old.ttl)
	w.raw = w.new.encode(w.envelope, w.ref.ID)
	w.same = true
}

// examine takes a stored value apart and tells whether its content is what it
// says. What cannot be read here, but maybe elsewhere, counts as that: it may
// have to be kept as it is. Stale tells that readers like us need it written
// again, or that it is not encrypted as it would be now.
func (w *writing) examine(raw []byte) (v value, stale, ours bool) {
	v, err := decodeHeader(raw)
	if errors.Is(err, ErrNewerFormat) && len(raw) >= headerBytes {
		// Only the digest is known; it is kept for as long as what replaces it.
		return value{sum: sum(raw[digestAt:headerBytes]), ttl: w.new.ttl}, true, true
	}
	if err != nil {
		return v, false, false
	}
	stale = !w.envelope.current(v.head, v.body)
	if err = v.unlock(w.envelope, w.ref.ID); err == nil {
		err = v.unpack(w.envelope)
	}
	switch {
	case err == nil:
		return v, stale, true
	case errors.Is(err, ErrCorrupt):
		return v, false, false
	}
	return v, true, true // another key, dictionary or size
}

package redisstate

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// Aggregate is a state that has parts: a workflow and its tasks, say. A change of
// one part writes that part.
type Aggregate[H, P any] struct {
	// Head is the state's own.
	Head H
	// Parts are its parts, by their ids.
	Parts map[string]P
}

// NewAggregateCache makes a cache of states with parts: one hash each, with a
// field for each part. Use PutHead, PutPart and RemovePart on its Changes. All is
// as NewCache says; MaxConfigBytes is for the whole of a state. Where Cache says
// that a state may be too old, its parts may also be of different moments. All who
// write such states use Change or Changes: one that is written first and told by
// Invalidate afterwards may be of different moments until that has returned.
func NewAggregateCache[H, P any](client redis.UniversalClient, c CacheOptions[Aggregate[H, P]], o Options) (*Cache[Aggregate[H, P]], error) {
	return newCacheOf(client, c, o, func(t *text, ttl time.Duration) shape[Aggregate[H, P]] {
		return parted[H, P]{t, ttl}
	})
}

// PutHead says what the transaction leaves of the head of a state. The parts stay
// what they are, unless the transaction says otherwise.
func PutHead[H, P any](ch *Changes[Aggregate[H, P]], id string, head H) {
	ch.edit(id, func(whole *Aggregate[H, P]) { whole.Head = head }, func(p *patch) { p.head = &edited{head} })
}

// PutPart says what the transaction leaves of a part, which may be new. The rest
// of the state stays what it is, unless the transaction says otherwise. The state
// itself must be there; if the transaction creates it, say Invalidate.
func PutPart[H, P any](ch *Changes[Aggregate[H, P]], id, name string, part P) {
	ch.edit(id, func(whole *Aggregate[H, P]) {
		parts := make(map[string]P, len(whole.Parts)+1)
		maps.Copy(parts, whole.Parts)
		parts[name] = part
		whole.Parts = parts
	}, func(p *patch) { p.parts[name] = &edited{part} })
}

// RemovePart says that the transaction removes a part.
func RemovePart[H, P any](ch *Changes[Aggregate[H, P]], id, name string) {
	ch.edit(id, func(whole *Aggregate[H, P]) {
		parts := make(map[string]P, len(whole.Parts))
		for n, p := range whole.Parts {
			if n != name {
				parts[n] = p
			}
		}
		whole.Parts = parts
	}, func(p *patch) { p.parts[name] = nil })
}

// patch is what a transaction changes of a state with parts.
type patch struct {
	head  *edited            // nil: as it is
	parts map[string]*edited // nil: removed
}

type edited struct{ value any }

// edit changes what was collected of a state. What is to be invalidated stays so.
func (ch *Changes[T]) edit(id string, all func(*T), some func(*patch)) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	e, known := ch.edits[id]
	switch {
	case known && e == nil:
	case known && e.whole != nil:
		all(e.whole)
	default:
		if !known {
			e = &edit[T]{patch: &patch{parts: make(map[string]*edited)}}
			ch.edits[id] = e
		}
		some(e.patch)
	}
}

// parted is a state in a hash. The head's field begins with the guard, behind
// which is what was there when the parts were put in together (the making), how
// many there are and how large all is. A part begins with its making, so that what
// was put together is not mixed with anything else.
//
// A patch leaves the time to live of the hash as it is: what was not written
// anew is not used for longer than it would have been.
type parted[H, P any] struct {
	text *text
	ttl  time.Duration
}

const (
	headField = "head"
	partField = "part:" // the beginning of the names of parts' fields
)

// headLine is what the head's field says beside the head.
type headLine struct {
	making string
	parts  int
	bytes  int
	sealed string // the head
}

func (parted[H, P]) ask(ctx context.Context, p redis.Pipeliner, guard, state string) answer {
	held, all := p.Get(ctx, guard), p.HGetAll(ctx, state)
	return func() (string, stored, error) {
		guard, err := held.Result()
		if err != nil && !errors.Is(err, redis.Nil) && !rediserr.IsWrongType(err) {
			return "", stored{}, err
		}
		// Whenever the guard is read: what was made under it is right as long as
		// it is there.
		fields, err := all.Result()
		if rediserr.IsWrongType(err) {
			err = nil
		}
		return guard, stored{fields: fields}, err
	}
}

func (s parted[H, P]) open(id, guard string, raw stored) (Aggregate[H, P], found) {
	var none Aggregate[H, P]
	if !strings.HasPrefix(raw.fields[headField], guard) {
		return none, stale
	}
	line, ok := s.parse(guard, raw.fields[headField])
	if !ok {
		return none, absent
	}
	state := Aggregate[H, P]{Parts: make(map[string]P, line.parts)}
	if s.text.unseal(line.making+headField+id, line.sealed, &state.Head) != nil {
		return none, absent
	}
	for field, value := range raw.fields {
		name, isPart := strings.CutPrefix(field, partField)
		if !isPart {
			continue
		}
		body, ours := strings.CutPrefix(value, line.making)
		var part P
		if !ours || s.text.unseal(line.making+bound(name, id), body, &part) != nil {
			return none, absent
		}
		state.Parts[name] = part
	}
	if len(state.Parts) != line.parts {
		return none, absent
	}
	return state, present
}

// bound is to what a part is bound, in a way that tells names and ids apart.
func bound(name, id string) string {
	return partField + strconv.Itoa(len(name)) + ":" + name + id
}

// parse takes the head's field apart.
func (s parted[H, P]) parse(guard, field string) (line headLine, ok bool) {
	rest, ok := strings.CutPrefix(field, s.text.lead(guard))
	if !ok {
		return line, false
	}
	words := strings.SplitN(rest, " ", 4)
	if len(words) != 4 || words[0] == "" {
		return line, false
	}
	parts, err := strconv.Atoi(words[1])
	bytes, bytesErr := strconv.Atoi(words[2])
	return headLine{making: words[0], parts: parts, bytes: bytes, sealed: words[3]}, err == nil && bytesErr == nil
}

func (s parted[H, P]) format(guard string, line headLine) string {
	return s.text.lead(guard) + line.making + " " + strconv.Itoa(line.parts) + " " + strconv.Itoa(line.bytes) + " " + line.sealed
}

func (s parted[H, P]) pack(id, guard string, state Aggregate[H, P]) (stored, error) {
	line := headLine{making: guard, parts: len(state.Parts)}
	fields := make(map[string]string, len(state.Parts)+1)
	sealed, err := s.text.seal(line.making+headField+id, state.Head)
	if err != nil {
		return stored{}, err
	}
	line.sealed, line.bytes = string(sealed), len(sealed)
	for name, part := range state.Parts {
		sealed, err := s.text.seal(line.making+bound(name, id), part)
		if err != nil {
			return stored{}, err
		}
		fields[partField+name] = line.making + string(sealed)
		line.bytes += len(sealed)
	}
	if line.bytes > s.text.max {
		s.text.failed("encode", ErrTooLarge)
		return stored{}, ErrTooLarge
	}
	fields[headField] = s.format(guard, line)
	return stored{fields: fields}, nil
}

func (s parted[H, P]) put(ctx context.Context, p redis.Pipeliner, name string, packed stored) {
	p.Del(ctx, name)
	p.HSet(ctx, name, packed.fields)
	p.PExpire(ctx, name, s.ttl)
}

func (s parted[H, P]) renew(ctx context.Context, tx *redis.Tx, r renewal) (func(redis.Pipeliner), error) {
	head, there, err := s.lookAt(ctx, tx, r)
	if err != nil {
		return nil, err
	}
	line, ok := s.parse(r.before, head)
	if !ok { // also if another change was under way before: nothing is made under a mark
		return nil, errNotAlone
	}
	set := make(map[string]string, len(r.patch.parts)+1)
	var gone []string
	if r.patch.head != nil {
		sealed, err := s.text.seal(line.making+headField+r.id, r.patch.head.value)
		if err != nil {
			return nil, errNotAlone
		}
		line.bytes += len(sealed)
		line.sealed = string(sealed)
	}
	for name, part := range r.patch.parts {
		if part == nil {
			if there[name].Val() {
				gone = append(gone, partField+name)
				line.parts--
			}
			continue
		}
		sealed, err := s.text.seal(line.making+bound(name, r.id), part.value)
		if err != nil {
			return nil, errNotAlone
		}
		if !there[name].Val() {
			line.parts++
		}
		set[partField+name] = line.making + string(sealed)
		line.bytes += len(sealed) // what it replaces stays counted, until it is loaded again
	}
	if line.bytes > s.text.max {
		return nil, errNotAlone
	}
	set[headField] = s.format(r.fresh, line)
	return func(p redis.Pipeliner) {
		if len(gone) > 0 {
			p.HDel(ctx, r.name, gone...)
		}
		p.HSet(ctx, r.name, set)
	}, nil
}

// lookAt reads the head of a state, and which of the parts are there.
func (s parted[H, P]) lookAt(ctx context.Context, tx *redis.Tx, r renewal) (head string, there map[string]*redis.BoolCmd, err error) {
	var held *redis.StringCmd
	there = make(map[string]*redis.BoolCmd, len(r.patch.parts))
	_, err = tx.Pipelined(ctx, func(p redis.Pipeliner) error {
		held = p.HGet(ctx, r.name, headField)
		for name := range r.patch.parts {
			there[name] = p.HExists(ctx, r.name, partField+name)
		}
		return nil
	})
	if errors.Is(err, redis.Nil) || rediserr.IsWrongType(err) {
		return "", there, errNotAlone
	}
	return held.Val(), there, err
}

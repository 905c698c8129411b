package redisstate

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// envelope says how bytes are wrapped on their way into Redis (compressed, then
// encrypted) and what is accepted on the way out. The zero value wraps nothing
// and reads what needs no key. It is safe for concurrent use.
type envelope struct {
	compression Compression
	keys        *KeyRing
	required    bool                   // what is not encrypted is refused
	limit       int                    // of plain bytes that are decompressed, see bound
	uses        *prometheus.CounterVec // of keys; nil: not counted
}

func newEnvelope(o Options, uses *prometheus.CounterVec) envelope {
	o.Keys.countOn(uses)
	return envelope{compression: o.Compression, keys: o.Keys, required: o.RequireEncryption, limit: o.MaxConfigBytes, uses: uses}
}

func (e envelope) used(key *sealer, how string) {
	if e.uses != nil {
		e.uses.WithLabelValues(key.id, how).Inc()
	}
}

// bound is the most bytes that a value may have once decompressed. It is never
// below the default of MaxConfigBytes, so that a process that accepts only small
// values from its own callers reads what others saved.
func (e envelope) bound() int { return max(e.limit, DefaultMaxConfigBytes) }

// An encrypted body is
//
//	key id  1 byte length and bytes
//	check   4 bytes, tell keys with the same id apart
//	nonce   12 bytes, random
//	sealed  AES-256-GCM of the body as it would be otherwise, with its 16 bytes tag
//
// It is bound to its place: the additional data are a label, key family, id and
// key id, each with its length before it, and all that stands before the body.
// Moving it to another id or family, or changing version, flags, digest, time to
// live or workflow, is found out.
const (
	sealLabel    = "temporal-redis 1"
	nonceBytes   = 12
	tagBytes     = 16
	maxSealBytes = 1 + MaxEncryptionKeyID + len(keyCheck{}) + nonceBytes + tagBytes
)

// bare tells whether wrap leaves what it is given as it is.
func (e envelope) bare() bool {
	return (e.compression == "" || e.compression == CompressionNone) && e.keys.newest() == nil
}

// wrap appends the body for plain to head, which starts with version and flags
// and is all that stands before the body, and completes the flags.
func (e envelope) wrap(head []byte, family, id string, plain []byte) []byte {
	body, flags := e.compression.compress(plain, e.bound())
	head[flagsAt] |= flags
	key := e.keys.newest()
	if key == nil {
		return append(head, body...)
	}
	head[flagsAt] |= flagSealed
	bindings := key.bindings(head, family, id)
	out := append(head, byte(len(key.id)))
	out = append(out, key.id...)
	out = append(out, key.check[:]...)
	e.used(key, telemetry.Encrypted)
	return key.aead.Seal(out, nil, body, bindings) //nolint:gosec // G407: this AEAD makes a random nonce itself and takes none
}

// unlock takes the encryption off a body. Errors wrap ErrUnknownKey, ErrCorrupt
// or ErrNotEncrypted.
func (e envelope) unlock(head, body []byte, family, id string) ([]byte, error) {
	if head[flagsAt]&flagSealed == 0 {
		if e.required {
			return nil, ErrNotEncrypted
		}
		return body, nil
	}
	keyID, check, sealed, ok := cutSeal(body)
	if !ok {
		return nil, fmt.Errorf("%w: its encryption is unreadable", ErrCorrupt)
	}
	key, err := e.keys.find(keyID, check)
	if err != nil {
		return nil, err
	}
	plain, err := key.aead.Open(nil, nil, sealed, key.bindings(head, family, id))
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or moved here from another key", ErrCorrupt)
	}
	e.used(key, telemetry.Decrypted)
	return plain, nil
}

// current tells whether a body is encrypted as wrap would do it now.
func (e envelope) current(head, body []byte) bool {
	key := e.keys.newest()
	if head[flagsAt]&flagSealed == 0 {
		return key == nil
	}
	id, check, _, ok := cutSeal(body)
	return ok && key != nil && id == key.id && check == key.check
}

// cutSeal takes an encrypted body apart.
func cutSeal(body []byte) (keyID string, check keyCheck, sealed []byte, ok bool) {
	if len(body) == 0 {
		return "", check, nil, false
	}
	length := int(body[0])
	rest := body[1:]
	if len(rest) < length+len(check)+nonceBytes+tagBytes || !validKeyID(string(rest[:length])) {
		return "", check, nil, false
	}
	keyID, rest = string(rest[:length]), rest[length:]
	check = keyCheck(rest[:len(check)])
	return keyID, check, rest[len(check):], true
}

// bindings are the additional data of what is encrypted with this key.
func (s *sealer) bindings(head []byte, family, id string) []byte {
	parts := [...]string{sealLabel, family, id, s.id}
	out := make([]byte, 0, len(parts)*binary.MaxVarintLen16+len(sealLabel)+len(family)+len(id)+len(s.id)+len(head))
	for _, part := range parts {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return append(out, head...)
}

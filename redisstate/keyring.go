package redisstate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// EncryptionKeyBytes is the length of a key: AES-256.
const EncryptionKeyBytes = 32

// MaxEncryptionKeyID bounds the id of a key, in bytes.
const MaxEncryptionKeyID = 32

// EncryptionKey is a key and the name under which values refer to it. Printed,
// logged or marshalled it shows its id only.
type EncryptionKey struct {
	// ID names the key in what is stored; it is no secret. 1 to 32 letters,
	// digits and - . _
	ID string
	// Key is the secret: 32 random bytes, as crypto/rand or
	// "openssl rand -base64 32" make them. It is copied.
	Key []byte
}

// String gives the id.
func (k EncryptionKey) String() string { return "key " + shownID(k.ID) }

// GoString gives the id.
func (k EncryptionKey) GoString() string { return "redisstate.EncryptionKey(" + shownID(k.ID) + ")" }

// Format gives the id, whatever the verb.
func (k EncryptionKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue gives the id.
func (k EncryptionKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON gives the id.
func (k EncryptionKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// shownID leaves out what is no id: it may be a key that was put in its place.
func shownID(id string) string {
	if !validKeyID(id) {
		return "without a valid id"
	}
	return id
}

func validKeyID(id string) bool {
	return id != "" && len(id) <= MaxEncryptionKeyID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// KeyRing holds the keys that values are encrypted under: the first, newest, one
// encrypts, and all of them decrypt. NewKeyRing makes one. It is safe for
// concurrent use, may be shared by stores (of one registry of metrics, or a few: it
// keeps hold of them), and its keys can be replaced while they work. Printed, logged or marshalled it shows the ids of its keys only.
type KeyRing struct {
	keys atomic.Pointer[[]*sealer]

	mu   sync.Mutex               // of Replace and countOn
	uses []*prometheus.CounterVec // that count the uses of keys
}

// sealer is one key ready for use.
type sealer struct {
	id    string
	check keyCheck
	aead  cipher.AEAD
}

// NewKeyRing makes a ring of keys, newest first. Errors wrap ErrInvalidOptions
// and hold no key material.
func NewKeyRing(keys ...EncryptionKey) (*KeyRing, error) {
	r := new(KeyRing)
	if err := r.Replace(keys...); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace puts other keys, newest first, in place of all that are there, at
// once: an operation under way uses the former or the latter. An error changes
// nothing; it wraps ErrInvalidOptions and holds no key material.
//
// Rotate in three steps: give every process the new key behind the old one;
// then put it first everywhere; take the old one away when nothing is stored
// under it any more. That is one TTL after its last write with FixedTTL; else reads
// extend lives, and what is in use stays under the key of its last write until it is
// saved again. The metric redis_encryption_key_uses_total counts what each key decrypts.
func (r *KeyRing) Replace(keys ...EncryptionKey) error {
	if len(keys) == 0 {
		return invalid("a key ring needs at least one key")
	}
	var errs []error
	fresh := make([]*sealer, 0, len(keys))
	for i, k := range keys {
		s, err := newSealer(k)
		switch {
		case err != nil:
			errs = append(errs, invalid("encryption key %d of %d: %w", i+1, len(keys), err))
		case slices.ContainsFunc(fresh, func(other *sealer) bool { return other.id == s.id }):
			errs = append(errs, invalid("encryption key %d of %d: the id %q is there twice; give each key its own", i+1, len(keys), s.id))
		default:
			fresh = append(fresh, s)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys.Store(&fresh)
	for _, uses := range r.uses {
		begin(uses, fresh)
	}
	return nil
}

// countOn has the uses of the keys counted from 0, those of later keys too: what is
// only there from its first use on has no increase that a query could see.
func (r *KeyRing) countOn(uses *prometheus.CounterVec) {
	if r == nil || uses == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.uses, uses) {
		r.uses = append(r.uses, uses)
	}
	if all := r.keys.Load(); all != nil {
		begin(uses, *all)
	}
}

func begin(uses *prometheus.CounterVec, keys []*sealer) {
	for _, key := range keys {
		for _, how := range []string{telemetry.Encrypted, telemetry.Decrypted} {
			uses.WithLabelValues(key.id, how)
		}
	}
}

// IDs are the ids of the keys, newest first.
func (r *KeyRing) IDs() []string {
	var ids []string
	for _, s := range r.all() {
		ids = append(ids, s.id)
	}
	return ids
}

// String gives the ids.
func (r *KeyRing) String() string { return "key ring [" + strings.Join(r.IDs(), " ") + "]" }

// GoString gives the ids.
func (r *KeyRing) GoString() string { return "redisstate.KeyRing(" + r.String() + ")" }

// Format gives the ids, whatever the verb.
func (r *KeyRing) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(r.String())) }

// LogValue gives the ids.
func (r *KeyRing) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalJSON gives the ids.
func (r *KeyRing) MarshalJSON() ([]byte, error) { return json.Marshal(r.String()) }

func (r *KeyRing) all() []*sealer {
	if r == nil {
		return nil
	}
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

// newest is the key that encrypts; nil means that nothing is encrypted.
func (r *KeyRing) newest() *sealer {
	if keys := r.all(); len(keys) > 0 {
		return keys[0]
	}
	return nil
}

// find gives the key that a value was encrypted under. Errors wrap
// ErrUnknownKey.
func (r *KeyRing) find(id string, check keyCheck) (*sealer, error) {
	for _, s := range r.all() {
		switch {
		case s.id != id:
		case s.check != check:
			return nil, fmt.Errorf("%w: the key ring has another key under the id %q", ErrUnknownKey, id)
		default:
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: add the key with the id %q to Options.Keys", ErrUnknownKey, id)
}

// keyCheck tells keys with the same id apart, so that a process that was given
// the wrong key says so instead of calling the value corrupt.
type keyCheck [4]byte

func newSealer(k EncryptionKey) (*sealer, error) {
	if !validKeyID(k.ID) {
		return nil, fmt.Errorf("its id cannot be used; use 1 to %d letters, digits and - . _", MaxEncryptionKeyID)
	}
	if len(k.Key) != EncryptionKeyBytes {
		return nil, fmt.Errorf("%q has %d bytes; use %d random ones", k.ID, len(k.Key), EncryptionKeyBytes)
	}
	block, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", k.ID, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", k.ID, err)
	}
	mac := hmac.New(sha256.New, k.Key)
	mac.Write([]byte("temporal-redis key check 1"))
	return &sealer{id: k.ID, check: keyCheck(mac.Sum(nil)), aead: aead}, nil
}

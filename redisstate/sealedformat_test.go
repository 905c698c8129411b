package redisstate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func kept(id string) EncryptionKey { return EncryptionKey{ID: id, Key: bytes.Repeat([]byte("k"), 32)} }

// Print a fresh one with: go test ./redisstate -run Sealed_formats -v
const (
	sealedConfig = "01082bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd80dddb0102776607323032362d3033a9cd1fc7" +
		"a118c3023f37a1c7a2cbfab111bd29d66cbd3cd4006481fdddfd142f432d8f7bcf4620"
	sealedBlob = "010807323032362d3033a9cd1fc72c5fbe9d6bab8c42b4bb74d2033c2be2e5aa0e37c459af7ff4eb36d27ab164981933a0"
)

// The format is read by other releases, and what is stored by them: these bytes must
// always be readable.
func TestSealed_formats_are_read_as_they_were(t *testing.T) {
	t.Parallel()
	ring := ringOf(t, kept("2026-03"))
	fresh := value{sum: sha256.Sum256([]byte(`{"n":1}`)), ttl: time.Hour, workflow: "wf", payload: []byte(`{"n":1}`)}
	t.Logf("config %x", fresh.encode(envelope{keys: ring}, "a/b"))
	t.Logf("blob %x", seal(t, Options{Keys: ring}, "session", "run/name", `{"n":1}`))
	raw, err := hex.DecodeString(sealedConfig)
	if err != nil {
		t.Fatal(err)
	}
	v, err := opened(raw, envelope{keys: ring}, "a/b")
	if err != nil || string(v.payload) != `{"n":1}` || v.workflow != "wf" || v.ttl != time.Hour {
		t.Errorf("config: %+v, %v", v, err)
	}
	if raw, err = hex.DecodeString(sealedBlob); err != nil {
		t.Fatal(err)
	}
	if got, err := newBlobs(Options{Keys: ring}, nil).decode("session", "run/name", raw); err != nil || string(got) != `{"n":1}` {
		t.Errorf("blob: %s, %v", got, err)
	}
}

// The key's id is bound to what it encrypted: with the same key under another id it is
// another place.
func TestSealed_is_bound_to_the_id_of_its_key(t *testing.T) {
	t.Parallel()
	raw := seal(t, Options{Keys: ringOf(t, kept("one"))}, "metadata", "id", "x")
	moved := []byte(strings.Replace(string(raw), "one", "two", 1))
	both := newBlobs(Options{Keys: ringOf(t, kept("two"), kept("one"))}, nil)
	if got, err := both.decode("metadata", "id", raw); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := both.decode("metadata", "id", moved); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %q, %v", got, err)
	}
}

// Whoever can write and has no key gets nothing sealed by those who have: neither
// other content than a writer put aside, nor what else was planted with it.
func TestStore_seals_again_only_what_it_would_believe(t *testing.T) {
	t.Parallel()
	ring := ringOf(t, kept("k"))
	strict := Options{Keys: ring, RequireEncryption: true}
	ring = ringOf(t, kept("k"), key("old"))
	strict.Keys = ring
	lenient := Options{Keys: ring}
	earlier := value{sum: sha256.Sum256([]byte("4")), ttl: time.Hour, workflow: "wf", payload: []byte("4")}
	for name, test := range map[string]struct {
		o     Options
		plant func(own, other sum) []byte
	}{
		"other content":   {strict, func(_, other sum) []byte { return header(other).encode(envelope{}, "a") }},
		"other workflow":  {strict, func(own, _ sum) []byte { return header(own).encode(envelope{}, "a") }},
		"another key":     {strict, func(own, _ sum) []byte { return header(own).encode(envelope{keys: ringOf(t, sameID("k"))}, "a") }},
		"earlier content": {strict, func(sum, sum) []byte { return earlier.encode(envelope{keys: ringOf(t, key("old"))}, "a") }},
		"clear is read, too": {lenient, func(own, _ sum) []byte {
			planted := header(own)
			planted.payload = []byte(`"A"`)
			return planted.encode(envelope{}, "a")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			s := v.open(test.o)
			other, own := v.set(s, "other", "drop all tables"), v.set(s, "a", "A")
			ownSum, _ := parseDigest(own.Digest)
			otherSum, _ := parseDigest(other.Digest)
			aside := "a@" + string(own.Digest)
			v.put(aside, string(test.plant(ownSum, otherSum)))
			v.set(s, "a", "B")
			v.gives(s, own.Key(), `"A"`)
			config, err := v.open(strict).Get(t.Context(), own.Key())
			if err != nil || config.Workflow != "wf" {
				t.Errorf("it is of the workflow %q, %v", config.Workflow, err)
			}
			v.put("a", v.raw(aside)) // a copy of what was sealed is no more than that
			v.gives(s, ID("a"), `"A"`)
		})
	}
}

// header is a stored value that claims to be some content.
func header(of sum) value {
	return value{sum: of, ttl: 1000 * time.Hour, workflow: "attacker", payload: []byte("1")}
}

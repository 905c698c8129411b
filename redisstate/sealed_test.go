package redisstate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

// vault is a Redis with the stores that tests open on it.
type vault struct {
	testing.TB
	server *miniredis.Miniredis
}

func newVault(tb testing.TB) vault { return vault{tb, newServer(tb)} }

func (v vault) open(o Options) *Store {
	v.Helper()
	o.NearCacheBytes = -1
	return newStore(v, newClient(v, v.server), o)
}

func (v vault) set(s *Store, id string, value any) Ref {
	v.Helper()
	refs, err := s.Set(v.Context(), Entry{ID: id, Workflow: "wf", Value: value})
	if err != nil {
		v.Fatal(err)
	}
	return refs[0]
}

func (v vault) raw(id string) string {
	v.Helper()
	raw, err := v.server.Get("temporal-redis:config:" + id)
	if err != nil {
		v.Fatal(err)
	}
	return raw
}

func (v vault) put(id, raw string) {
	v.Helper()
	if err := v.server.Set("temporal-redis:config:"+id, raw); err != nil {
		v.Fatal(err)
	}
}

// gives fails the test unless key gives want, a JSON text or an error.
func (v vault) gives(s *Store, key Key, want any) {
	v.Helper()
	config, err := s.Get(v.Context(), key)
	switch want := want.(type) {
	case error:
		if !errors.Is(err, want) {
			v.Fatalf("%v gave %s, %v; want %v", key, config.JSON(), err, want)
		}
	case string:
		if err != nil || string(config.JSON()) != want {
			v.Fatalf("%v gave %s, %v; want %s", key, config.JSON(), err, want)
		}
	}
}

var long = strings.Repeat("a prompt of some length. ", 20)

func TestStore_keeps_encrypted_configs_in_their_places(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	o := Options{Keys: mustRing(t, "a"), Compression: CompressionZstd}
	writer := v.open(o)
	one, two := v.set(writer, "one", "content of one "+long), v.set(writer, "two", "content of two "+long)
	rawOne, rawTwo := v.raw("one"), v.raw("two")
	v.put("one", rawTwo)
	v.put("two", rawOne)
	// The writer knows both contents by their digests; that must not help.
	for _, reader := range []*Store{writer, v.open(o)} {
		for _, key := range []Key{ID("one"), ID("two"), one.Key(), two.Key(), {ID: "one", Digest: two.Digest}} {
			v.gives(reader, key, ErrCorrupt)
		}
	}
	// A header in clear, digest included, cannot be exchanged either.
	v.put("one", rawTwo[:headerBytes]+rawOne[headerBytes:])
	v.gives(writer, ID("one"), ErrCorrupt)
	v.put("one", strings.Replace(rawOne, "wf", "xx", 1))
	v.gives(writer, ID("one"), ErrCorrupt)
	v.put("one", rawOne)
	v.gives(v.open(o), one.Key(), `"content of one `+long+`"`)
}

func TestStore_hides_what_is_encrypted(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for _, c := range []Compression{CompressionNone, CompressionS2, CompressionZstd} {
		v.set(v.open(Options{Keys: mustRing(t, "a"), Compression: c}), "id", doc{"top-secret", 1})
		v.set(v.open(Options{Keys: mustRing(t, "a"), Compression: c}), "id", doc{"top-secret", 2})
		for _, key := range v.server.Keys() {
			if raw, err := v.server.Get(key); err == nil && strings.Contains(raw, "secret") {
				t.Errorf("%s: in clear at %s", c, key)
			}
		}
	}
}

func TestStore_rotates_keys_while_it_runs(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	ring := mustRing(t, "one")
	s := v.open(Options{Keys: ring})
	uses := func(id string, encrypted, decrypted float64) {
		t.Helper()
		e := testutil.ToFloat64(s.metrics.KeyUses.WithLabelValues(id, telemetry.Encrypted))
		d := testutil.ToFloat64(s.metrics.KeyUses.WithLabelValues(id, telemetry.Decrypted))
		if e != encrypted || d != decrypted {
			t.Errorf("%s has encrypted %v and decrypted %v values; want %v and %v", id, e, d, encrypted, decrypted)
		}
	}
	counted := func(series int) { // from 0, by what was there before the first use
		t.Helper()
		if got := testutil.CollectAndCount(s.metrics.KeyUses); got != series {
			t.Errorf("%d series of the uses of keys; want %d", got, series)
		}
	}
	counted(2)
	ref := v.set(s, "id", 1)
	uses("one", 1, 0)
	if err := ring.Replace(key("two"), key("one")); err != nil {
		t.Fatal(err)
	}
	counted(4)
	v.gives(s, ref.Key(), "1")
	uses("one", 1, 1)
	uses("two", 0, 0)
	before := v.raw("id")
	v.set(s, "id", 1) // unchanged, but not under the newest key
	after := v.raw("id")
	if !strings.Contains(before, "one") || !strings.Contains(after, "two") {
		t.Fatalf("stored as %q, then as %q", before, after)
	}
	v.set(s, "id", 1)
	if v.raw("id") != after {
		t.Fatal("what was under the newest key was written again")
	}
	if err := ring.Replace(key("two")); err != nil {
		t.Fatal(err)
	}
	v.gives(v.open(Options{Keys: ring}), ref.Key(), "1")
	if keys := v.server.Keys(); len(keys) != 2 {
		t.Fatalf("unchanged content was put aside: %v", keys)
	}
}

func TestStore_encrypts_what_was_saved_before_when_it_is_saved_again(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	plain, sealed := v.open(Options{}), v.open(Options{Keys: mustRing(t, "a"), TTL: time.Hour})
	strict := v.open(Options{Keys: mustRing(t, "a"), RequireEncryption: true})
	ref := v.set(plain, "id", 1)
	v.gives(sealed, ref.Key(), "1")
	v.gives(strict, ref.Key(), ErrNotEncrypted)
	v.set(sealed, "id", 1)
	v.gives(strict, ref.Key(), "1")
	v.gives(plain, ref.Key(), ErrUnknownKey)
	if ttl := v.server.TTL("temporal-redis:config:id"); ttl != DefaultTTL {
		t.Fatalf("being encrypted made the life %v; want %v", ttl, DefaultTTL)
	}
}

func TestStore_tells_a_missing_key_from_a_wrong_one(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	ref := v.set(v.open(Options{Keys: mustRing(t, "k7")}), "id", 1)
	for name, o := range map[string]Options{
		"no ring": {}, "missing": {Keys: mustRing(t, "k6")}, "wrong": {Keys: ringOf(t, sameID("k7"))},
	} {
		s := v.open(o)
		for _, key := range []Key{ID("id"), ref.Key()} {
			_, err := s.Get(t.Context(), key)
			if !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), `"k7"`) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if _, err := s.GetMany(t.Context(), ref.Key()); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s: many gave %v", name, err)
		}
	}
}

// Refs keep working when a process without the key overwrites.
func TestStore_puts_aside_what_it_has_no_key_for(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	keyed := Options{Keys: mustRing(t, "a"), Compression: CompressionZstd}
	old := v.set(v.open(keyed), "id", long)
	keyless := v.open(Options{})
	fresh := v.set(keyless, "id", 2)
	v.gives(keyless, ID("id"), "2")
	v.gives(keyless, old.Key(), ErrUnknownKey)
	for key, want := range map[Key]string{old.Key(): `"` + long + `"`, fresh.Key(): "2"} {
		v.gives(v.open(keyed), key, want)
	}
	// The same content is written again, so that who saved it can read it.
	v.set(v.open(keyed), "id", 3)
	same := v.set(keyless, "id", 3)
	v.gives(v.open(Options{}), same.Key(), "3")
}

// Content that comes back and is overwritten again lies aside under the key of its last
// writer: that of its first one may be gone soon.
func TestStore_puts_aside_what_is_sealed_as_its_last_writer_did(t *testing.T) {
	t.Parallel()
	const encryptionComes, encryptionGoes = "encryption comes", "encryption goes"
	for name, test := range map[string]struct{ first, then, last Options }{
		encryptionComes:      {then: Options{Keys: mustRing(t, "a")}, last: Options{Keys: mustRing(t, "a"), RequireEncryption: true}},
		"the key is another": {first: Options{Keys: mustRing(t, "a")}, then: Options{Keys: mustRing(t, "b", "a")}, last: Options{Keys: mustRing(t, "b")}},
		encryptionGoes:       {first: Options{Keys: mustRing(t, "a")}, then: Options{}, last: Options{Keys: mustRing(t, "a"), RequireEncryption: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			first, then := v.open(test.first), v.open(test.then)
			ref := v.set(first, "id", "again")
			v.set(first, "id", "between")
			life := v.server.TTL("temporal-redis:config:id@" + string(ref.Digest))
			again := Entry{ID: "id", Workflow: "other", Value: "again", TTL: time.Minute}
			if refs, err := then.Set(t.Context(), again); err != nil || refs[0] != ref {
				t.Fatalf("%v and %v, %v", ref, refs, err)
			}
			v.set(then, "id", "last")
			v.gives(v.open(test.last), ref.Key(), `"again"`)
			workflow := "other"
			if name == encryptionGoes { // a writer without a key leaves it as it is
				workflow = "wf"
			}
			if config, err := v.open(test.last).Get(t.Context(), ref.Key()); err != nil || config.Workflow != workflow {
				t.Errorf("it is of the workflow %q, %v", config.Workflow, err)
			}
			if header, err := decodeHeader([]byte(v.raw("id@" + string(ref.Digest)))); err != nil || (name == encryptionComes) != (header.ttl == time.Minute) {
				t.Errorf("its time to live is %v, %v; one in clear may be anybody's", header.ttl, err)
			}
			if now := v.server.TTL("temporal-redis:config:id@" + string(ref.Digest)); now != life {
				t.Errorf("it lives for %v; want %v", now, life)
			}
		})
	}
}

// As in a rolling deploy: whoever wrote it, everyone reads it, by id and by ref,
// and an overwrite by one of the others changes nothing for earlier refs.
func TestStore_reads_what_others_compressed_without_an_option(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	all := []Compression{"", CompressionNone, CompressionS2, CompressionZstd}
	refs := make(map[Ref]string)
	for i, w := range all {
		ref := v.set(v.open(Options{Compression: w}), "id", fmt.Sprint(i, long))
		refs[ref] = fmt.Sprintf("%q", fmt.Sprint(i, long))
		for _, r := range all {
			reader := v.open(Options{Compression: r, Keys: mustRing(t, "a")})
			v.gives(reader, ID("id"), refs[ref])
			for ref, want := range refs {
				v.gives(reader, ref.Key(), want)
			}
		}
	}
	// What is stored is not written again only because another compression is set.
	before := v.raw("id")
	v.set(v.open(Options{Compression: CompressionS2}), "id", fmt.Sprint(3, long))
	if v.raw("id") != before {
		t.Fatal("another compression made an unchanged config be written again")
	}
}

// A release that knows no flags says so by name, and one of today reads what
// that release wrote.
func TestFormat_lets_two_releases_live_together(t *testing.T) {
	t.Parallel()
	const noFlags = 0 // known to the first release
	v := newVault(t)
	for _, o := range []Options{{Compression: CompressionS2}, {Compression: CompressionZstd}, {Keys: mustRing(t, "a")}} {
		v.set(v.open(o), "new", long)
		if err := checkFormat([]byte(v.raw("new")), headerBytes, noFlags); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%v: the first release says %v", o.Compression, err)
		}
	}
	v.set(v.open(Options{}), "plain", long)
	if err := checkFormat([]byte(v.raw("plain")), headerBytes, noFlags); err != nil {
		t.Errorf("the first release cannot read what has no flags: %v", err)
	}
	// As the first release wrote it.
	payload := []byte(`{"a":1}`)
	digest := sha256.Sum256(payload)
	old := append([]byte{1, 0}, digest[:]...)
	old = append(binary.AppendUvarint(old, 86_400_000), "\x02wf"...)
	v.put("old", string(append(old, payload...)))
	v.gives(v.open(Options{Compression: CompressionZstd, Keys: mustRing(t, "a")}), ID("old"), `{"a":1}`)
}

// What a later release wrote is put aside byte by byte.
func TestFormat_keeps_what_only_a_later_release_can_read(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	s := v.open(Options{Compression: CompressionZstd, Keys: mustRing(t, "a")})
	ref := v.set(s, "id", long)
	later := []byte(v.raw("id"))
	later[flagsAt] |= 0x80
	v.put("id", string(later))
	v.set(s, "id", 2)
	if kept := v.raw("id@" + string(ref.Digest)); kept != string(later) {
		t.Fatalf("kept %q", kept)
	}
}

func TestStore_refuses_a_bomb(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	all, err := bombs()
	if err != nil {
		t.Fatal(err)
	}
	hash, some := sha256.New(), make([]byte, 1<<20)
	for range bombSize / len(some) {
		hash.Write(some)
	}
	for name, bomb := range all {
		raw := value{sum: sum(hash.Sum(nil)), ttl: time.Hour}.encode(envelope{}, "id")
		raw[flagsAt] = bomb.flags
		raw = append(binary.AppendUvarint(raw, bombSize), bomb.data...)
		v.put("id", string(raw))
		_, err := v.open(Options{}).Get(t.Context(), ID("id"))
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "MaxConfigBytes") {
			t.Errorf("%s: got %v", name, err)
		}
		v.set(v.open(Options{}), "id", 1)
		v.gives(v.open(Options{}), ID("id"), "1")
	}
}

// A process that takes only small configs itself still reads those of others.
func TestStore_reads_more_than_it_saves(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	ref := v.set(v.open(Options{Compression: CompressionS2}), "id", long)
	v.gives(v.open(Options{MaxConfigBytes: 10}), ref.Key(), `"`+long+`"`)
}

// FuzzDecodeValue reads any bytes as a config: never a panic, never more memory
// than the bound, and what is readable can be stored again.
func FuzzDecodeValue(f *testing.F) {
	const bound = 4 << 10
	ring, err := NewKeyRing(key("a"))
	if err != nil {
		f.Fatal(err)
	}
	payload := []byte(`{"agent":{"id":"reviewer","instructions":"You are a careful analyst."},"id":"x","type":"basic"}`)
	v := value{sum: sha256.Sum256(payload), ttl: time.Hour, workflow: "wf", payload: payload}
	for _, e := range []envelope{{}, {compression: CompressionS2}, {compression: CompressionZstd}, {keys: ring}, {keys: ring, compression: CompressionZstd}} {
		good := v.encode(e, "id")
		f.Add(good)
		for _, at := range []int{0, 1, 2, 33, 34, 38, 41, 42, 45, len(good) - 1} {
			bad := bytes.Clone(good)
			bad[at] ^= 0xff
			f.Add(bad)
			f.Add(good[:at])
		}
	}
	plain := v.encode(envelope{}, "id")
	f.Add(append(bytes.Clone(plain[:headerBytes]), bytes.Repeat([]byte{0xff}, 20)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		kept := bytes.Clone(raw)
		got, err := decodeHeader(raw)
		if err == nil && (got.ttl < 0 || len(got.workflow)+len(got.body) > len(raw)) {
			t.Fatalf("%x: %+v", raw, got)
		}
		if err == nil {
			err = got.unlock(envelope{keys: ring}, "id")
		}
		if err == nil {
			var plain []byte
			plain, err = expand(got.head[flagsAt], got.body, bound)
			if got.head[flagsAt]&(flagS2|flagZstd) != 0 && cap(plain) > bound {
				t.Fatalf("%x: took %d bytes", raw, cap(plain))
			}
		}
		if err == nil {
			err = got.unpack(envelope{})
		}
		if !bytes.Equal(raw, kept) {
			t.Fatalf("%x was changed to %x", kept, raw)
		}
		if err != nil {
			for _, known := range []error{ErrCorrupt, ErrNewerFormat, ErrUnknownKey, ErrTooLarge} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("%x: %v", raw, err)
		}
		for _, e := range []envelope{{}, {keys: ring, compression: CompressionS2}} {
			again, err := opened(got.encode(e, "id"), e, "id")
			if err != nil || again.sum != got.sum || again.workflow != got.workflow || again.ttl != got.ttl || !bytes.Equal(again.payload, got.payload) {
				t.Fatalf("%x: %+v, %v", raw, again, err)
			}
		}
	})
}

// FuzzBlob reads any bytes as a blob, and stores any bytes as one.
func FuzzBlob(f *testing.F) {
	ring, err := NewKeyRing(key("a"))
	if err != nil {
		f.Fatal(err)
	}
	all := []blobs{
		{}, newBlobs(Options{Compression: CompressionS2}, nil), newBlobs(Options{Compression: CompressionZstd}, nil),
		newBlobs(Options{Keys: ring}, nil), newBlobs(Options{Keys: ring, Compression: CompressionZstd}, nil),
	}
	for _, b := range all {
		raw, err := b.encode("metadata", "id", []byte(long))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "id")
	}
	f.Fuzz(func(t *testing.T, data []byte, id string) {
		reader := all[len(all)-1]
		if _, err := reader.decode("metadata", id, data); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) &&
			!errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%x: %v", data, err)
		}
		for _, b := range all {
			raw, err := b.encode("metadata", id, data)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := reader.decode("metadata", id, raw); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%x: got %x, %v", data, got, err)
			}
		}
	})
}

package redisstate

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// seal is what newBlobs' envelope makes of plain under a family and an id.
func seal(tb testing.TB, o Options, family, id, plain string) []byte {
	tb.Helper()
	raw, err := newBlobs(o, nil).encode(family, id, []byte(plain))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestBlob_round_trip(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"plain":     {},
		"s2":        {Compression: CompressionS2},
		"zstd":      {Compression: CompressionZstd},
		"encrypted": {Keys: mustRing(t, "a")},
		"both":      {Keys: mustRing(t, "a"), Compression: CompressionZstd, RequireEncryption: true},
	} {
		for _, plain := range []string{"", "x", strings.Repeat("hello ", 1000), string(make([]byte, DefaultMaxConfigBytes+1))} {
			raw := seal(t, o, "metadata", "id", plain)
			got, err := newBlobs(o, nil).decode("metadata", "id", raw)
			if err != nil || string(got) != plain {
				t.Errorf("%s: got %d bytes for %d, %v", name, len(got), len(plain), err)
			}
			if o.Keys != nil && len(plain) > 1 && bytes.Contains(raw, []byte(plain[:min(len(plain), 100)])) {
				t.Errorf("%s: in clear: %q", name, raw[:100])
			}
		}
	}
}

func TestBlob_zero_value_reads_what_needs_no_key(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{}, {Compression: CompressionS2}, {Compression: CompressionZstd}} {
		raw := seal(t, o, "metadata", "id", strings.Repeat("x", 500))
		if got, err := (blobs{}).decode("metadata", "id", raw); err != nil || len(got) != 500 {
			t.Errorf("%s: got %q, %v", o.Compression, got, err)
		}
	}
	raw := seal(t, Options{Keys: mustRing(t, "k-7")}, "metadata", "id", "x")
	if _, err := (blobs{}).decode("metadata", "id", raw); !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), "k-7") {
		t.Errorf("got %v; want ErrUnknownKey that names the key", err)
	}
}

// The format is read by other releases: these bytes must never change.
func TestBlob_is_stored_as_it_was(t *testing.T) {
	t.Parallel()
	if got := seal(t, Options{}, "metadata", "id", "x"); !bytes.Equal(got, []byte{1, 0, 'x'}) {
		t.Fatalf("stored as %x", got)
	}
	raw := seal(t, Options{Keys: mustRing(t, "a")}, "metadata", "id", "x")
	if want := []byte{1, flagSealed, 1, 'a'}; !bytes.HasPrefix(raw, want) || len(raw) != len(want)+4+nonceBytes+1+tagBytes {
		t.Fatalf("stored as %x", raw)
	}
}

func TestEnvelope_is_bound_to_its_place(t *testing.T) {
	t.Parallel()
	o := Options{Keys: mustRing(t, "a", "b")}
	raw := seal(t, o, "metadata", "one", "secret")
	for _, other := range [][2]string{
		{"metadata", "two"}, {"session", "one"}, {"metadataone", ""}, {"", "metadataone"}, {"metadat", "aone"}, {"metadata", "on"}, {"metadata", "one\x00"},
	} {
		if got, err := newBlobs(o, nil).decode(other[0], other[1], raw); !errors.Is(err, ErrCorrupt) {
			t.Errorf("as %q: got %q, %v; want ErrCorrupt", other, got, err)
		}
	}
}

func TestEnvelope_finds_out_every_changed_byte(t *testing.T) {
	t.Parallel()
	o := Options{Keys: mustRing(t, "a"), Compression: CompressionZstd}
	raw := seal(t, o, "metadata", "id", strings.Repeat("secret ", 20))
	for at := range raw {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(raw)
			bad[at] ^= bit
			if got, err := newBlobs(o, nil).decode("metadata", "id", bad); err == nil {
				t.Errorf("byte %d: got %q", at, got)
			}
		}
		if got, err := newBlobs(o, nil).decode("metadata", "id", raw[:at]); err == nil {
			t.Errorf("cut at %d: got %q", at, got)
		}
	}
}

func TestEnvelope_tells_a_missing_key_from_a_wrong_one_and_from_damage(t *testing.T) {
	t.Parallel()
	raw := seal(t, Options{Keys: mustRing(t, "new", "old")}, "metadata", "id", "secret")
	for name, test := range map[string]struct {
		ring *KeyRing
		want error
		text string
	}{
		"no ring":     {nil, ErrUnknownKey, `"new"`},
		"missing key": {mustRing(t, "old"), ErrUnknownKey, `"new"`},
		"wrong key":   {ringOf(t, sameID("new")), ErrUnknownKey, "another key"},
	} {
		_, err := newBlobs(Options{Keys: test.ring}, nil).decode("metadata", "id", raw)
		if !errors.Is(err, test.want) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	raw[len(raw)-1] ^= 1
	if _, err := newBlobs(Options{Keys: mustRing(t, "new")}, nil).decode("metadata", "id", raw); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnknownKey) {
		t.Errorf("damaged: got %v", err)
	}
}

func TestEnvelope_writes_the_newest_key_and_reads_all(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "one")
	b := newBlobs(Options{Keys: ring}, nil)
	first, _ := b.encode("metadata", "id", []byte("x"))
	if err := ring.Replace(key("two"), key("one")); err != nil {
		t.Fatal(err)
	}
	second, _ := b.encode("metadata", "id", []byte("x"))
	if !bytes.Contains(first, []byte("one")) || !bytes.Contains(second, []byte("two")) {
		t.Fatalf("stored as %q and %q", first, second)
	}
	for _, raw := range [][]byte{first, second} {
		if got, err := b.decode("metadata", "id", raw); err != nil || string(got) != "x" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if err := ring.Replace(key("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.decode("metadata", "id", first); !errors.Is(err, ErrUnknownKey) {
		t.Fatalf("got %v under a key that was taken away", err)
	}
}

func TestEnvelope_takes_a_fresh_nonce_each_time(t *testing.T) {
	t.Parallel()
	o := Options{Keys: mustRing(t, "a")}
	seen := make(map[string]bool)
	for range 1000 {
		_, _, sealed, _ := cutSeal(seal(t, o, "metadata", "id", "x")[blobHead:])
		if nonce := string(sealed[:nonceBytes]); seen[nonce] {
			t.Fatal("a nonce came twice")
		} else {
			seen[nonce] = true
		}
	}
}

func TestEnvelope_refuses_what_is_not_encrypted_if_told_so(t *testing.T) {
	t.Parallel()
	o := Options{Keys: mustRing(t, "a")}
	plain := seal(t, Options{}, "metadata", "id", "planted")
	if got, err := newBlobs(o, nil).decode("metadata", "id", plain); err != nil || string(got) != "planted" {
		t.Fatalf("got %q, %v", got, err)
	}
	o.RequireEncryption = true
	if got, err := newBlobs(o, nil).decode("metadata", "id", plain); !errors.Is(err, ErrNotEncrypted) {
		t.Fatalf("got %q, %v", got, err)
	}
}

package redisstate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestValue_round_trip(t *testing.T) {
	t.Parallel()
	for _, v := range []value{
		{payload: []byte(`{}`), ttl: time.Millisecond},
		{payload: []byte(`"x"`), ttl: 24 * time.Hour, workflow: "wf"},
		{payload: bytes.Repeat([]byte("1"), 100_000), ttl: time.Duration(math.MaxInt64).Truncate(time.Millisecond), workflow: strings.Repeat("w", 1024)},
	} {
		v.sum = sha256.Sum256(v.payload)
		got, err := decodeHeader(v.encode())
		if err != nil || got.sum != v.sum || got.ttl != v.ttl || got.workflow != v.workflow || !bytes.Equal(got.payload, v.payload) {
			t.Errorf("got %v, %v", got.ttl, err)
		}
		if err := got.verify(); err != nil {
			t.Error(err)
		}
	}
}

// The format is read by other releases: these bytes must never change.
func TestValue_is_stored_as_it_was(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"a":1}`)
	v := value{sum: sha256.Sum256(payload), ttl: 24 * time.Hour, workflow: "wf", payload: payload}
	const want = "0100" + "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862" +
		"80b89929" + "027766" + "7b2261223a317d"
	if got := hex.EncodeToString(v.encode()); got != want {
		t.Fatalf("stored as %s; want %s", got, want)
	}
}

func TestDigest_round_trip(t *testing.T) {
	t.Parallel()
	s := sum(sha256.Sum256([]byte("x")))
	if got, err := parseDigest(s.digest()); err != nil || got != s {
		t.Fatalf("got %x, %v", got, err)
	}
	for _, bad := range []Digest{"", "sha256:", s.digest()[:70], s.digest() + "0", "md5:" + s.digest()[7:], Digest(strings.ToUpper(string(s.digest())))} {
		if _, err := parseDigest(bad); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	payload := []byte(`{"a":1}`)
	good := value{sum: sha256.Sum256(payload), ttl: time.Hour, workflow: "wf", payload: payload}.encode()
	f.Add(good)
	for at := range []int{0, 1, 2, 33, 34, 38, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 0xff
		f.Add(bad)
		f.Add(good[:at])
	}
	f.Add(append(bytes.Clone(good[:headerBytes]), bytes.Repeat([]byte{0xff}, 20)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decodeHeader(raw)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Fatalf("%x: %v", raw, err)
			}
			return
		}
		if v.ttl < 0 || len(v.workflow)+len(v.payload) > len(raw) {
			t.Fatalf("%x: %+v", raw, v)
		}
		if v.verify() != nil {
			return
		}
		if again, err := decodeHeader(v.encode()); err != nil || again.sum != v.sum || again.workflow != v.workflow || again.ttl != v.ttl {
			t.Fatalf("%x: %+v, %v", raw, again, err)
		}
	})
}

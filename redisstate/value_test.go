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
		got, err := opened(v.encode(envelope{}, "a"), envelope{}, "a")
		if err != nil || got.sum != v.sum || got.ttl != v.ttl || got.workflow != v.workflow || !bytes.Equal(got.payload, v.payload) {
			t.Errorf("got %v, %v", got.ttl, err)
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
	if got := hex.EncodeToString(v.encode(envelope{}, "a")); got != want {
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

// opened is all that reading does with stored bytes.
func opened(raw []byte, e envelope, id string) (value, error) {
	v, err := decodeHeader(raw)
	if err == nil {
		err = v.unlock(e, id)
	}
	if err == nil {
		err = v.unpack(e)
	}
	return v, err
}

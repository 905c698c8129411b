package redisstate

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

var compressions = []Compression{CompressionS2, CompressionZstd}

func TestCompression_round_trip(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 5000)
	_, _ = rand.Read(noise)
	for name, plain := range map[string][]byte{
		"nothing":            nil,
		"short":              []byte(`{"a":1}`),
		"noise":              noise,
		"a config":           []byte(`{"agent":{"actions":[{"id":"analyze","prompt":"Analyze it"}],"id":"a"},"id":"x","type":"basic"}`),
		"as long as fits":    bytes.Repeat([]byte("0123456789abcdef"), dictionaryLimit/16),
		"without dictionary": bytes.Repeat([]byte("0123456789abcdef"), dictionaryLimit/16+1),
		"over the bound":     bytes.Repeat([]byte("x"), DefaultMaxConfigBytes+1),
	} {
		for _, c := range compressions {
			body, flags := c.compress(plain, DefaultMaxConfigBytes)
			if len(body) > len(plain) || (flags == 0) != bytes.Equal(body, plain) {
				t.Errorf("%s, %s: %d bytes for %d, flags %x", name, c, len(body), len(plain), flags)
			}
			got, err := expand(flags, body, DefaultMaxConfigBytes)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: got %d bytes for %d, %v", name, c, len(got), len(plain), err)
			}
			if wanted := len(plain) >= 90 && len(plain) <= DefaultMaxConfigBytes && name != "noise"; wanted != (flags != 0) {
				t.Errorf("%s, %s: flags %x", name, c, flags)
			}
			if withDictionary := flags&flagDictionary != 0; flags != 0 && withDictionary != (len(plain) <= dictionaryLimit) {
				t.Errorf("%s, %s: flags %x for %d bytes", name, c, flags, len(plain))
			}
		}
	}
}

// Stored values depend on every byte of the dictionary: it must never change.
func TestDictionary_is_the_one_that_values_were_stored_with(t *testing.T) {
	t.Parallel()
	const want = "533e03177e8ccd461def36c9830b80e1d147b3f17b6bed14810d89520ab88016"
	digest := sha256.Sum256(append(bytes.Clone(dictionary1Tables), dictionary1...))
	if got := hex.EncodeToString(digest[:]); got != want {
		t.Fatalf("the dictionary is %s; want %s: give a new one a new id", got, want)
	}
}

// These were stored by the first release that compresses.
func TestCompression_reads_what_was_stored(t *testing.T) {
	t.Parallel()
	const plain = `{"agent":{"id":"reviewer","instructions":"You are a careful analyst."},"id":"x","timeout":"5m","type":"basic"}`
	for name, stored := range map[string]struct {
		flags byte
		body  string
	}{
		"s2":   {flagS2 | flagDictionary, "016e6e3d511a9b081076696577650efd14620b011a07351a482b04742e15f50e3f1101ab150010007d"},
		"zstd": {flagZstd | flagDictionary, "016e28b52ffd01000115010050766965776572742e787d08fc2ed1605675e2efa50515ea2f97c3d213a9a9ae031b"},
	} {
		body, err := hex.DecodeString(stored.body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := expand(stored.flags, body, 1000); err != nil || string(got) != plain {
			b, f := Compression(name).compress([]byte(plain), 1000)
			t.Errorf("%s: got %q, %v; today it is %x %x", name, got, err, f, b)
		}
	}
}

func TestCompression_of_an_unknown_dictionary_is_a_newer_format(t *testing.T) {
	t.Parallel()
	for _, c := range compressions {
		body, flags := c.compress(bytes.Repeat([]byte("abc"), 100), 1000)
		body[0] = newestDictionary + 1
		if _, err := expand(flags, body, 1000); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "dictionary 2") {
			t.Errorf("%s: got %v", c, err)
		}
	}
}

func TestCompression_tells_what_is_damaged(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("abc"), 100)
	for _, c := range compressions {
		body, flags := c.compress(plain, 1000)
		other := bytes.Clone(body)
		other[1]++ // the size
		for name, bad := range map[string]struct {
			flags byte
			body  []byte
		}{
			"empty":             {flags, nil},
			"no size":           {flags, body[:1]},
			"cut":               {flags, body[:len(body)-1]},
			"longer":            {flags, append(bytes.Clone(body), ' ')},
			"another size":      {flags, other},
			"no dictionary":     {flags, append([]byte{noDictionary}, body[1:]...)},
			"both compressions": {flags | flagS2 | flagZstd, body},
			"only a dictionary": {flagDictionary, body},
			"the other one":     {flags ^ flagS2 ^ flagZstd, body},
		} {
			if _, err := expand(bad.flags, bad.body, 1000); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, %s: got %v", c, name, err)
			}
		}
	}
}

const bombSize = 100 << 20

type bomb struct {
	flags byte
	data  []byte
}

// bombs are 100 MB of zeros, as small as they get, made once: the race detector
// shadows each byte that they are made from.
var bombs = sync.OnceValues(func() (map[string]bomb, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	some := make([]byte, 1<<20)
	write := func() error {
		for range bombSize / len(some) {
			if _, err := encoder.Write(some); err != nil {
				return err
			}
		}
		return encoder.Close()
	}
	var sized, stream bytes.Buffer // the frame of a stream does not say how large it is
	encoder.ResetContentSize(&sized, bombSize)
	if err := write(); err != nil {
		return nil, err
	}
	encoder.Reset(&stream)
	if err := write(); err != nil {
		return nil, err
	}
	return map[string]bomb{
		"s2":          {flagS2, s2.Encode(nil, make([]byte, bombSize))},
		"zstd":        {flagZstd, sized.Bytes()},
		"zstd stream": {flagZstd, stream.Bytes()},
	}, nil
})

// Not parallel: it counts what the process allocates.
func TestCompression_refuses_a_bomb_before_it_takes_memory(t *testing.T) {
	all, err := bombs()
	if err != nil {
		t.Fatal(err)
	}
	for name, bomb := range all {
		for size, want := range map[uint64]error{
			bombSize:                  ErrTooLarge,
			DefaultMaxConfigBytes + 1: ErrTooLarge,
			1 << 63:                   ErrTooLarge,
			DefaultMaxConfigBytes:     ErrCorrupt, // a lie
			10:                        ErrCorrupt,
		} {
			body := append(binary.AppendUvarint(nil, size), bomb.data...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := expand(bomb.flags, body, DefaultMaxConfigBytes)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, want) {
				t.Errorf("%s, said to have %d bytes: got %v; want %v", name, size, err, want)
			}
			if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
				t.Errorf("%s, said to have %d bytes: took %d bytes of memory", name, size, taken)
			}
		}
	}
}

func TestCompression_is_safe_for_concurrent_use(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 50 {
				plain := []byte(strings.Repeat(fmt.Sprintf(`{"id":"%d-%d","type":"basic"}`, g, i), 20))
				c := compressions[i%2]
				body, flags := c.compress(plain, 10_000)
				if got, err := expand(flags, body, 10_000); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s: got %q, %v", c, got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

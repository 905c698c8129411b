package redisstate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// key is a key that is made from its id.
func key(id string) EncryptionKey {
	return EncryptionKey{ID: id, Key: bytes.Repeat([]byte(id + "-0123456789abcdef")[:16], 2)}
}

// sameID is another key under the id of key.
func sameID(id string) EncryptionKey {
	k := key(id)
	k.Key[0] ^= 1
	return k
}

func mustRing(tb testing.TB, ids ...string) *KeyRing {
	tb.Helper()
	keys := make([]EncryptionKey, len(ids))
	for i, id := range ids {
		keys[i] = key(id)
	}
	return ringOf(tb, keys...)
}

func ringOf(tb testing.TB, keys ...EncryptionKey) *KeyRing {
	tb.Helper()
	ring, err := NewKeyRing(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func TestKeyRing_refuses_keys_that_cannot_be_used(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][]EncryptionKey{
		"none":            nil,
		"no id":           {{Key: key("a").Key}},
		"a long id":       {{ID: strings.Repeat("x", 33), Key: key("a").Key}},
		"an id with a :":  {{ID: "a:b", Key: key("a").Key}},
		"an id in UTF-8":  {{ID: "ä", Key: key("a").Key}},
		"a short key":     {{ID: "a", Key: make([]byte, 16)}},
		"a long key":      {{ID: "a", Key: make([]byte, 33)}},
		"the same id":     {key("a"), key("b"), sameID("a")},
		"one good of two": {key("a"), {ID: "b"}},
	} {
		ring, err := NewKeyRing(keys...)
		if !errors.Is(err, ErrInvalidOptions) || ring != nil {
			t.Errorf("%s: got %v, %v", name, ring, err)
		}
	}
}

func TestKeyRing_replaces_all_keys_or_none(t *testing.T) {
	t.Parallel()
	ring := mustRing(t, "a", "b")
	if err := ring.Replace(key("c"), EncryptionKey{ID: "d"}); !errors.Is(err, ErrInvalidOptions) {
		t.Fatalf("got %v", err)
	}
	if got := ring.IDs(); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatalf("a refused Replace left %v", got)
	}
	if err := ring.Replace(key("c"), key("a")); err != nil {
		t.Fatal(err)
	}
	if got := ring.IDs(); !slices.Equal(got, []string{"c", "a"}) {
		t.Fatalf("got %v", got)
	}
}

func TestKeyRing_copies_its_keys(t *testing.T) {
	t.Parallel()
	k := key("a")
	ring := ringOf(t, k)
	raw := envelope{keys: ring}.wrap([]byte{1, 0}, "f", "id", []byte("x"))
	clear(k.Key)
	if _, err := (envelope{keys: mustRing(t, "a")}).unlock(raw[:2], raw[2:], "f", "id"); err != nil {
		t.Fatal(err)
	}
}

// Whatever prints a ring, a key or options that hold them shows ids only.
func TestKeyRing_shows_no_key(t *testing.T) {
	t.Parallel()
	const canary = "C4n4ry-s3cret-of-32-bytes-length"
	k := EncryptionKey{ID: "2026-03", Key: []byte(canary)}
	ring := ringOf(t, k)
	o := Options{Keys: ring}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("x", "ring", ring, "key", k, "options", o)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "ring", ring, "key", k)
	var shown []string
	for _, v := range []any{ring, k, &k, []EncryptionKey{k}, struct{ Ring *KeyRing }{ring}, o, map[string]any{"k": k}, struct{ hidden *KeyRing }{ring}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
		if text, err := json.Marshal(v); err == nil {
			shown = append(shown, string(text))
		}
	}
	shown = append(shown, log.String(), ring.String(), ring.GoString(), k.String(), k.GoString(),
		EncryptionKey{ID: canary + "=", Key: nil}.String())
	forms := []string{
		canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), base64.StdEncoding.EncodeToString([]byte(canary)),
		fmt.Sprintf("%d", k.Key), fmt.Sprintf("%#v", k.Key),
	}
	named := 0
	for _, text := range shown {
		for _, form := range forms {
			if strings.Contains(text, strings.Trim(form, "[]=")) {
				t.Errorf("shows the key: %s", text)
			}
		}
		if strings.Contains(text, "2026-03") {
			named++
		}
	}
	if named < 30 {
		t.Errorf("only %d texts name the key's id; this test looks at too little", named)
	}
}

func encoded(k EncryptionKey) string { return k.ID + ":" + base64.StdEncoding.EncodeToString(k.Key) }

func TestParseEncryptionKeys_reads_lists_and_lines(t *testing.T) {
	t.Parallel()
	a, b := encoded(key("a")), encoded(key("b"))
	for name, text := range map[string]string{
		"list":           a + "," + b,
		"spaces":         " " + a + " , " + b + " ,",
		"lines":          "# newest first, as in the list\n" + a + "\n\n" + b + "\n",
		"Windows' lines": a + "\r\n" + b + "\r\n",
		"no padding":     strings.TrimRight(a, "=") + "," + strings.TrimRight(b, "="),
	} {
		keys, err := ParseEncryptionKeys(text)
		if err != nil || len(keys) != 2 || keys[0].ID != "a" || !bytes.Equal(keys[1].Key, key("b").Key) {
			t.Errorf("%s: got %v, %v", name, keys, err)
		}
	}
}

func TestParseEncryptionKeys_repeats_nothing_of_what_is_malformed(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(key("secret").Key)
	for name, text := range map[string]string{
		"empty":        "",
		"comments":     "# " + secret,
		"no id":        secret,
		"an empty id":  ":" + secret,
		"swapped":      secret + ":a",
		"short":        "a:" + secret[:20],
		"not base64":   "a:" + secret[:30] + "!" + secret[31:],
		"one good one": encoded(key("a")) + ",b:" + secret[:20],
	} {
		keys, err := ParseEncryptionKeys(text)
		if !errors.Is(err, ErrInvalidOptions) || keys != nil {
			t.Errorf("%s: got %v, %v", name, keys, err)
			continue
		}
		if strings.Contains(err.Error(), secret[:10]) {
			t.Errorf("%s: repeats the key: %v", name, err)
		}
	}
}

func TestReadEncryptionKeys_reads_a_file(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(encoded(key("a"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, err := ReadEncryptionKeys(file); err != nil || len(keys) != 1 || keys[0].ID != "a" {
		t.Fatalf("got %v, %v", keys, err)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("#\n"), 40_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, file + "-missing"} {
		if _, err := ReadEncryptionKeys(bad); !errors.Is(err, ErrInvalidOptions) {
			t.Errorf("got %v", err)
		}
	}
}

func TestOptionsFromEnv_reads_compression_and_keys(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(encoded(key("f"))), 0o600); err != nil {
		t.Fatal(err)
	}
	from := func(base Options, vars ...string) (Options, error) {
		return OptionsFromEnv(base, func(name string) (string, bool) {
			at := slices.Index(vars, name)
			if at < 0 {
				return "", false
			}
			return vars[at+1], true
		})
	}
	o, err := from(Options{}, "REDIS_COMPRESSION", "zstd", "REDIS_ENCRYPTION_KEYS", encoded(key("b"))+","+encoded(key("a")), "REDIS_REQUIRE_ENCRYPTION", "true")
	if err != nil || o.Compression != CompressionZstd || !slices.Equal(o.Keys.IDs(), []string{"b", "a"}) || !o.RequireEncryption {
		t.Fatalf("got %v, %v", o, err)
	}
	if o, err = from(Options{}, "REDIS_ENCRYPTION_KEYS_FILE", file, "REDIS_REQUIRE_ENCRYPTION", "false"); err != nil || !slices.Equal(o.Keys.IDs(), []string{"f"}) || o.RequireEncryption {
		t.Fatalf("got %v, %v", o, err)
	}
	inCode := Options{Keys: mustRing(t, "code"), Compression: CompressionNone, RequireEncryption: true}
	if o, err = from(inCode, "REDIS_COMPRESSION", "s2", "REDIS_ENCRYPTION_KEYS", "bad", "REDIS_REQUIRE_ENCRYPTION", "bad"); err != nil || o.Compression != CompressionNone || o.Keys != inCode.Keys {
		t.Fatalf("code does not win: %v, %v", o, err)
	}
	for _, bad := range [][]string{
		{"REDIS_ENCRYPTION_KEYS", "bad"},
		{"REDIS_ENCRYPTION_KEYS", encoded(key("a")) + "," + encoded(key("a"))},
		{"REDIS_ENCRYPTION_KEYS_FILE", file + "-missing"},
		{"REDIS_ENCRYPTION_KEYS", encoded(key("a")), "REDIS_ENCRYPTION_KEYS_FILE", file},
		{"REDIS_REQUIRE_ENCRYPTION", "yes"},
	} {
		if o, err := from(Options{}, bad...); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), bad[0]) || o.Keys != nil {
			t.Errorf("%s: got %v, %v", bad[0], o, err)
		}
	}
}

func TestOptions_refuse_compression_and_keys_that_cannot_work(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"Compression":       {Compression: "gzip"},
		"Keys":              {Keys: new(KeyRing)},
		"RequireEncryption": {RequireEncryption: true},
	} {
		o.URL = "redis://localhost"
		if err := o.Validate(); !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

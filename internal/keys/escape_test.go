package keys

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEscape_writes_what_is_not_unreserved_in_hex(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"":                     "",
		"plain-ID_0.9~":        "plain-ID_0.9~",
		"a:b@c":                "a%3Ab%40c",
		"{}*?[]":               "%7B%7D%2A%3F%5B%5D",
		"%":                    "%25",
		"%3A":                  "%253A",
		"a b\n\x00":            "a%20b%0A%00",
		"é":                    "%C3%A9",
		"\xff":                 "%FF",
		"/\\\"'":               "%2F%5C%22%27",
		strings.Repeat(":", 3): "%3A%3A%3A",
	} {
		if got := Escape(id); got != want {
			t.Errorf("%q became %s; want %s", id, got, want)
		}
	}
}

func TestUnescape_refuses_what_Escape_does_not_make(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a:b", "%", "%4", "%zz", "%3a", "%41", "%7E", "a%", "é", " ", "a@b", "%%", "x%2", "%25%"} {
		if got, ok := Unescape(s); ok {
			t.Errorf("%q was taken for %q", s, got)
		}
	}
}

func TestEscape_is_undone_by_Unescape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := string(rapid.SliceOf(rapid.Byte()).Draw(t, "id"))
		if got, ok := Unescape(Escape(id)); !ok || got != id {
			t.Fatalf("%q came back as %q, %v", id, got, ok)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"", "a", "%3A", "%3a", "%41", "%", "a%2", "%C3%A9", "%00", "a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := Unescape(s); ok && Escape(id) != s {
			t.Fatalf("%q was taken for %q, which is written %q", s, id, Escape(id))
		}
		escaped := Escape(s)
		if i := strings.IndexFunc(escaped, func(r rune) bool { return r > 127 || (r != '%' && !unreserved(byte(r))) }); i >= 0 {
			t.Fatalf("%q became %q", s, escaped)
		}
		if got, ok := Unescape(escaped); !ok || got != s {
			t.Fatalf("%q came back as %q, %v", s, got, ok)
		}
	})
}

func FuzzEscape(f *testing.F) {
	for _, pair := range [][2]string{{"", "a"}, {"a:b", "a%3Ab"}, {"{", "}"}, {"a", "A"}, {"\x00", "\n"}, {"é", "\xc3"}, {"%", "%25"}, {" ", "+"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		one, other := Escape(a), Escape(b)
		if (one == other) != (a == b) {
			t.Fatalf("%q and %q are written %q and %q", a, b, one, other)
		}
		if i := strings.IndexFunc(one, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("{}:@*?[]/\\\"'", r) }); i >= 0 {
			t.Fatalf("%q is written %q", a, one)
		}
		if got, ok := Unescape(one); !ok || got != a {
			t.Fatalf("%q came back as %q, %v", a, got, ok)
		}
		if len(one) > 3*len(a) {
			t.Fatalf("%q grew to %d bytes", a, len(one))
		}
	})
}

func TestCheck_says_what_is_wrong_and_little_of_the_id(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "{}:*?[]\n", "ключ", strings.Repeat("x", MaxIDBytes)} {
		if err := Check("config id", id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for id, says := range map[string]string{
		"":                                   "empty",
		strings.Repeat("x", MaxIDBytes+1):    "1025 bytes",
		strings.Repeat("é", 600):             "1200 bytes",
		strings.Repeat("line\n", 2000):       "10000 bytes",
		"\xff" + strings.Repeat("secret", 9): "UTF-8",
	} {
		err := Check("config id", id)
		if !errors.Is(err, ErrInvalidID) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "config id") {
			t.Errorf("%.20q: got %v; want %s", id, err, says)
			continue
		}
		if strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
			t.Errorf("%.20q: not one short line: %q", id, err)
		}
	}
}

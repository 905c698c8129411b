package excerpt

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOf_is_the_longest_start_that_fits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abc", 2, "ab"},
		{"abc", 0, ""},
		{"aü", 3, "aü"},
		{"aü", 2, "a"},
		{"ü", 1, ""},
		{"€€", 5, "€"},
		{"a\xffb", 5, "a\uFFFDb"},
		{"a\xffb", 4, "a\uFFFD"},
		{"a\xffb", 3, "a"},
		{"\x80\x80\x80", 2, ""}, // one U+FFFD, which has three bytes
		{"two\nlines", 9, "two\nlines"},
	} {
		got := Of(test.text, test.limit)
		if got != test.want || len(got) > test.limit || !utf8.ValidString(got) {
			t.Errorf("Of(%q, %d) = %q; want %q", test.text, test.limit, got, test.want)
		}
	}
}

func TestLine_is_one_line(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "",
		" \n\t ":                         "",
		" first\n\n second\tthird ":      "first second third",
		strings.Repeat("x", 30):          strings.Repeat("x", 20),
		"a\n" + strings.Repeat("ü", 30):  "a " + strings.Repeat("ü", 9),
		"\xff \u2028 b":                  "\uFFFD b",
		strings.Repeat("\u0085x", 15):    "x x x x x x x x x x ",
		strings.Repeat(" ", 100) + "end": "end",
	} {
		if got := Line(text, 20); got != want {
			t.Errorf("Line(%q) = %q; want %q", text, got, want)
		}
	}
}

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestPlainJSON(t *testing.T) {
	t.Parallel()
	const hostile = "\u009b2J \x1b[2J \x7f \u0085 but é, \u00a0 and 日本 stay"
	var b strings.Builder
	if err := json.NewEncoder(plainJSON{&b}).Encode(hostile); err != nil {
		t.Fatal(err)
	}
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if r < 0x20 || (r >= 0x7f && r <= 0x9f) {
			t.Errorf("%q has the control character %U", b.String(), r)
		}
	}
	var back string
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back != hostile {
		t.Errorf("%q, %v; want %q", back, err, hostile)
	}
	if !strings.Contains(b.String(), "é") {
		t.Errorf("%q", b.String())
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"default/order-17": "default/order-17",
		"日本":               "日本",
		"\x1b[2J":          `"\x1b[2J"`,
		"a\x9b2J":          `"a\x9b2J"`,
		"a\u009b2J":        `"a\u009b2J"`,
	} {
		if got := quoted(name); got != want {
			t.Errorf("%q gives %s; want %s", name, got, want)
		}
	}
}

package main

import (
	"io"
	"unicode/utf8"
)

// plainJSON writes JSON whose strings say nothing to a terminal: of the control characters
// encoding/json leaves those as they are that are not in ASCII's first 32.
type plainJSON struct{ to io.Writer }

// Write implements io.Writer; p is whole values, as json.Encoder gives them.
func (j plainJSON) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p))
	for rest := p; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r >= 0x7f && r <= 0x9f {
			const digits = "0123456789abcdef"
			out = append(out, '\\', 'u', '0', '0', digits[r>>4], digits[r&0xf])
		} else {
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	if _, err := j.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

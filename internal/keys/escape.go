package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxIDBytes is the longest id accepted, in bytes before escaping. Temporal's
// own limit for a workflow id is 1000 bytes by default.
const MaxIDBytes = 1024

// ErrInvalidID is wrapped by every error that Check returns.
var ErrInvalidID = errors.New("invalid id")

// Check tells whether id can become part of a key name. Field names the id in
// the error, for example "config id". The error says what is wrong and what
// would be right, without repeating more than the start of the id.
func Check(field, id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: %s is empty; give it a non-empty value", ErrInvalidID, field)
	case len(id) > MaxIDBytes:
		return fmt.Errorf("%w: %s is %d bytes long; use at most %d (it starts with %q)",
			ErrInvalidID, field, len(id), MaxIDBytes, start(id))
	case !utf8.ValidString(id):
		return fmt.Errorf("%w: %s is not valid UTF-8 (it starts with %q)", ErrInvalidID, field, start(id))
	}
	return nil
}

func start(id string) string {
	const shown = 32
	if len(id) <= shown {
		return id
	}
	return strings.ToValidUTF8(id[:shown], "") + "..."
}

const upperHex = "0123456789ABCDEF"

// Escape percent-encodes every byte of id outside RFC 3986's unreserved set, so
// that ':', '@', '{', '}', glob characters, spaces and control characters
// cannot appear in the result. Unescape is its inverse.
func Escape(id string) string {
	n := 0
	for i := range len(id) {
		if !unreserved(id[i]) {
			n++
		}
	}
	if n == 0 {
		return id
	}
	var b strings.Builder
	b.Grow(len(id) + 2*n)
	for i := range len(id) {
		c := id[i]
		if unreserved(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&0x0f])
	}
	return b.String()
}

// Unescape undoes Escape. It reports false for anything Escape cannot have
// made, so that a foreign key is never taken for one of ours.
func Unescape(s string) (string, bool) {
	if !strings.ContainsRune(s, '%') {
		return s, allUnreserved(s)
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' {
			if !unreserved(c) {
				return "", false
			}
			b = append(b, c)
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		decoded := byte(hi<<4 | lo)
		if unreserved(decoded) {
			return "", false // Escape would have left it as it is
		}
		b = append(b, decoded)
		i += 2
	}
	return string(b), true
}

func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
}

func allUnreserved(s string) bool {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}

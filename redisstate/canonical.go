package redisstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is the deepest nesting that encoding/json reads back.
const maxDepth = 10_000

// canonical returns the one text that all equal JSON documents share: members
// sorted by the bytes of their name, no white space, and in strings only what
// must be escaped. Numbers stay as they are written, since no number type holds
// all of them. A member that appears twice is refused: readers disagree about
// what it means.
//
// The input must be valid JSON; checked says that the caller knows it is.
func canonical(text []byte, checked bool) ([]byte, error) {
	return new(canonicalizer).append(nil, text, checked)
}

// append gives lead and behind it the canonical form of text, which is not
// longer than text, in a buffer of its own.
func (c *canonicalizer) append(lead, text []byte, checked bool) ([]byte, error) {
	if !checked && !json.Valid(text) {
		return nil, errors.New("it is not valid JSON")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("it is not valid UTF-8")
	}
	c.in, c.pos = text, 0
	c.out = append(make([]byte, 0, len(lead)+len(text)), lead...)
	err := c.value(0)
	out := c.out
	c.in, c.out = nil, nil
	if err != nil {
		return nil, err
	}
	return out, nil
}

// canonicalizer copies valid JSON from in to out. It may be used again.
type canonicalizer struct {
	in      []byte
	pos     int
	out     []byte
	written []byte // room for sort
}

func (c *canonicalizer) space() {
	for c.pos < len(c.in) {
		switch c.in[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return
		}
	}
}

func (c *canonicalizer) value(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	c.space()
	switch c.in[c.pos] {
	case '{':
		return c.object(depth)
	case '[':
		return c.array(depth)
	case '"':
		c.string()
	default:
		c.literal()
	}
	return nil
}

// literal copies a number, true, false or null.
func (c *canonicalizer) literal() {
	start := c.pos
	for c.pos < len(c.in) {
		switch c.in[c.pos] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			c.out = append(c.out, c.in[start:c.pos]...)
			return
		}
		c.pos++
	}
	c.out = append(c.out, c.in[start:]...)
}

func (c *canonicalizer) array(depth int) error {
	c.out = append(c.out, '[')
	c.pos++
	for c.space(); c.in[c.pos] != ']'; c.space() {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if c.space(); c.in[c.pos] == ',' {
			c.out = append(c.out, ',')
			c.pos++
		}
	}
	c.pos++
	c.out = append(c.out, ']')
	return nil
}

// member is where a member of an object was written in out.
type member struct{ start, name, end int } // "name":value is out[start:end], the name's text ends at name

func (c *canonicalizer) object(depth int) error {
	c.out = append(c.out, '{')
	c.pos++
	first := len(c.out)
	sorted := true
	var few [16]member // most objects need no allocation
	members := few[:0]
	for c.space(); c.in[c.pos] != '}'; c.space() {
		m := member{start: len(c.out)}
		c.string()
		m.name = len(c.out)
		c.space()
		c.pos++ // the colon
		c.out = append(c.out, ':')
		if err := c.value(depth + 1); err != nil {
			return err
		}
		m.end = len(c.out)
		if n := len(members); n > 0 && sorted {
			sorted = c.compare(members[n-1], m) < 0
		}
		members = append(members, m)
		if c.space(); c.in[c.pos] == ',' {
			c.pos++
			c.out = append(c.out, ',')
		}
	}
	c.pos++
	if !sorted {
		if err := c.sort(first, members); err != nil {
			return err
		}
	}
	c.out = append(c.out, '}')
	return nil
}

// compare orders members by the bytes of their decoded names.
func (c *canonicalizer) compare(a, b member) int {
	x, y := c.out[a.start+1:a.name-1], c.out[b.start+1:b.name-1]
	if bytes.IndexByte(x, '\\') < 0 && bytes.IndexByte(y, '\\') < 0 {
		return bytes.Compare(x, y)
	}
	return bytes.Compare(unescaped(x), unescaped(y))
}

// unescaped decodes a canonical string. A lone surrogate, which has no UTF-8,
// keeps a form that no other string has.
func unescaped(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			out = append(out, '\b')
		case 't':
			out = append(out, '\t')
		case 'n':
			out = append(out, '\n')
		case 'f':
			out = append(out, '\f')
		case 'r':
			out = append(out, '\r')
		case 'u':
			unit := hexUnit(s[i+1:])
			i += 4
			if unit < utf8.RuneSelf {
				out = append(out, byte(unit))
			} else { // lone surrogate: its bytes as in WTF-8
				out = append(out, 0xE0|byte(unit>>12), 0x80|byte(unit>>6)&0xBF, 0x80|byte(unit)&0x3F)
			}
		default: // '"' and '\\'
			out = append(out, s[i])
		}
	}
	return out
}

// sort puts the members, which fill out[first:] with commas between them, in
// order.
func (c *canonicalizer) sort(first int, members []member) error {
	c.written = append(c.written[:0], c.out[first:]...)
	slices.SortFunc(members, c.compare)
	for i := 1; i < len(members); i++ {
		if c.compare(members[i-1], members[i]) == 0 {
			return errors.New("it has an object with the same member twice")
		}
	}
	c.out = c.out[:first]
	for i, m := range members {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, c.written[m.start-first:m.end-first]...)
	}
	return nil
}

// string copies a string, with its escapes in the one canonical form.
func (c *canonicalizer) string() {
	start := c.pos
	c.pos++
	for {
		end := c.pos + bytes.IndexByte(c.in[c.pos:], '"')
		slash := bytes.IndexByte(c.in[c.pos:end], '\\')
		if slash < 0 {
			c.pos = end + 1
			c.out = append(c.out, c.in[start:c.pos]...)
			return
		}
		c.pos += slash
		c.out = append(c.out, c.in[start:c.pos]...)
		c.escape()
		start = c.pos
	}
}

// escape reads one escape and writes its canonical form.
func (c *canonicalizer) escape() {
	r := rune(c.in[c.pos+1])
	c.pos += 2
	switch r {
	case 'b':
		r = '\b'
	case 't':
		r = '\t'
	case 'n':
		r = '\n'
	case 'f':
		r = '\f'
	case 'r':
		r = '\r'
	case 'u':
		r = hexUnit(c.in[c.pos:])
		c.pos += 4
		if utf16.IsSurrogate(r) {
			if next := c.in[c.pos:]; len(next) >= 6 && next[0] == '\\' && next[1] == 'u' {
				if pair := utf16.DecodeRune(r, hexUnit(next[2:])); pair != utf8.RuneError {
					c.pos += 6
					r = pair
				}
			}
		}
	}
	c.out = appendRune(c.out, r)
}

// appendRune writes r as canonical strings do.
func appendRune(out []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(out, '\\', byte(r))
	case r == '\b':
		return append(out, '\\', 'b')
	case r == '\t':
		return append(out, '\\', 't')
	case r == '\n':
		return append(out, '\\', 'n')
	case r == '\f':
		return append(out, '\\', 'f')
	case r == '\r':
		return append(out, '\\', 'r')
	case r < ' ', utf16.IsSurrogate(r):
		const hex = "0123456789abcdef"
		return append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return utf8.AppendRune(out, r)
}

// hexUnit reads the four hex digits of a \u escape.
func hexUnit(s []byte) rune {
	n, err := strconv.ParseUint(string(s[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError // not in valid JSON
	}
	return rune(n)
}

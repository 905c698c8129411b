package redisstate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// A stored value is
//
//	version  1 byte, formatVersion
//	flags    1 byte; a bit that a reader does not know makes the value unreadable to it
//	digest   32 bytes, SHA-256 of the canonical JSON
//	ttl      uvarint, milliseconds
//	workflow uvarint length and bytes; may be empty
//	payload  the rest, canonical JSON
//
// A later release that compresses or encrypts sets a flag and says how from
// there on; one that changes the layout raises the version. Version, flags and
// digest keep their places in all of them, so that a writer can put aside what
// it cannot read. A reader names what it cannot read instead of guessing.
const (
	formatVersion = 1
	lastVersion   = 31 // versions stay below what texts start with
	knownFlags    = 0
	headerBytes   = 2 + sha256.Size
)

// sum is a digest in binary.
type sum [sha256.Size]byte

func (s sum) digest() Digest {
	var text [len(DigestPrefix) + 2*sha256.Size]byte
	copy(text[:], DigestPrefix)
	hex.Encode(text[len(DigestPrefix):], s[:])
	return Digest(text[:])
}

// parseDigest reads the text form.
func parseDigest(d Digest) (sum, error) {
	var s sum
	text, ok := bytes.CutPrefix([]byte(d), []byte(DigestPrefix))
	if ok && len(text) == 2*len(s) && bytes.IndexFunc(text, func(r rune) bool { return 'A' <= r && r <= 'F' }) < 0 {
		if _, err := hex.Decode(s[:], text); err == nil {
			return s, nil
		}
	}
	return sum{}, fmt.Errorf("%w: the digest is not %s and 64 lower-case hex digits; use the one in the Ref", ErrInvalidKey, DigestPrefix)
}

// value is a stored value taken apart. Its payload points into what was read.
type value struct {
	sum      sum
	ttl      time.Duration
	workflow string
	payload  []byte
}

// encode builds the stored bytes of v.
func (v value) encode() []byte {
	out := make([]byte, 0, headerBytes+2*binary.MaxVarintLen64+len(v.workflow)+len(v.payload))
	out = append(out, formatVersion, 0)
	out = append(out, v.sum[:]...)
	out = binary.AppendUvarint(out, uint64(v.ttl.Milliseconds()))
	out = binary.AppendUvarint(out, uint64(len(v.workflow)))
	out = append(out, v.workflow...)
	return append(out, v.payload...)
}

// decodeHeader takes stored bytes apart without verifying the payload. Errors
// wrap ErrCorrupt or ErrNewerFormat.
func decodeHeader(raw []byte) (value, error) {
	if len(raw) == 0 {
		return value{}, fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	switch version := raw[0]; {
	case version == 0 || version > lastVersion:
		return value{}, fmt.Errorf("%w: it does not start as a value of this module does", ErrCorrupt)
	case version > formatVersion:
		return value{}, fmt.Errorf("%w (version %d, known up to %d)", ErrNewerFormat, version, formatVersion)
	}
	if len(raw) < headerBytes {
		return value{}, fmt.Errorf("%w: it is cut short", ErrCorrupt)
	}
	if unknown := raw[1] &^ knownFlags; unknown != 0 {
		return value{}, fmt.Errorf("%w (flags %#02x)", ErrNewerFormat, unknown)
	}
	v := value{sum: sum(raw[2:headerBytes])}
	rest := raw[headerBytes:]
	ms, n := binary.Uvarint(rest)
	if n <= 0 || ms > uint64(math.MaxInt64/int64(time.Millisecond)) {
		return value{}, fmt.Errorf("%w: its time to live is unreadable", ErrCorrupt)
	}
	v.ttl = time.Duration(ms) * time.Millisecond
	rest = rest[n:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return value{}, fmt.Errorf("%w: its workflow is unreadable", ErrCorrupt)
	}
	v.workflow = string(rest[n : n+int(length)])
	v.payload = rest[n+int(length):]
	return v, nil
}

// verify checks that the payload is what the digest says.
func (v value) verify() error {
	if sha256.Sum256(v.payload) != v.sum {
		return fmt.Errorf("%w: its content does not have the digest that was stored with it", ErrCorrupt)
	}
	return nil
}

package redisstate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/internal/keys"
)

// A stored value is
//
//	version  1 byte, formatVersion
//	flags    1 byte; a bit that a reader does not know makes the value unreadable to it
//	digest   32 bytes, SHA-256 of the canonical JSON
//	ttl      uvarint, milliseconds
//	workflow uvarint length and bytes; may be empty
//	body     the rest: canonical JSON, compressed and encrypted as the flags say
//
// Everything before the body is in clear, so that what is encrypted can be
// listed, aged and put aside by who has no key. How a body is compressed is said
// in compress.go, how it is encrypted in envelope.go; a body that is both was
// compressed first.
//
// A later release that changes the body takes another flag and says how from
// there on; one that changes the layout raises the version. Version, flags and
// digest keep their places in all of them, so that a writer can put aside what
// it cannot read. A reader names what it cannot read instead of guessing.
const (
	formatVersion = 1
	lastVersion   = 31 // versions stay below what texts start with
	versionAt     = 0
	flagsAt       = 1
	digestAt      = 2
	headerBytes   = digestAt + sha256.Size
)

// Flags. The highest bit stays free: tests of other releases take it for one
// that nobody knows.
const (
	flagS2         = 1 << 0 // the body is an s2 block
	flagZstd       = 1 << 1 // the body is a zstd frame
	flagDictionary = 1 << 2 // it was compressed with the dictionary that it names
	flagSealed     = 1 << 3 // it is encrypted

	knownFlags = flagS2 | flagZstd | flagDictionary | flagSealed
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
	var (
		s    sum
		text [2 * len(s)]byte // a conversion would be allocated
	)
	digits, ok := strings.CutPrefix(string(d), DigestPrefix)
	if ok && len(digits) == len(text) && !strings.ContainsAny(digits, "ABCDEF") {
		copy(text[:], digits)
		if _, err := hex.Decode(s[:], text[:]); err == nil {
			return s, nil
		}
	}
	return sum{}, fmt.Errorf("%w: the digest is not %s and 64 lower-case hex digits; use the one in the Ref", ErrInvalidKey, DigestPrefix)
}

// value is a stored value taken apart.
type value struct {
	sum      sum
	ttl      time.Duration
	workflow string
	payload  []byte // canonical JSON; of what was read only after unpack

	head, body []byte // of what was read, and point into it; unlock decrypts body
}

// encode builds the stored bytes of v under an id.
func (v value) encode(e envelope, id string) []byte {
	head := make([]byte, 0, headerBytes+2*binary.MaxVarintLen64+len(v.workflow)+maxSealBytes+len(v.payload))
	return e.wrap(v.appendHead(head), family, id, v.payload)
}

// appendHead appends all that stands before the body, with no flags.
func (v value) appendHead(head []byte) []byte {
	head = append(head, formatVersion, 0)
	head = append(head, v.sum[:]...)
	head = binary.AppendUvarint(head, uint64(v.ttl.Milliseconds()))
	head = binary.AppendUvarint(head, uint64(len(v.workflow)))
	return append(head, v.workflow...)
}

// checkFormat tells whether raw, which has at least size bytes before its body,
// is in a format that a reader of the known flags can read. Errors wrap
// ErrCorrupt or ErrNewerFormat.
func checkFormat(raw []byte, size int, known byte) error {
	if len(raw) == 0 {
		return fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	switch version := raw[versionAt]; {
	case version == 0 || version > lastVersion:
		return fmt.Errorf("%w: it does not start as a value of this module does", ErrCorrupt)
	case version > formatVersion:
		return fmt.Errorf("%w (version %d, known up to %d)", ErrNewerFormat, version, formatVersion)
	}
	if len(raw) < size {
		return fmt.Errorf("%w: it is cut short", ErrCorrupt)
	}
	if unknown := raw[flagsAt] &^ known; unknown != 0 {
		return fmt.Errorf("%w (flags %#02x)", ErrNewerFormat, unknown)
	}
	return nil
}

// decodeHeader takes stored bytes apart and leaves the body as it is; so it can
// also be given a value's first bytes only. Errors wrap ErrCorrupt or
// ErrNewerFormat.
func decodeHeader(raw []byte) (value, error) {
	if err := checkFormat(raw, headerBytes, knownFlags); err != nil {
		return value{}, err
	}
	v := value{sum: sum(raw[digestAt:headerBytes])}
	rest := raw[headerBytes:]
	ms, n := binary.Uvarint(rest)
	if n <= 0 || ms == 0 || ms > uint64(math.MaxInt64/int64(time.Millisecond)) {
		return value{}, fmt.Errorf("%w: its time to live is unreadable", ErrCorrupt)
	}
	v.ttl = time.Duration(ms) * time.Millisecond
	rest = rest[n:]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return value{}, fmt.Errorf("%w: its workflow is unreadable", ErrCorrupt)
	}
	v.workflow = string(rest[n : n+int(length)])
	v.body = rest[n+int(length):]
	v.head = raw[:len(raw)-len(v.body)]
	return v, nil
}

// longerWorkflow tells of the first bytes of a value that its workflow's id is longer
// than n bytes, also if they end within it.
func longerWorkflow(raw []byte, n int) bool {
	if checkFormat(raw, headerBytes, knownFlags) != nil {
		return false
	}
	rest := raw[headerBytes:]
	if _, used := binary.Uvarint(rest); used > 0 {
		length, used := binary.Uvarint(rest[used:])
		return used > 0 && length > uint64(n) && length <= keys.MaxIDBytes
	}
	return false
}

// unlock takes the encryption off, which also proves that the header is what a
// holder of the key wrote under this id. Errors wrap ErrUnknownKey, ErrCorrupt
// or ErrNotEncrypted.
func (v *value) unlock(e envelope, id string) error {
	body, err := e.unlock(v.head, v.body, family, id)
	if err != nil {
		return err
	}
	v.body = body
	return nil
}

// unpack decompresses what unlock gave and checks that it is what the digest
// says. Errors wrap ErrCorrupt, ErrNewerFormat or ErrTooLarge.
func (v *value) unpack(e envelope) error {
	payload, err := expand(v.head[flagsAt], v.body, e.bound())
	if err != nil {
		return err
	}
	if sha256.Sum256(payload) != v.sum {
		return fmt.Errorf("%w: its content does not have the digest that was stored with it", ErrCorrupt)
	}
	v.payload = payload
	return nil
}

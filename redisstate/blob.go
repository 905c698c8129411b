package redisstate

import "fmt"

// blobs turns bytes that have no digest (metadata, values of a session) into
// what is stored for them, and back. A stored blob is
//
//	version  1 byte, formatVersion
//	flags    1 byte; a bit that a reader does not know makes the blob unreadable to it
//	payload  the rest
//
// The zero value is ready. It is safe for concurrent use.
type blobs struct{}

// encode gives what is stored for plain under a key family and an id.
func (blobs) encode(_, _ string, plain []byte) ([]byte, error) {
	return append([]byte{formatVersion, 0}, plain...), nil
}

// decode is the inverse of encode. Errors wrap ErrCorrupt or ErrNewerFormat.
func (blobs) decode(_, _ string, raw []byte) ([]byte, error) {
	switch {
	case len(raw) < 2 || raw[0] == 0 || raw[0] > lastVersion:
		return nil, fmt.Errorf("%w: it does not start as a value of this module does", ErrCorrupt)
	case raw[0] > formatVersion:
		return nil, fmt.Errorf("%w (version %d, known up to %d)", ErrNewerFormat, raw[0], formatVersion)
	case raw[1]&^knownFlags != 0:
		return nil, fmt.Errorf("%w (flags %#02x)", ErrNewerFormat, raw[1])
	}
	return raw[2:], nil
}

package redisstate

import "github.com/prometheus/client_golang/prometheus"

// blobs turns bytes that have no digest (metadata, values of a session) into
// what is stored for them, and back. A stored blob is
//
//	version  1 byte, formatVersion
//	flags    1 byte, as those of a config; see value.go
//	body     the rest
//
// The zero value is ready: it neither compresses nor encrypts. It is safe for
// concurrent use.
type blobs struct {
	envelope envelope
}

func newBlobs(o Options, uses *prometheus.CounterVec) blobs { return blobs{newEnvelope(o, uses)} }

const blobHead = 2

// encode gives what is stored for plain under a key family and an id. An
// encrypted blob can be read under the same two only.
func (b blobs) encode(family, id string, plain []byte) ([]byte, error) {
	head := make([]byte, blobHead, blobHead+maxSealBytes+len(plain))
	head[versionAt] = formatVersion
	return b.envelope.wrap(head, family, id, plain), nil
}

// decode is the inverse of encode; what it gives may point into raw. Errors wrap
// ErrCorrupt, ErrNewerFormat, ErrUnknownKey, ErrNotEncrypted or ErrTooLarge.
func (b blobs) decode(family, id string, raw []byte) ([]byte, error) {
	if err := checkFormat(raw, blobHead, knownFlags); err != nil {
		return nil, err
	}
	head, body := raw[:blobHead], raw[blobHead:]
	inner, err := b.envelope.unlock(head, body, family, id)
	if err != nil {
		return nil, err
	}
	return expand(head[flagsAt], inner, b.envelope.bound())
}

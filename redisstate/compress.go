package redisstate

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Compression is how new values are compressed. Reading needs no setting: a
// stored value says how it was compressed.
type Compression string

// The compressions. What does not get smaller is stored as it is.
const (
	// CompressionNone stores values as they are.
	CompressionNone Compression = "none"
	// CompressionS2 costs the least time.
	CompressionS2 Compression = "s2"
	// CompressionZstd takes the least memory in Redis.
	CompressionZstd Compression = "zstd"
)

func (c Compression) valid() bool {
	switch c {
	case "", CompressionNone, CompressionS2, CompressionZstd:
		return true
	}
	return false
}

// A compressed body is
//
//	dictionary  1 byte, its id; only with flagDictionary
//	size        uvarint, bytes of the plain text
//	data        the rest: an s2 block or a zstd frame
const minCompressed = 32 // less is not worth the time

// compress gives the body for plain and the flags that say what it is.
func (c Compression) compress(plain []byte, limit int) (body []byte, flags byte) {
	if (c != CompressionS2 && c != CompressionZstd) || len(plain) < minCompressed || len(plain) > limit {
		return plain, 0
	}
	body = make([]byte, 0, 1+binary.MaxVarintLen64+s2.MaxEncodedLen(len(plain)))
	id := byte(noDictionary)
	if len(plain) <= dictionaryLimit {
		id = newestDictionary
		flags = flagDictionary
		body = append(body, id)
	}
	body = binary.AppendUvarint(body, uint64(len(plain)))
	with := compressors[id]
	if c == CompressionS2 {
		flags |= flagS2
		// The encoder uses the room behind what is there.
		body = append(body, encodeS2(with.s2(), body[len(body):cap(body)], plain)...)
	} else {
		flags |= flagZstd
		body = with.zstd.encode(body, plain)
	}
	if len(body) >= len(plain) {
		return plain, 0
	}
	return body, flags
}

func encodeS2(d *s2.Dict, room, plain []byte) []byte {
	if d == nil {
		return s2.EncodeBetter(room, plain)
	}
	return d.EncodeBetter(room, plain)
}

// expand is the inverse of compress. It allocates nothing before it knows that
// the plain text has at most limit bytes. Errors wrap ErrCorrupt, ErrNewerFormat
// or ErrTooLarge.
func expand(flags byte, body []byte, limit int) ([]byte, error) {
	id := byte(noDictionary)
	switch flags & (flagS2 | flagZstd | flagDictionary) {
	case 0:
		return body, nil
	case flagS2, flagZstd:
	case flagS2 | flagDictionary, flagZstd | flagDictionary:
		if len(body) == 0 {
			return nil, fmt.Errorf("%w: it is cut short", ErrCorrupt)
		}
		id, body = body[0], body[1:]
		if id == noDictionary {
			return nil, fmt.Errorf("%w: its dictionary is unreadable", ErrCorrupt)
		}
	default:
		return nil, fmt.Errorf("%w: its flags contradict each other", ErrCorrupt)
	}
	with, known := compressors[id]
	if !known {
		return nil, fmt.Errorf("%w (dictionary %d, known up to %d)", ErrNewerFormat, id, newestDictionary)
	}
	size, n := binary.Uvarint(body)
	if n <= 0 {
		return nil, fmt.Errorf("%w: its size is unreadable", ErrCorrupt)
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("%w: it would have %d bytes once decompressed; if it is no attack, raise Options.MaxConfigBytes (%d is the bound here)",
			ErrTooLarge, size, limit)
	}
	plain, err := with.decode(flags, body[n:], int(size))
	if err != nil || uint64(len(plain)) != size {
		return nil, fmt.Errorf("%w: it cannot be decompressed", ErrCorrupt)
	}
	return plain, nil
}

// decode decompresses data into at most size bytes.
func (c *compressor) decode(flags byte, data []byte, size int) ([]byte, error) {
	if flags&flagZstd != 0 {
		return c.zstd.decode(data, size)
	}
	if n, err := s2.DecodedLen(data); err != nil || n != size {
		return nil, s2.ErrCorrupt
	}
	plain := make([]byte, size)
	if d := c.s2(); d != nil {
		return d.Decode(plain, data)
	}
	return s2.Decode(plain, data)
}

// zstdCompressor holds what zstd needs for one dictionary. Nothing in it has a
// goroutine: encoders and decoders work on the caller's.
type zstdCompressor struct {
	encoder  func() *zstd.Encoder
	decoders sync.Pool // of *zstd.Decoder
}

// maxEncoders bounds the zstd encoders, with tables of about half a megabyte
// each, that a process keeps per dictionary; more callers wait for one another.
const maxEncoders = 8

func newZstdCompressor(dictionary []byte) *zstdCompressor {
	encoderOptions := []zstd.EOption{
		zstd.WithEncoderConcurrency(min(runtime.GOMAXPROCS(0), maxEncoders)),
		// The slower levels copy megabytes of tables for each small value, and gain
		// one or two percent with a dictionary.
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), // the digest, or the authentication, covers it
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(128 << 10),
	}
	decoderOptions := []zstd.DOption{
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true),
	}
	if len(dictionary) > 0 {
		encoderOptions = append(encoderOptions, zstd.WithEncoderDict(dictionary))
		decoderOptions = append(decoderOptions, zstd.WithDecoderDicts(dictionary))
	}
	return &zstdCompressor{
		encoder: sync.OnceValue(func() *zstd.Encoder {
			encoder, err := zstd.NewWriter(nil, encoderOptions...)
			if err != nil {
				panic("redisstate: options of the zstd encoder: " + err.Error())
			}
			return encoder
		}),
		decoders: sync.Pool{New: func() any {
			decoder, err := zstd.NewReader(nil, decoderOptions...)
			if err != nil {
				panic("redisstate: options of the zstd decoder: " + err.Error())
			}
			return decoder
		}},
	}
}

func (z *zstdCompressor) encode(dst, plain []byte) []byte { return z.encoder().EncodeAll(plain, dst) }

func (z *zstdCompressor) decode(data []byte, size int) ([]byte, error) {
	decoder, _ := z.decoders.Get().(*zstd.Decoder)
	defer z.decoders.Put(decoder)
	return decoder.DecodeAll(data, make([]byte, 0, size))
}

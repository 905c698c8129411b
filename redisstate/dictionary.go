package redisstate

import (
	_ "embed" // of the dictionaries
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
)

// dictionary1 is text like that of the configs of Temporal hosts: the words that
// prompts are made of, names of members, fragments of schemas and templates.
// What comes last is cheapest to refer to. dictionary1Tables is what zstd puts
// before a dictionary's text: statistics of what is left of configs once the
// text has taken its part, made by zstd.BuildDict from prose and random tokens
// in configs.
//
// Stored values depend on every byte of both, so they never change: a better
// dictionary gets another id, and readers have it one release before writers use
// it.
var (
	//go:embed dictionary1.txt
	dictionary1 []byte
	//go:embed dictionary1.tables
	dictionary1Tables []byte
)

// A stored value names its dictionary by one byte.
const (
	noDictionary     = 0 // not stored
	newestDictionary = 1
)

// dictionaryLimit is the most bytes that are compressed with a dictionary;
// larger values teach the compressor all it needs by themselves.
const dictionaryLimit = 64 << 10

// compressor compresses with one dictionary, or with none, in every format. It
// is made when it is first needed and is for the whole process: its tables are
// far larger than what goes through them.
type compressor struct {
	s2   func() *s2.Dict // gives nil without a dictionary
	zstd *zstdCompressor
}

var compressors = map[byte]*compressor{
	noDictionary:     newCompressor(nil, nil),
	newestDictionary: newCompressor(dictionary1Tables, dictionary1),
}

func newCompressor(tables, text []byte) *compressor {
	return &compressor{
		s2: sync.OnceValue(func() *s2.Dict {
			if text == nil {
				return nil
			}
			return s2.MakeDict(text, []byte(`{"agent":{"actions":[{"id":"`))
		}),
		zstd: newZstdCompressor(slices.Concat(tables, text)),
	}
}

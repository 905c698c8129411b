package redisstate

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
)

// neighbours are two digests that meet in a slot.
func neighbours() (a, b sum) {
	seen := make(map[int]sum)
	for i := 0; ; i++ {
		s := sum(sha256.Sum256(fmt.Append(nil, i)))
		at := (int(s[1])<<8 | int(s[0])) % contentSlots
		if other, taken := seen[at]; taken {
			return other, s
		}
		seen[at] = s
	}
}

func TestContents_tell_digests_of_one_slot_apart(t *testing.T) {
	t.Parallel()
	var table contents
	s1, s2 := neighbours()
	if table.at(s1) != table.at(s2) {
		t.Fatal("they are in different slots")
	}
	first, second := newContent(s1, nil, stdCodec{}), newContent(s2, nil, stdCodec{})
	table.share(s1, first)
	if got := table.share(s2, second); got != second || table.get(s1) != nil || table.get(s2) != second {
		t.Fatal("the other digest's content is taken for it")
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

func TestContents_give_those_who_share_at_once_the_same(t *testing.T) {
	t.Parallel()
	var table contents
	s := sum(sha256.Sum256(nil))
	first, second := newContent(s, nil, stdCodec{}), newContent(s, nil, stdCodec{})
	seen := table.at(s).Load() // by both
	table.share(s, first)
	if got := second.replace(table.at(s), seen, s); got != first || table.get(s) != first {
		t.Fatal("two contents are in use for one digest")
	}
	runtime.KeepAlive(first)
}

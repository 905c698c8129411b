// Package embeddedtime has keys of an in-process Redis (miniredis) expire as time passes.
//
// Not for: anything that has to show what Redis does.
package embeddedtime

import (
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Step is how far the clock of an embedded Redis goes at a time. A key ends up to
// that much before or after its time: less than leases allow for clocks that drift
// (2 % of a TTL of at least 1 s, and 10 ms).
const Step = 5 * time.Millisecond

// Pass has time pass for a server that was started and is not in use yet. It
// takes the place of miniredis' pre-hook, and so of SetError and SetTime.
//
// miniredis itself looks at all keys, in order, before each command and each one in
// a transaction. Here it does so when the clock went on, which it does between the
// commands of clients that said HELLO or AUTH, as go-redis does. The commands of a
// script have no client that did: they run under the server's lock, where the clock
// cannot be set.
//
// miniredis reads its clock without a lock in SET and GETEX with EXAT or PXAT: the race
// detector may see that.
func Pass(s *miniredis.Miniredis) {
	var clients sync.Map // of *server.Peer
	var setting sync.Mutex
	now := time.Now().UTC() // guarded by setting
	s.SetTime(now)
	s.ClockTTL(true)
	s.Server().SetPreHook(func(peer *server.Peer, command string, _ ...string) bool {
		if command == "HELLO" || command == "AUTH" {
			if _, known := clients.LoadOrStore(peer, true); !known {
				peer.OnDisconnect(func() { clients.Delete(peer) })
			}
			return false
		}
		if _, known := clients.Load(peer); !known {
			return false
		}
		setting.Lock()
		defer setting.Unlock()
		if later := time.Now().UTC(); later.Sub(now) >= Step || command == "TIME" {
			now = later
			s.SetTime(now)
		}
		return false
	})
}

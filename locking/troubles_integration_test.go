//go:build integration

package locking_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// trouble is a fault of one master that comes and goes.
type trouble struct {
	make func(c *contest, random *rand.Rand, master int)
	// met tells whether it came in anyone's way; nil where it cannot but do so.
	met func(c *contest) bool
	// after is for how long after its end a process may still wait for an answer of the
	// master that never comes, and asks it nothing else meanwhile.
	after time.Duration
}

// longestCall is how long the package waits for an answer at most.
const longestCall = 3 * time.Second

// have has a master in trouble, and notes it.
func (c *contest) have(fault trouble, random *rand.Rand, master int) {
	from := locking.SharedClock()
	fault.make(c, random, master)
	c.add(locking.Deed{By: master, Kind: "trouble", Call: from, Return: locking.SharedClock() + int64(fault.after)})
}

// some waits up to a bound, as a fault lasts.
func some(random *rand.Rand, atMost time.Duration) {
	<-time.After(atMost/4 + time.Duration(random.Int64N(int64(atMost*3/4))))
}

var troubles = map[string]trouble{
	"killed": {
		make: func(c *contest, random *rand.Rand, master int) {
			c.servers[master].Kill()
			some(random, briefly/2)
			c.servers[master].MustRestart(c.t)
		},
		met: counted(func(n faultproxy.Counts) int { return n.Refused }),
	},
	"stopped": {make: func(c *contest, random *rand.Rand, master int) {
		if err := c.servers[master].Pause(); err != nil {
			c.t.Error(err)
		}
		some(random, 2*briefly)
		if err := c.servers[master].Resume(); err != nil {
			c.t.Error(err)
		}
	}},
	"behind a black hole": {
		after: longestCall,
		make: func(c *contest, random *rand.Rand, master int) {
			ways := []faultproxy.Direction{faultproxy.Both, faultproxy.ToClient, faultproxy.ToServer}
			c.proxies[master].BlackHole(ways[random.IntN(len(ways))])
			some(random, 2*briefly)
			if err := c.proxies[master].Heal(); err != nil {
				c.t.Error(err)
			}
		},
		met: counted(func(n faultproxy.Counts) int { return n.Swallowed }),
	},
	"replies lost": {
		make: func(c *contest, random *rand.Rand, master int) {
			for range 20 {
				c.proxies[master].LoseReplies()
				some(random, 40*time.Millisecond)
			}
		},
		met: counted(func(n faultproxy.Counts) int { return n.RepliesLost }),
	},
	"slow": {make: func(c *contest, random *rand.Rand, master int) {
		c.proxies[master].Delay(time.Duration(random.Int64N(int64(briefly / 4))))
		some(random, briefly)
		if err := c.proxies[master].Heal(); err != nil {
			c.t.Error(err)
		}
	}},
	"taking no writes": {
		make: func(c *contest, random *rand.Rand, master int) {
			way := writeless[random.IntN(len(writeless))]
			c.control(master, way.begin...)
			some(random, 2*briefly)
			c.control(master, way.end...)
		},
		met: func(c *contest) bool {
			for _, control := range c.controls {
				refusals, err := control.Info(context.Background(), "errorstats").Result()
				if err != nil {
					c.t.Error(err)
				}
				for _, way := range writeless {
					if strings.Contains(refusals, "errorstat_"+way.refusal+":") {
						return true
					}
				}
			}
			return false
		},
	},
}

// writeless are ways in which a master answers, and takes no writes.
var writeless = []struct {
	refusal    string
	begin, end []any
}{
	{"OOM", []any{"config", "set", "maxmemory", "1"}, []any{"config", "set", "maxmemory", "0"}},
	{"READONLY", []any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}},
	{"NOREPLICAS", []any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}},
}

func (c *contest) control(master int, command ...any) {
	if err := c.controls[master].Do(context.Background(), command...).Err(); err != nil {
		c.t.Error(err)
	}
}

// counted tells whether a proxy counted any.
func counted(what func(faultproxy.Counts) int) func(c *contest) bool {
	return func(c *contest) bool {
		for _, proxy := range c.proxies {
			if what(proxy.Counts()) > 0 {
				return true
			}
		}
		return false
	}
}

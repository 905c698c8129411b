package locking

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// timeAge is how long an answer is carried on by our own clock.
	timeAge = 10 * time.Second
	// timeAsks is how often the server is asked for one answer, unless it
	// answers within timeGood: the quicker the answer, the better it is known
	// when it was given.
	timeAsks = 3
	timeGood = 500 * time.Microsecond
)

// serverTime follows the clock of a Redis server, so that the seeds of all
// processes come from one clock whatever theirs say. Each knows it at least, which
// is what it counts from, and at most.
type serverTime struct {
	mu   sync.Mutex
	last answer
}

// answer is what the server said.
type answer struct {
	value time.Time
	at    instant       // when it came; zero: never
	took  time.Duration // from asking to at: the clock is ahead of value by that at most
}

// age is how old an answer is, at least and at most. It is not usable if it never
// came, or if our clocks do not agree about that: what is carried on by one that was
// set may be far from the server's.
func (a answer) age(now clock) (least, most time.Duration, usable bool) {
	if a.at.mono.IsZero() {
		return 0, 0, false
	}
	at := now()
	least, most = at.between(a.at)
	return least, most, at.agrees(a.at)
}

// micros is the server's clock in microseconds since 1970, at least.
func (s *serverTime) micros(ctx context.Context, client redis.UniversalClient, now clock) (int64, error) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	age, most, usable := last.age(now)
	if !usable || most > timeAge {
		var err error
		if last, err = askTime(ctx, client, now); err != nil {
			return 0, err
		}
		age, _ = now().between(last.at)
		s.mu.Lock()
		s.last = last
		s.mu.Unlock()
	}
	micros := last.value.Add(age).UnixMicro()
	if micros < 1 || micros > maxFence/2 { // maxFence/2 is in the year 2112
		return 0, errClockRange
	}
	return micros, nil
}

// carried is what the server's clock says by the last answer, at least and at
// most; 0 if there was none that could be right.
func (s *serverTime) carried(now clock) (least, most int64) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	young, old, usable := last.age(now)
	least, most = last.value.Add(young).UnixMicro(), last.value.Add(old+last.took).UnixMicro()+1
	if !usable || most > maxFence/2 {
		return 0, 0
	}
	return least, most
}

// approximate is what the server's clock says, or ours if it was not asked yet.
func (s *serverTime) approximate(now clock) int64 {
	if least, _ := s.carried(now); least > 0 {
		return least
	}
	return now().wall.UnixMicro()
}

func askTime(ctx context.Context, client redis.UniversalClient, now clock) (answer, error) {
	var best answer
	var quickest time.Duration
	for ask := range timeAsks {
		sent := now()
		value, err := client.Time(ctx).Result()
		if err != nil {
			return answer{}, err
		}
		came := now()
		if took := came.since(sent); ask == 0 || took < quickest {
			best, quickest = answer{value, came, took}, took
		}
		if quickest < timeGood {
			break
		}
	}
	return best, nil
}

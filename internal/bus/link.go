package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// silentAfter is how many probe intervals without any message mean that a
// connection is dead.
const silentAfter = 3

var (
	// errSilent says that a connection was given up.
	errSilent = errors.New("nothing received, not even our own probe")
	// errMoved says that a channel has another owner now.
	errMoved = errors.New("the slot of a channel was moved to another node")
)

// link is one connection.
type link struct {
	session *session
	pubsub  *redis.PubSub
	probe   string // channel of its own bell
	pings   bool   // PING stands in for the probe
	probing atomic.Bool

	mu      sync.Mutex
	leaving map[string]int // channels that we left, until Redis says so
}

// fail ends the connection.
func (l *link) fail(err error) {
	if err == nil {
		return
	}
	select {
	case l.session.broken <- brokenLink{l, err}:
	case <-l.session.ctx.Done():
	}
}

// ring rings our own channel on the path that publishers use.
func (l *link) ring() error {
	return l.session.command(func(ctx context.Context) error {
		if sharded := l.session.bus.options.Sharded; sharded != nil {
			return sharded.SPublish(ctx, l.probe, "").Err()
		}
		return l.session.bus.client.Publish(ctx, l.probe, "").Err()
	})
}

// look makes something come in. That Redis is away is no news here: then nothing comes
// in, and receive notices.
func (l *link) look() {
	defer l.probing.Store(false)
	if l.pings {
		l.fail(l.session.command(func(ctx context.Context) error { return l.pubsub.Ping(ctx) }))
	} else if refused := l.ring(); rediserr.Classify(l.session.ctx, refused) == rediserr.Denied {
		l.fail(refused) // begin anew, with pings
	}
}

// leave notes that we leave channels, so that what Redis says of it is no news.
func (l *link) leave(names []string) {
	if l.session.bus.options.Sharded == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		l.leaving[name]++
	}
}

// left tells whether we left a channel of which Redis says that it is left.
func (l *link) left(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving[name] == 0 {
		return false
	}
	if l.leaving[name]--; l.leaving[name] == 0 {
		delete(l.leaving, name)
	}
	return true
}

// receive hands out what comes in, until the connection breaks.
func (l *link) receive() error {
	s := l.session
	silence := silentAfter * s.bus.options.ProbeEvery
	// The context of a receive only governs the client's own attempt to connect
	// again after an error. That is our business: an ended context forgoes it.
	ended, end := context.WithCancel(context.Background())
	end()
	for {
		message, err := l.pubsub.ReceiveTimeout(ended, silence)
		if err != nil {
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() {
				err = fmt.Errorf("%w for %v: %w", errSilent, silence, err)
			}
			return err
		}
		switch m := message.(type) {
		case *redis.Subscription:
			switch m.Kind {
			case "subscribe", "ssubscribe":
				s.listened.Store(true)
				s.bus.confirm(m.Channel)
			case "psubscribe":
				s.listened.Store(true)
				s.bus.confirm(patternMark + m.Channel)
			case "sunsubscribe":
				if !l.left(m.Channel) && s.bus.wants(m.Channel) {
					return errMoved
				}
			}
		case *redis.Message:
			if m.Pattern != "" {
				s.bus.dispatch(patternMark+m.Pattern, m.Channel, m.Payload)
			} else {
				s.bus.dispatch(m.Channel, m.Channel, m.Payload)
			}
		}
	}
}

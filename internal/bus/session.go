package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// silentAfter is how many probe intervals without any message mean that the
// connection is dead.
const silentAfter = 3

// errSilent says that the connection was given up.
var errSilent = errors.New("nothing received, not even our own probe")

// session holds one connection until it breaks, nobody listens any more (nil
// error), or the bus closes. listened says that a channel was confirmed on it.
func (b *Bus) session() (listened bool, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	s := &session{bus: b, ctx: ctx, pubsub: b.client.Subscribe(ctx), have: make(map[string]bool)}
	broken := make(chan error, 1)
	received := make(chan struct{})
	defer func() {
		cancel()
		_ = s.pubsub.Close() // ends the receiver; what it says of a broken connection is of no interest
		<-received
		b.reset()
		listened = s.listened
	}()
	if err := s.start(); err != nil {
		close(received)
		return false, err
	}
	go func() {
		defer close(received)
		broken <- s.receive()
	}()
	return false, s.keep(broken)
}

// session is one connection.
type session struct {
	bus      *Bus
	ctx      context.Context
	pubsub   *redis.PubSub
	pings    bool            // PING stands in for the probe
	have     map[string]bool // channels asked for; belongs to keep
	listened bool            // belongs to receive until it has returned
}

// start opens the connection. If we may not use the probe's channel, a PING has
// to do: it finds a dead connection, not a server that publishers have left.
func (s *session) start() error {
	switch err := s.ring(); rediserr.Classify(s.ctx, err) {
	case rediserr.OK:
		return s.command(func(ctx context.Context) error { return s.pubsub.Subscribe(ctx, s.bus.options.Probe) })
	case rediserr.Denied, rediserr.Permanent:
		s.pings = true
		return s.command(func(ctx context.Context) error { return s.pubsub.Ping(ctx) })
	default:
		return err
	}
}

// ring rings our own channel on the path that publishers use.
func (s *session) ring() error {
	return s.command(func(ctx context.Context) error {
		return s.bus.client.Publish(ctx, s.bus.options.Probe, "").Err()
	})
}

// keep asks for channels as they come and go, and probes.
func (s *session) keep(broken <-chan error) error {
	probe := time.NewTicker(s.bus.options.ProbeEvery)
	defer probe.Stop()
	var probing chan error
	for {
		idle, err := s.reconcile()
		if err != nil || idle {
			return err
		}
		select {
		case err := <-broken:
			return err
		case <-s.bus.changed:
		case <-probe.C:
			if probing == nil {
				probing = make(chan error, 1)
				result := probing
				s.bus.running.Go(func() { s.probe(result) })
			}
		case err := <-probing:
			probing = nil
			if err != nil {
				return err
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// probe makes something come in. That Redis is away is no news here: then
// nothing comes in, and receive notices.
func (s *session) probe(result chan<- error) {
	var err error
	if s.pings {
		err = s.command(func(ctx context.Context) error { return s.pubsub.Ping(ctx) })
	} else if refused := s.ring(); rediserr.Classify(s.ctx, refused) == rediserr.Denied {
		err = refused // begin anew, with pings
	}
	result <- err
}

// command bounds one command.
func (s *session) command(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.bus.options.Timeout)
	defer cancel()
	return do(ctx)
}

// maxChannels bounds one SUBSCRIBE.
const maxChannels = 512

// reconcile brings the connection's channels to what is wanted. It reports
// whether nothing is.
func (s *session) reconcile() (idle bool, err error) {
	wanted, unwanted := s.difference()
	for len(unwanted) > 0 {
		n := together(unwanted)
		if err := s.command(func(ctx context.Context) error { return s.unsubscribe(ctx, unwanted[:n]) }); err != nil {
			return false, err
		}
		for _, name := range unwanted[:n] {
			delete(s.have, name)
		}
		unwanted = unwanted[n:]
	}
	for len(wanted) > 0 {
		n := together(wanted)
		if err := s.command(func(ctx context.Context) error { return s.subscribe(ctx, wanted[:n]) }); err != nil {
			return false, err
		}
		for _, name := range wanted[:n] {
			s.have[name] = true
		}
		wanted = wanted[n:]
	}
	return len(s.have) == 0, nil
}

// together is how many of the names go in one command: patterns or channels, not both.
func together(names []string) int {
	n := 1
	for n < min(len(names), maxChannels) && strings.HasPrefix(names[n], patternMark) == strings.HasPrefix(names[0], patternMark) {
		n++
	}
	return n
}

func (s *session) subscribe(ctx context.Context, names []string) error {
	if patterns, ok := patternsOf(names); ok {
		return s.pubsub.PSubscribe(ctx, patterns...)
	}
	return s.pubsub.Subscribe(ctx, names...)
}

func (s *session) unsubscribe(ctx context.Context, names []string) error {
	if patterns, ok := patternsOf(names); ok {
		return s.pubsub.PUnsubscribe(ctx, patterns...)
	}
	return s.pubsub.Unsubscribe(ctx, names...)
}

func patternsOf(names []string) (patterns []string, ok bool) {
	for _, name := range names {
		pattern, ok := strings.CutPrefix(name, patternMark)
		if !ok {
			return nil, false
		}
		patterns = append(patterns, pattern)
	}
	return patterns, true
}

// difference tells the channels to ask for, in the order of their names, and those
// to leave.
func (s *session) difference() (wanted, unwanted []string) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for name := range s.bus.channels {
		if !s.have[name] {
			wanted = append(wanted, name)
		}
	}
	for name := range s.have {
		if s.bus.channels[name] == nil {
			unwanted = append(unwanted, name)
			delete(s.bus.confirmed, name) // who listens from now on waits for the next confirmation
		}
	}
	slices.Sort(wanted)
	slices.Sort(unwanted)
	return wanted, unwanted
}

// receive hands out what comes in, until the connection breaks.
func (s *session) receive() error {
	silence := silentAfter * s.bus.options.ProbeEvery
	// The context of a receive only governs the client's own attempt to connect
	// again after an error. That is our business: an ended context forgoes it.
	ended, end := context.WithCancel(context.Background())
	end()
	for {
		message, err := s.pubsub.ReceiveTimeout(ended, silence)
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
			case "subscribe":
				s.listened = true
				s.bus.confirm(m.Channel)
			case "psubscribe":
				s.listened = true
				s.bus.confirm(patternMark + m.Channel)
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

// confirm tells a channel's listeners that it is subscribed.
func (b *Bus) confirm(name string) {
	b.listening()
	if name == b.options.Probe {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.confirmed[name] = true
	for r := range b.channels[name] {
		r.confirm()
	}
}

// dispatch hands a message to the listeners of a name, which is the channel or a
// pattern that it matches.
func (b *Bus) dispatch(name, channel, payload string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.channels[name] {
		if r.listener.From != nil {
			r.listener.From(channel, payload)
		} else {
			r.listener.Message(payload)
		}
	}
}

// reset notes that the connection is gone: nothing is subscribed.
func (b *Bus) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.confirmed = make(map[string]bool)
}

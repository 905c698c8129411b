package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// session holds connections until one breaks, nobody listens any more (nil error), or
// the bus closes. listened says that a channel was confirmed.
func (b *Bus) session() (listened bool, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	s := &session{bus: b, ctx: ctx, links: make(map[string]*link), have: make(map[string]*link), broken: make(chan error, 1)}
	defer func() {
		cancel()
		for _, l := range s.links {
			_ = l.pubsub.Close() // ends its receiver; what it says of a broken connection is of no interest
		}
		s.receivers.Wait()
		b.reset()
		listened = s.listened.Load()
	}()
	if b.options.Sharded != nil {
		b.options.Sharded.ReloadState(ctx)
	} else if _, err := s.open("", b.options.Probe, b.client.Subscribe(ctx)); err != nil {
		return false, err
	}
	return false, s.keep()
}

// session is one connection, or one to each owner of a channel's slot if the channels
// are sharded.
type session struct {
	bus       *Bus
	ctx       context.Context //nolint:containedctx // the session's own life
	receivers sync.WaitGroup
	broken    chan error
	listened  atomic.Bool

	// Only keep's goroutine uses these.
	links map[string]*link // by the owner's address; "" if they are not sharded
	have  map[string]*link // by the channels that were asked for
}

// link is one connection.
type link struct {
	session *session
	pubsub  *redis.PubSub
	probe   string // channel of its own bell
	pings   bool   // PING stands in for the probe
	probing atomic.Bool
}

// open begins to receive on a connection. If we may not use the probe's channel, a PING
// has to do: it finds a dead connection, not a server that publishers have left.
func (s *session) open(owner, probe string, pubsub *redis.PubSub) (*link, error) {
	l := &link{session: s, pubsub: pubsub, probe: probe}
	s.links[owner] = l
	var err error
	switch err = l.ring(); rediserr.Classify(s.ctx, err) {
	case rediserr.OK:
		err = s.command(func(ctx context.Context) error { return s.bus.subscribe(ctx, pubsub, []string{probe}) })
	case rediserr.Denied, rediserr.Permanent:
		l.pings = true
		err = s.command(func(ctx context.Context) error { return pubsub.Ping(ctx) })
	}
	if err != nil {
		return nil, err
	}
	s.receivers.Go(func() { s.fail(l.receive()) })
	return l, nil
}

// fail ends the session.
func (s *session) fail(err error) {
	if err == nil {
		return
	}
	select {
	case s.broken <- err:
	default:
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

// keep asks for channels as they come and go, and probes.
func (s *session) keep() error {
	probe := time.NewTicker(s.bus.options.ProbeEvery)
	defer probe.Stop()
	for {
		idle, err := s.reconcile()
		if err != nil || idle {
			return err
		}
		select {
		case err := <-s.broken:
			return err
		case <-s.bus.changed:
		case <-probe.C:
			for _, l := range s.links {
				if l.probing.CompareAndSwap(false, true) {
					s.bus.running.Go(l.look)
				}
			}
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// look makes something come in. That Redis is away is no news here: then nothing comes
// in, and receive notices.
func (l *link) look() {
	defer l.probing.Store(false)
	if l.pings {
		l.session.fail(l.session.command(func(ctx context.Context) error { return l.pubsub.Ping(ctx) }))
	} else if refused := l.ring(); rediserr.Classify(l.session.ctx, refused) == rediserr.Denied {
		l.session.fail(refused) // begin anew, with pings
	}
}

// command bounds one command.
func (s *session) command(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.bus.options.Timeout)
	defer cancel()
	return do(ctx)
}

// maxChannels bounds one SUBSCRIBE.
const maxChannels = 512

// reconcile brings the channels that are subscribed to what is wanted. It reports
// whether nothing is.
func (s *session) reconcile() (idle bool, err error) {
	wanted, unwanted := s.difference()
	for len(unwanted) > 0 {
		n := s.together(unwanted)
		l := s.have[unwanted[0]]
		if err := s.command(func(ctx context.Context) error { return s.bus.unsubscribe(ctx, l.pubsub, unwanted[:n]) }); err != nil {
			return false, err
		}
		for _, name := range unwanted[:n] {
			delete(s.have, name)
		}
		unwanted = unwanted[n:]
	}
	for len(wanted) > 0 {
		n := s.together(wanted)
		l, err := s.linkFor(wanted[0])
		if err != nil {
			return false, err
		}
		if err := s.command(func(ctx context.Context) error { return s.bus.subscribe(ctx, l.pubsub, wanted[:n]) }); err != nil {
			return false, err
		}
		for _, name := range wanted[:n] {
			s.have[name] = l
		}
		wanted = wanted[n:]
	}
	return len(s.have) == 0, nil
}

// linkFor is the connection for a channel.
func (s *session) linkFor(name string) (*link, error) {
	sharded := s.bus.options.Sharded
	if sharded == nil {
		return s.links[""], nil
	}
	owner, err := sharded.MasterForKey(s.ctx, name)
	if err != nil {
		return nil, err
	}
	addr := owner.Options().Addr
	if l := s.links[addr]; l != nil {
		return l, nil
	}
	// The probe shares the slot of the channel, and so its owner.
	return s.open(addr, s.bus.options.Probe+"{"+tagOf(name)+"}", owner.SSubscribe(s.ctx))
}

// tagOf is the part of a name that decides on its slot.
func tagOf(name string) string {
	if _, rest, ok := strings.Cut(name, "{"); ok {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			return tag
		}
	}
	return name
}

// together is how many of the names go in one command: patterns or channels, not both;
// one if they are sharded, since all of a command have to share a slot.
func (s *session) together(names []string) int {
	if s.bus.options.Sharded != nil {
		return 1
	}
	n := 1
	for n < min(len(names), maxChannels) && strings.HasPrefix(names[n], patternMark) == strings.HasPrefix(names[0], patternMark) {
		n++
	}
	return n
}

func (b *Bus) subscribe(ctx context.Context, pubsub *redis.PubSub, names []string) error {
	patterns, ok := patternsOf(names)
	switch {
	case ok:
		return pubsub.PSubscribe(ctx, patterns...)
	case b.options.Sharded != nil:
		return pubsub.SSubscribe(ctx, names...)
	}
	return pubsub.Subscribe(ctx, names...)
}

func (b *Bus) unsubscribe(ctx context.Context, pubsub *redis.PubSub, names []string) error {
	patterns, ok := patternsOf(names)
	switch {
	case ok:
		return pubsub.PUnsubscribe(ctx, patterns...)
	case b.options.Sharded != nil:
		return pubsub.SUnsubscribe(ctx, names...)
	}
	return pubsub.Unsubscribe(ctx, names...)
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
		if s.have[name] == nil {
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
				if s.bus.wants(m.Channel) {
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

// wants tells whether somebody listens to a channel.
func (b *Bus) wants(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channels[name] != nil
}

// confirm tells a channel's listeners that it is subscribed.
func (b *Bus) confirm(name string) {
	b.listening()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channels[name] == nil { // a probe's
		return
	}
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

package bus

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// session holds connections until one breaks, nobody listens any more (nil error), or
// the bus closes. listened says that a channel was confirmed. attempts is how many before
// this one failed in a row.
func (b *Bus) session(attempts int) (listened bool, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	s := &session{
		bus: b, ctx: ctx, broken: make(chan brokenLink, 16), opened: make(chan openedLink),
		links: make(map[string]*link), opening: make(map[string]bool), have: make(map[string]*link), away: make(map[string]time.Time),
	}
	defer func() {
		cancel()
		for _, l := range s.links {
			_ = l.pubsub.Close() // ends its receiver; what it says of a broken connection is of no interest
		}
		s.receivers.Wait()
		b.reset()
		listened = s.listened.Load()
	}()
	probe := b.options.Probe
	if cluster, ok := b.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
		// Each node has all channels that are not sharded. We get the owner of the first
		// channel's slot; should that be away, the next attempt is at another.
		probe += "{" + strconv.Itoa(attempts) + "}"
	}
	if b.options.Sharded == nil {
		l, err := s.open(probe, b.client.Subscribe(ctx))
		if err != nil {
			return false, err
		}
		s.adopt("", l)
	}
	return false, s.keep()
}

// session is one connection, or one to each owner of a channel's slot if the channels
// are sharded.
type session struct {
	bus       *Bus
	ctx       context.Context //nolint:containedctx // the session's own life
	receivers sync.WaitGroup  // and who opens a connection
	broken    chan brokenLink
	opened    chan openedLink
	listened  atomic.Bool

	// Only keep's goroutine uses these.
	links   map[string]*link     // by the owner's address; "" if they are not sharded
	opening map[string]bool      // owners to which there will be one, or an error
	have    map[string]*link     // by the channels that were asked for
	away    map[string]time.Time // owners that are left alone until then
	lack    bool                 // a channel could not be asked for
}

// brokenLink is a connection that ended.
type brokenLink struct {
	link *link
	err  error
}

// openedLink is what came of opening a connection to an owner.
type openedLink struct {
	owner string
	link  *link
	err   error
}

// open makes a connection. If we may not use the probe's channel, a PING has to do: it
// finds a dead connection, not a server that publishers have left.
func (s *session) open(probe string, pubsub *redis.PubSub) (*link, error) {
	l := &link{session: s, pubsub: pubsub, probe: probe, leaving: make(map[string]int)}
	var err error
	switch err = l.ring(); rediserr.Classify(s.ctx, err) {
	case rediserr.OK:
		err = s.command(func(ctx context.Context) error { return s.bus.subscribe(ctx, pubsub, []string{probe}) })
	case rediserr.Denied, rediserr.Permanent:
		l.pings = true
		err = s.command(func(ctx context.Context) error { return pubsub.Ping(ctx) })
	}
	if err != nil {
		_ = pubsub.Close() // what it says of a connection that is not used is of no interest
		return nil, err
	}
	return l, nil
}

// openOwner makes a connection to an owner of slots, for keep. One that hangs keeps
// nobody from the others.
func (s *session) openOwner(owner, probe string, pubsub *redis.PubSub) {
	l, err := s.open(probe, pubsub)
	select {
	case s.opened <- openedLink{owner, l, err}:
	case <-s.ctx.Done():
		if l != nil {
			_ = pubsub.Close()
		}
	}
}

// adopt begins to receive on a connection.
func (s *session) adopt(owner string, l *link) {
	s.links[owner] = l
	s.receivers.Go(func() { l.fail(l.receive()) })
}

// ownerRest is how long the owner of a slot is left alone that cannot be listened to.
const ownerRest = time.Second

// drop gives up the connection to one owner; the others stay.
func (s *session) drop(owner string, err error) {
	l := s.links[owner]
	delete(s.links, owner)
	s.away[owner] = time.Now().Add(ownerRest)
	if l != nil {
		_ = l.pubsub.Close()
		for name, at := range s.have {
			if at == l {
				delete(s.have, name)
				s.bus.unconfirm(name)
			}
		}
	}
	if s.lacking() { // else it is no news to anybody that this owner is away
		s.bus.fail(err)
	}
	s.bus.options.Sharded.ReloadState(s.ctx)
}

// lacking tells whether somebody listens to a channel for which there is no connection.
func (s *session) lacking() bool {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for name := range s.bus.channels {
		if s.have[name] == nil {
			return true
		}
	}
	return false
}

// ownerOf is the owner to which a connection leads.
func (s *session) ownerOf(l *link) (owner string, ok bool) {
	for owner, at := range s.links {
		if at == l {
			return owner, true
		}
	}
	return "", false
}

// keep asks for channels as they come and go, and probes.
func (s *session) keep() error {
	probe := time.NewTicker(s.bus.options.ProbeEvery)
	defer probe.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		idle, err := s.reconcile()
		if err != nil || (idle && len(s.opening) == 0) { // who listens next would wait for what opens
			return err
		}
		if again.Stop(); s.lack {
			again.Reset(ownerRest)
		}
		select {
		case <-again.C:
		case broken := <-s.broken:
			if s.bus.options.Sharded == nil {
				return broken.err
			}
			if owner, ok := s.ownerOf(broken.link); ok {
				s.drop(owner, broken.err)
			}
		case o := <-s.opened:
			if delete(s.opening, o.owner); o.err != nil {
				s.drop(o.owner, o.err)
			} else {
				s.adopt(o.owner, o.link)
			}
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
	s.lack = false
	wanted, unwanted := s.difference()
	for len(unwanted) > 0 {
		n := s.together(unwanted)
		l := s.have[unwanted[0]]
		l.leave(unwanted[:n])
		if err := s.command(func(ctx context.Context) error { return s.bus.unsubscribe(ctx, l.pubsub, unwanted[:n]) }); err != nil {
			owner, ok := s.ownerOf(l)
			if !ok || s.bus.options.Sharded == nil || s.ctx.Err() != nil {
				return false, err
			}
			s.drop(owner, err)
			unwanted = slices.DeleteFunc(unwanted, func(name string) bool { return s.have[name] == nil })
			continue
		}
		for _, name := range unwanted[:n] {
			delete(s.have, name)
		}
		unwanted = unwanted[n:]
	}
	for len(wanted) > 0 {
		n := s.together(wanted)
		if err := s.ask(wanted[:n]); err != nil {
			return false, err
		}
		wanted = wanted[n:]
	}
	return len(s.have) == 0 && s.bus.idle(), nil
}

// ask subscribes to channels. That an owner of sharded ones is away is no error: they
// are asked for again.
func (s *session) ask(names []string) error {
	owner, l, err := s.linkFor(names[0])
	if err == nil && l != nil {
		err = s.command(func(ctx context.Context) error { return s.bus.subscribe(ctx, l.pubsub, names) })
	}
	switch {
	case err != nil && s.bus.options.Sharded != nil && s.ctx.Err() == nil:
		s.lack = true
		s.drop(owner, err)
		return nil
	case err != nil:
		return err
	case l == nil: // not yet
		return nil
	}
	for _, name := range names {
		s.have[name] = l
	}
	return nil
}

// linkFor is the connection for a channel, and the address of its owner. It is nil if
// that is left alone for now, or the connection is being opened: then keep is told.
func (s *session) linkFor(name string) (owner string, l *link, err error) {
	sharded := s.bus.options.Sharded
	if sharded == nil {
		return "", s.links[""], nil
	}
	node, err := sharded.MasterForKey(s.ctx, name)
	if err != nil {
		return "", nil, err
	}
	owner = node.Options().Addr
	if l := s.links[owner]; l != nil {
		return owner, l, nil
	}
	switch {
	case s.opening[owner]:
	case time.Now().Before(s.away[owner]):
		s.lack = true
	default:
		s.opening[owner] = true
		// The probe shares the slot of the channel, and so its owner.
		s.receivers.Go(func() { s.openOwner(owner, s.bus.options.Probe+"{"+tagOf(name)+"}", node.SSubscribe(s.ctx)) })
	}
	return owner, nil, nil
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

// unconfirm notes that a channel is not subscribed any more.
func (b *Bus) unconfirm(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.confirmed, name)
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

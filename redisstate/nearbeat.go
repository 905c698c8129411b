package redisstate

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/bus"
	"github.com/compozy/temporal-redis/internal/keys"
)

// beats tell whether this process hears the bells of all masters: it sends a beat
// of its own to each master every second, on the path of the bells, and hears it
// on the connection of the bells. Beats of one master come in the order in which
// they were sent, as do the bells before and between them. So as long as the
// newest beat that was heard from each master is young, no bell from before that
// beat is missing; and if one is left out, bells may be. (On Cluster a master
// passes them on to the one that we listen to: a bell that is lost there between
// two beats, while that connection breaks, is not noticed.)
type beats struct {
	clock
	client  redis.UniversalClient
	channel string // of the bells
	own     string // of the beats
	bus     *bus.Bus
	flush   func()
	bell    func(payload string)
	log     *slog.Logger
	bypass  prometheus.Counter // seconds

	until     atomic.Int64 // for how long bells are known to arrive, since began
	untilWall atomic.Int64 // the same by the wall clock, in Unix nanoseconds

	mu        sync.Mutex
	masters   map[string]*master // by address; nil until the first beat
	listening bool               // the bells' channel is subscribed

	start   sync.Once
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// master is what is known of the beats of one.
type master struct {
	sent  uint64               // number of the last
	at    map[uint64]time.Time // when those were sent that were not heard yet
	heard uint64               // number of the last that was heard; 0: none
	from  time.Time            // when that one was sent
}

const (
	// beatEvery is the time between two beats.
	beatEvery = time.Second
	// beatsFor is for how long after it was sent a beat is worth anything.
	beatsFor = 3 * time.Second
	// beatTimeout bounds the sending of one.
	beatTimeout = time.Second
	// keptBeats bounds what is remembered of beats that do not come back.
	keptBeats = 8
	// bellsTimeout bounds the dialling and the commands of the bells' connection.
	bellsTimeout = 3 * time.Second
	// clockJump is by how much the clocks may drift apart from one beat to the
	// next: more means that the machine was suspended.
	clockJump = 500 * time.Millisecond
)

func newBeats(client redis.UniversalClient, space keys.Space, log *slog.Logger, bypass prometheus.Counter) *beats {
	b := &beats{
		clock: clock{time.Now()}, client: client, channel: space.Invalidation(), own: space.Probe("beat-" + rand.Text()),
		log: log, bypass: bypass,
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.bus = bus.New(client, bus.Options{
		Probe: space.Probe("near-" + rand.Text()), ProbeEvery: beatEvery, Timeout: bellsTimeout,
		Op: "redisstate: hear of changes", Family: family, Log: log,
	})
	return b
}

// fresh tells whether bells are known to arrive. The first call begins to listen.
func (b *beats) fresh() bool {
	b.start.Do(b.begin)
	return b.now() < time.Duration(b.until.Load()) && time.Now().UnixNano() < b.untilWall.Load()
}

func (b *beats) begin() {
	if b.ctx.Err() != nil {
		return
	}
	b.bus.Listen(b.channel, bus.Listener{Confirmed: func() { b.again(true) }, Message: b.bell})
	b.bus.Listen(b.own, bus.Listener{Confirmed: func() { b.again(false) }, Message: b.hear})
	b.running.Go(b.run)
}

// again is called when a channel was subscribed: bells may have been missed
// before, and no beat from before counts. The bells' channel is asked for first,
// so beats that are heard mean that bells are too.
func (b *beats) again(bells bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listening = b.listening || bells
	b.reset()
}

// reset forgets everything. The caller has the lock.
func (b *beats) reset() {
	b.until.Store(0)
	for _, m := range b.masters {
		m.heard, m.at = m.sent, make(map[uint64]time.Time)
		m.from = time.Time{}
	}
	b.flush()
}

func (b *beats) run() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for last := time.Now(); b.ctx.Err() == nil; {
		b.beat()
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
		now := time.Now()
		b.passed(now.Sub(last), now.Round(0).Sub(last.Round(0)))
		last = now
	}
}

// passed is told by how much the clocks moved since the last beat. The monotonic
// clock stands still while a machine is suspended, whereas Redis goes on.
func (b *beats) passed(monotonic, wall time.Duration) {
	if !b.fresh() {
		b.bypass.Add(monotonic.Seconds())
	}
	if wall-monotonic > clockJump {
		b.mu.Lock()
		b.reset()
		b.mu.Unlock()
	}
}

// beat sends one to each master. One that cannot be sent will be missed.
func (b *beats) beat() {
	ctx, cancel := context.WithTimeout(b.ctx, beatTimeout)
	defer cancel()
	members, ok := b.client.(*redis.ClusterClient)
	if !ok {
		b.among("")
		b.send(ctx, b.client, "")
		return
	}
	var mu sync.Mutex
	all := make(map[string]*redis.Client)
	if err := members.ForEachMaster(ctx, func(_ context.Context, m *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all[m.Options().Addr] = m
		return nil
	}); err != nil {
		return // no beat: soon no bell is known to arrive
	}
	addresses := make([]string, 0, len(all))
	for address := range all {
		addresses = append(addresses, address)
	}
	b.among(addresses...)
	// To find the masters may have taken its time, if a host says nothing.
	sendCtx, sent := context.WithTimeout(b.ctx, beatTimeout)
	defer sent()
	var sending sync.WaitGroup
	for address, m := range all {
		sending.Go(func() { b.send(sendCtx, m, address) })
	}
	sending.Wait()
}

// among notes which masters there are. If that changed, one of them may have lost
// what it had told, and slots may have moved.
func (b *beats) among(addresses ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	same := len(addresses) == len(b.masters)
	for _, address := range addresses {
		same = same && b.masters[address] != nil
	}
	if same {
		return
	}
	b.masters = make(map[string]*master, len(addresses))
	for _, address := range addresses {
		b.masters[address] = new(master)
	}
	b.reset()
}

func (b *beats) send(ctx context.Context, to redis.Cmdable, address string) {
	b.mu.Lock()
	m := b.masters[address]
	m.sent++
	number := m.sent
	m.at[number] = time.Now()
	delete(m.at, number-keptBeats)
	b.mu.Unlock()
	if err := to.Publish(ctx, b.own, strconv.FormatUint(number, 10)+" "+address).Err(); err != nil && b.ctx.Err() == nil {
		b.log.Debug("A beat was not sent; configs are read from Redis", "op", "redisstate: hear of changes", "family", family, "error", err)
	}
}

// hear is called for a beat.
func (b *beats) hear(payload string) {
	text, address, _ := strings.Cut(payload, " ")
	number, err := strconv.ParseUint(text, 10, 64)
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.masters[address]
	if err != nil || m == nil {
		return
	}
	at, known := m.at[number]
	if !known {
		return
	}
	if number != m.heard+1 { // those between were lost, and bells of this master may be
		b.flush()
	}
	m.heard, m.from = number, at
	for n := range m.at {
		if n <= number {
			delete(m.at, n)
		}
	}
	if !b.listening {
		return
	}
	oldest := at
	for _, other := range b.masters {
		if other.from.Before(oldest) {
			oldest = other.from
		}
	}
	if oldest.IsZero() {
		return // one was not heard yet
	}
	b.untilWall.Store(oldest.Add(beatsFor).UnixNano())
	b.until.Store(int64(oldest.Sub(b.began) + beatsFor))
}

func (b *beats) close() {
	b.start.Do(func() {}) // nobody begins now
	b.stop()
	b.bus.Close()
	b.running.Wait()
}

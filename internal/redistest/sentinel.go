//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/loopback"
)

// SentinelMaster is the name under which the sentinels watch their primary.
const SentinelMaster = "redistest"

const (
	replicas  = 2
	sentinels = 3
)

// sentinelSettings are for sentinels only.
type sentinelSettings struct{ password string }

// WithSentinelPassword sets the password of the sentinels themselves; see
// WithPassword for that of the servers that they watch. Defaults to none.
func WithSentinelPassword(password string) Option {
	return func(s *settings) { s.sentinels.password = password }
}

// Sentinel is a primary with two replicas, watched by three sentinels. Its
// methods are safe for concurrent use; changes wait for each other.
//
// Replication is asynchronous: a fail-over loses what the new primary had not
// received. Settle waits for that.
type Sentinel struct {
	settings     settings
	certificates *Certificates
	data         []*Server
	watchers     []*Server
	changing     sync.Mutex
}

// StartSentinel runs a Sentinel deployment for the test and ends it with the
// test. Options are for the primary and its replicas, TLS also for the
// sentinels.
func StartSentinel(tb testing.TB, opts ...Option) *Sentinel {
	tb.Helper()
	dir := scratch(tb)
	s, err := RunSentinel(tb.Context(), dir, append(opts, WithScratch(dir))...)
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, func() []*Server { return append(s.Nodes(), s.watchers...) }, s.Close)
	return s
}

// RunSentinel is StartSentinel for programs: the servers keep their files below
// dir and are ended by Close, or die with this process. It returns when every
// sentinel knows all servers and both replicas are in step.
func RunSentinel(ctx context.Context, dir string, opts ...Option) (*Sentinel, error) {
	settings, certificates, err := settle(dir, opts)
	if err != nil {
		return nil, err
	}
	s := &Sentinel{settings: settings, certificates: certificates}
	if err := s.start(ctx, dir, opts); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) start(ctx context.Context, dir string, opts []Option) error {
	primary, err := runGroup(ctx, dir, [][]Option{member(opts, group{kind: dataNode, certificates: s.certificates})})
	if err != nil {
		return err
	}
	s.data = primary
	var others [][]Option
	for range replicas {
		others = append(others, member(opts, group{kind: dataNode, certificates: s.certificates, replicaOf: primary[0]}))
	}
	for range sentinels {
		watcher := group{kind: sentinelNode, certificates: s.certificates, watches: primary[0], password: s.settings.password}
		// Users and configuration of the servers mean nothing to a sentinel.
		others = append(others, member(nil, watcher, func(to *settings) {
			to.tls, to.scratch = s.settings.tls, s.settings.scratch
			to.password = s.settings.sentinels.password
			to.program = []string{"--sentinel"}
		}))
	}
	servers, err := runGroup(ctx, dir, others)
	if err != nil {
		return err
	}
	s.data, s.watchers = append(s.data, servers[:replicas]...), servers[replicas:]
	for _, w := range s.watchers {
		if err := w.hurry(ctx); err != nil {
			return err
		}
	}
	return s.AwaitWhole(ctx)
}

func (s *Server) sentinelConfiguration() []directive {
	monitor := func(values ...string) directive { return directive{"sentinel", values} }
	g := s.settings.group
	lines := []directive{
		monitor("monitor", SentinelMaster, "127.0.0.1", strconv.Itoa(g.watches.Port()), strconv.Itoa(sentinels/2+1)),
		monitor("down-after-milliseconds", SentinelMaster, "600"),
		monitor("failover-timeout", SentinelMaster, "3000"),
		monitor("parallel-syncs", SentinelMaster, "2"),
	}
	if g.password != "" {
		lines = append(lines, monitor("auth-pass", SentinelMaster, g.password))
	}
	if s.settings.password != "" {
		lines = append(lines, monitor("sentinel-pass", s.settings.password))
	}
	return lines
}

// hurry shortens the sentinel's rounds, which are made for networks and
// people: 2 s between greetings, 10 s between looks. In a fail-over the leader
// looks each second whatever it is told, and the others undo the promotion
// after four greetings, so these must not be shorter. It promotes nobody whose
// last look is older than five pings, so five pings must be longer than that
// second (sentinelSelectSlave of Redis 7; with pings of 40 ms no fail-over
// succeeded within 30 s). A server that has no such switch is only slower.
func (s *Server) hurry(ctx context.Context) error {
	return s.with(func(client *redis.Client) error {
		err := client.Do(ctx, "sentinel", "debug", "info-period", "400", "ping-period", "400",
			"ask-period", "100", "publish-period", "700").Err()
		if _, refused := errors.AsType[redis.Error](err); refused {
			return nil
		}
		return err
	})
}

// Nodes are the primary and the replicas, in no order.
func (s *Sentinel) Nodes() []*Server { return append([]*Server{}, s.data...) }

// Sentinels are the three sentinels.
func (s *Sentinel) Sentinels() []*Server { return append([]*Server{}, s.watchers...) }

// Certificates are those of WithTLS and WithMutualTLS, else nil.
func (s *Sentinel) Certificates() *Certificates { return s.certificates }

// Close ends all servers.
func (s *Sentinel) Close() {
	closeAll(s.watchers)
	closeAll(s.data)
}

// URL is redis+sentinel:// or rediss+sentinel:// for the default user, with its
// password. The sentinels' password has no place in it.
func (s *Sentinel) URL() string { return s.url("", s.settings.password) }

// URLFor is URL for another user.
func (s *Sentinel) URLFor(user, password string) string { return s.url(user, password) }

func (s *Sentinel) url(user, password string) string {
	u := url.URL{Scheme: s.data[0].scheme() + "+sentinel", Host: addresses(s.watchers), Path: "/" + SentinelMaster + "/0"}
	if user != "" || password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

func addresses(servers []*Server) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.Addr())
	}
	return strings.Join(list, ",")
}

// Primary is the server that most sentinels name.
func (s *Sentinel) Primary(ctx context.Context) (*Server, error) {
	votes := map[string]int{}
	for _, w := range s.watchers {
		_ = w.with(func(client *redis.Client) error { // who is down does not vote
			place, err := client.Do(ctx, "sentinel", "get-master-addr-by-name", SentinelMaster).StringSlice()
			if err == nil && len(place) == 2 {
				votes[place[1]]++
			}
			return err
		})
	}
	for _, node := range s.data {
		if votes[strconv.Itoa(node.Port())] > sentinels/2 {
			return node, nil
		}
	}
	return nil, fmt.Errorf("redistest: the sentinels do not agree on a primary: %v", votes)
}

// AwaitWhole returns when every sentinel sees a primary that is up, both
// replicas and both other sentinels, and the replicas are in step.
func (s *Sentinel) AwaitWhole(ctx context.Context) error {
	return until(ctx, "a whole Sentinel deployment", func(ctx context.Context) error {
		primary, err := s.Primary(ctx)
		if err != nil {
			return err
		}
		if err := primary.hasReplicas(ctx, replicas); err != nil {
			return err
		}
		for _, w := range s.watchers {
			if err := w.seesAll(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// hasReplicas tells whether the server is a master with n replicas in step.
func (s *Server) hasReplicas(ctx context.Context, n int) error {
	return s.with(func(client *redis.Client) error {
		values, err := replication(ctx, client)
		if err != nil {
			return err
		}
		online := 0
		for name, value := range values {
			if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
				online++
			}
		}
		if values["role"] != "master" || online != n {
			return fmt.Errorf("it is a %s with %d of %d replicas online", values["role"], online, n)
		}
		return nil
	})
}

// seesAll tells whether the sentinel sees everything up.
func (s *Server) seesAll(ctx context.Context) error {
	return s.with(func(client *redis.Client) error {
		state, err := client.Do(ctx, "sentinel", "master", SentinelMaster).Result()
		if err != nil {
			return err
		}
		master := stringMap(state)
		if master["flags"] != "master" || master["num-slaves"] != strconv.Itoa(replicas) ||
			master["num-other-sentinels"] != strconv.Itoa(sentinels-1) {
			return fmt.Errorf("it sees a primary (%s) with %s replicas and %s other sentinels",
				master["flags"], master["num-slaves"], master["num-other-sentinels"])
		}
		for _, others := range []struct{ command, flags string }{{"replicas", "slave"}, {"sentinels", "sentinel"}} {
			list, err := client.Do(ctx, "sentinel", others.command, SentinelMaster).Slice()
			if err != nil {
				return err
			}
			for _, entry := range list {
				if other := stringMap(entry); other["flags"] != others.flags ||
					(others.flags == "slave" && other["master-link-status"] != "ok") {
					return fmt.Errorf("it sees a %s with flags %s, link %s", others.flags, other["flags"], other["master-link-status"])
				}
			}
		}
		return nil
	})
}

// stringMap reads a reply of names and values, as RESP2 and RESP3 have it.
func stringMap(reply any) map[string]string {
	values := map[string]string{}
	switch r := reply.(type) {
	case map[any]any:
		for name, value := range r {
			values[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for i := 0; i+1 < len(r); i += 2 {
			values[fmt.Sprint(r[i])] = fmt.Sprint(r[i+1])
		}
	}
	return values
}

// Settle returns when both replicas have what the primary had when it was
// called.
func (s *Sentinel) Settle(ctx context.Context) error {
	primary, err := s.Primary(ctx)
	if err != nil {
		return err
	}
	return primary.settle(ctx, replicas)
}

// settle waits until n replicas of the server have what it has now.
func (s *Server) settle(ctx context.Context, n int) error {
	return s.with(func(client *redis.Client) error {
		before, err := replication(ctx, client)
		if err != nil {
			return err
		}
		want, err := strconv.ParseInt(before["master_repl_offset"], 10, 64)
		if err != nil {
			return err
		}
		return until(ctx, "replicas in step", func(ctx context.Context) error {
			now, err := replication(ctx, client)
			if err != nil {
				return err
			}
			reached := 0
			for i := range n {
				for part := range strings.SplitSeq(now["slave"+strconv.Itoa(i)], ",") {
					if text, found := strings.CutPrefix(part, "offset="); found {
						if offset, err := strconv.ParseInt(text, 10, 64); err == nil && offset >= want {
							reached++
						}
					}
				}
			}
			if reached < n {
				return fmt.Errorf("%d of %d have offset %d", reached, n, want)
			}
			return nil
		})
	})
}

// Failover lets the sentinels promote a replica while the primary is well, as
// an operator would. It returns the new primary when the deployment is whole
// again.
func (s *Sentinel) Failover(ctx context.Context) (*Server, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	before, err := s.Primary(ctx)
	if err != nil {
		return nil, err
	}
	err = until(ctx, "a sentinel that starts the fail-over", func(ctx context.Context) error {
		return s.watchers[0].with(func(client *redis.Client) error {
			return client.Do(ctx, "sentinel", "failover", SentinelMaster).Err()
		})
	})
	if err != nil {
		return nil, err
	}
	after, err := s.awaitOther(ctx, before)
	if err != nil {
		return nil, err
	}
	return after, s.AwaitWhole(ctx)
}

// KillPrimary ends the primary by SIGKILL and returns it, with the server that
// took its place. Restart it and call AwaitWhole to have three again.
func (s *Sentinel) KillPrimary(ctx context.Context) (killed, promoted *Server, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if killed, err = s.Primary(ctx); err != nil {
		return nil, nil, err
	}
	killed.Kill()
	promoted, err = s.awaitOther(ctx, killed)
	return killed, promoted, err
}

// awaitOther waits until the sentinels name another primary than before, and
// that one takes writes.
func (s *Sentinel) awaitOther(ctx context.Context, before *Server) (after *Server, err error) {
	err = until(ctx, "another primary than "+loopback.Address(before.Port()), func(ctx context.Context) error {
		if after, err = s.Primary(ctx); err != nil {
			return err
		}
		if after == before {
			return errors.New("it is still the same")
		}
		return after.with(func(client *redis.Client) error {
			values, err := replication(ctx, client)
			if err == nil && values["role"] != "master" {
				err = fmt.Errorf("it is a %s", values["role"])
			}
			return err
		})
	})
	return after, err
}

//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masters   = 3
	slotCount = 16384
	// nodeTimeout is how long a node of a cluster may be silent before the
	// others count it as down.
	nodeTimeout = time.Second
)

// Cluster is a Redis Cluster of three masters with a replica each. Its methods
// are safe for concurrent use; changes wait for each other.
//
// Replication is asynchronous: a fail-over loses what the new master had not
// received. Settle waits for that.
type Cluster struct {
	settings     settings
	certificates *Certificates
	nodes        []*Server
	changing     sync.Mutex
}

// StartCluster runs a cluster for the test and ends it with the test. Options
// are for all nodes.
func StartCluster(tb testing.TB, opts ...Option) *Cluster {
	tb.Helper()
	dir := scratch(tb)
	c, err := RunCluster(tb.Context(), dir, append(opts, WithScratch(dir))...)
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, c.Nodes, c.Close)
	return c
}

// RunCluster is StartCluster for programs: the servers keep their files below
// dir and are ended by Close, or die with this process. It returns when every
// node says that the cluster is well and the replicas are in step.
func RunCluster(ctx context.Context, dir string, opts ...Option) (*Cluster, error) {
	settings, certificates, err := settle(dir, opts)
	if err != nil {
		return nil, err
	}
	c := &Cluster{settings: settings, certificates: certificates}
	var members [][]Option
	for range 2 * masters {
		members = append(members, member(opts, group{kind: clusterNode, certificates: certificates}))
	}
	if c.nodes, err = runGroup(ctx, dir, members); err != nil {
		return nil, err
	}
	if err := c.form(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// form makes one cluster of the nodes: the first ones become masters, each of
// the others a replica of one of them.
func (c *Cluster) form(ctx context.Context) error {
	// Epochs and slots while nobody knows anybody: later both are refused.
	for i, node := range c.nodes {
		if err := node.prepare(ctx, i); err != nil {
			return err
		}
	}
	for i, node := range c.nodes {
		err := node.with(func(client *redis.Client) error {
			for _, other := range c.nodes[i+1:] {
				if err := client.Do(ctx, "cluster", "meet", "127.0.0.1", other.Port(), other.busPort).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i, node := range c.nodes[masters:] {
		id, err := c.nodes[i].clusterID(ctx)
		if err != nil {
			return err
		}
		err = until(ctx, "a replica", func(ctx context.Context) error { // the master is unknown there until they met
			return node.with(func(client *redis.Client) error { return client.ClusterReplicate(ctx, id).Err() })
		})
		if err != nil {
			return err
		}
	}
	return c.AwaitWhole(ctx)
}

// prepare gives the i-th node its epoch and, if it becomes a master, its slots.
func (s *Server) prepare(ctx context.Context, i int) error {
	return s.with(func(client *redis.Client) error {
		err := client.Do(ctx, "cluster", "set-config-epoch", i+1).Err()
		if err == nil && i < masters {
			err = client.ClusterAddSlotsRange(ctx, i*slotCount/masters, (i+1)*slotCount/masters-1).Err()
		}
		return err
	})
}

func (s *Server) clusterID(ctx context.Context) (id string, err error) {
	err = s.with(func(client *redis.Client) error {
		id, err = client.Do(ctx, "cluster", "myid").Text()
		return err
	})
	return id, err
}

// clusterLine is what a node says about one node.
type clusterLine struct {
	port      int
	flags     []string
	master    string // id, "-" for masters
	connected bool
	slots     []string
}

func (l clusterLine) is(flag string) bool { return slices.Contains(l.flags, flag) }

func (l clusterLine) owns(slot int) bool {
	for _, part := range l.slots {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil && first <= slot && slot <= last {
			return true
		}
	}
	return false
}

// view is the cluster as the server sees it, by node id.
func (s *Server) view(ctx context.Context) (map[string]clusterLine, error) {
	lines := map[string]clusterLine{}
	err := s.with(func(client *redis.Client) error {
		text, err := client.ClusterNodes(ctx).Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 8 {
				return errors.New("CLUSTER NODES has a line that is too short")
			}
			address, _, _ := strings.Cut(f[1], "@")
			port, err := strconv.Atoi(address[strings.LastIndexByte(address, ':')+1:])
			if err != nil {
				return fmt.Errorf("CLUSTER NODES has a line without a port: %w", err)
			}
			lines[f[0]] = clusterLine{port: port, flags: strings.Split(f[2], ","), master: f[3], connected: f[7] == "connected", slots: f[8:]}
		}
		return nil
	})
	return lines, err
}

// AwaitWhole returns when every node says that the cluster is well, sees six
// nodes up, and each master has its replica in step.
func (c *Cluster) AwaitWhole(ctx context.Context) error {
	return until(ctx, "a whole cluster", func(ctx context.Context) error {
		for _, node := range c.nodes {
			if err := c.whole(ctx, node); err != nil {
				return fmt.Errorf("%s: %w", node.Addr(), err)
			}
		}
		return nil
	})
}

func (c *Cluster) whole(ctx context.Context, node *Server) error {
	view, err := node.view(ctx)
	if err != nil {
		return err
	}
	owners := 0
	for _, line := range view {
		if !line.connected || line.is("fail") || line.is("fail?") || line.is("handshake") {
			return fmt.Errorf("it sees %d as %v", line.port, line.flags)
		}
		if line.is("master") {
			owners++
		}
		if line.is("myself") && line.is("master") {
			if err := node.hasReplicas(ctx, 1); err != nil {
				return err
			}
		}
	}
	if len(view) != len(c.nodes) || owners != masters {
		return fmt.Errorf("it sees %d nodes, %d masters", len(view), owners)
	}
	return node.with(func(client *redis.Client) error {
		text, err := client.ClusterInfo(ctx).Result()
		if err == nil && fields(text)["cluster_state"] != "ok" {
			err = errors.New("it says that the cluster is not well")
		}
		return err
	})
}

// Nodes are all six servers, in no order that means anything after a fail-over.
func (c *Cluster) Nodes() []*Server { return append([]*Server{}, c.nodes...) }

// Certificates are those of WithTLS and WithMutualTLS, else nil.
func (c *Cluster) Certificates() *Certificates { return c.certificates }

// Close ends all servers.
func (c *Cluster) Close() { closeAll(c.nodes) }

// URL is redis+cluster:// or rediss+cluster:// for the default user, with its
// password.
func (c *Cluster) URL() string { return c.url("", c.settings.password) }

// URLFor is URL for another user.
func (c *Cluster) URLFor(user, password string) string { return c.url(user, password) }

func (c *Cluster) url(user, password string) string {
	u := url.URL{Scheme: c.nodes[0].scheme() + "+cluster", Host: addresses(c.nodes)}
	if user != "" || password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// Slot is the slot of a key.
func (c *Cluster) Slot(ctx context.Context, key string) (slot int, err error) {
	err = c.ask(func(node *Server) error {
		return node.with(func(client *redis.Client) error {
			n, err := client.ClusterKeySlot(ctx, key).Result()
			slot = int(n)
			return err
		})
	})
	return slot, err
}

// Owner is the master that has the slot, as most nodes that are up see it, with
// its replica.
func (c *Cluster) Owner(ctx context.Context, slot int) (master, replica *Server, err error) {
	votes := map[int]int{}
	replicas := map[int]int{}
	up := 0
	for _, node := range c.nodes {
		if node.Pid() == 0 {
			continue
		}
		view, err := node.view(ctx)
		if err != nil {
			continue // paused or on its way down
		}
		up++
		for id, line := range view {
			if !line.is("master") || line.is("fail") || !line.owns(slot) {
				continue
			}
			votes[line.port]++
			for _, other := range view {
				if other.master == id && !other.is("fail") {
					replicas[line.port] = other.port
				}
			}
		}
	}
	for port, n := range votes {
		if n > up/2 {
			return c.byPort(port), c.byPort(replicas[port]), nil
		}
	}
	return nil, nil, fmt.Errorf("redistest: the nodes do not agree on the owner of slot %d: %v", slot, votes)
}

func (c *Cluster) byPort(port int) *Server {
	for _, node := range c.nodes {
		if node.Port() == port {
			return node
		}
	}
	return nil
}

// ask asks nodes until one answers.
func (c *Cluster) ask(do func(*Server) error) error {
	var errs []error
	for _, node := range c.nodes {
		if node.Pid() == 0 {
			continue
		}
		err := do(node)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Settle returns when each replica has what its master had when it was called.
func (c *Cluster) Settle(ctx context.Context) error {
	for _, node := range c.nodes {
		if node.Pid() == 0 {
			continue
		}
		view, err := node.view(ctx)
		if err != nil {
			return err
		}
		for _, line := range view {
			if line.is("myself") && line.is("master") {
				if err := node.settle(ctx, 1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Failover lets the replica of the slot's master take its place while both are
// well, as an operator would. It returns the new master when the cluster is
// whole again.
func (c *Cluster) Failover(ctx context.Context, slot int) (*Server, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	before, replica, err := c.Owner(ctx, slot)
	if err != nil {
		return nil, err
	}
	if replica == nil {
		return nil, fmt.Errorf("redistest: %s has no replica that could take its place", before.Addr())
	}
	if err := replica.with(func(client *redis.Client) error { return client.ClusterFailover(ctx).Err() }); err != nil {
		return nil, err
	}
	after, err := c.awaitOther(ctx, slot, before)
	if err != nil {
		return nil, err
	}
	return after, c.AwaitWhole(ctx)
}

// KillMaster ends the slot's master by SIGKILL and returns it, with the server
// that took its place. Restart it and call AwaitWhole to have six again.
func (c *Cluster) KillMaster(ctx context.Context, slot int) (killed, promoted *Server, err error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if killed, _, err = c.Owner(ctx, slot); err != nil {
		return nil, nil, err
	}
	killed.Kill()
	promoted, err = c.awaitOther(ctx, slot, killed)
	return killed, promoted, err
}

func (c *Cluster) awaitOther(ctx context.Context, slot int, before *Server) (after *Server, err error) {
	err = until(ctx, "another master than "+before.Addr(), func(ctx context.Context) error {
		if after, _, err = c.Owner(ctx, slot); err != nil {
			return err
		}
		if after == before {
			return errors.New("it is still the same")
		}
		return after.with(func(client *redis.Client) error {
			text, err := client.ClusterInfo(ctx).Result()
			if err == nil && fields(text)["cluster_state"] != "ok" {
				err = errors.New("it says that the cluster is not well")
			}
			return err
		})
	})
	return after, err
}

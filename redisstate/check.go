package redisstate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// ErrUnsuitable says that Redis answers and cannot be used as it is: too old, a
// read-only replica, or of another kind than the URL says. It passes when an
// operator acts.
var ErrUnsuitable = errors.New("this Redis cannot be used")

// Report is what Inspect learned. What a server does not tell is empty.
type Report struct {
	// Deployment is standalone, unix, sentinel, cluster or embedded.
	Deployment string
	// Nodes are the servers that take our writes: one, or the masters of a
	// Cluster.
	Nodes []NodeReport
	// Findings are what an operator should know, worst first for each node.
	Findings []Finding
}

// NodeReport is one server.
type NodeReport struct {
	// Address is host:port as we reach it, or Endpoint where there is one server.
	Address string
	// Version is that of Redis which the server has or says to be compatible
	// with, like 7.0.15.
	Version string
	// Mode is standalone, cluster or sentinel; Role is master or slave.
	Mode, Role string
	// MaxMemory is the bound of the memory in bytes, 0 for none, and
	// MaxMemoryPolicy what happens there, like noeviction.
	MaxMemory       int64
	MaxMemoryPolicy string
	// AppendOnly tells whether there is an append-only file: yes or no.
	AppendOnly string
	// RunID names the process: a server that was started again has another.
	RunID string
	// ClusterState is ok or fail; only on Cluster.
	ClusterState string
}

// Topic names what a Finding is about.
type Topic string

// The topics.
const (
	TopicEviction    Topic = "eviction"     // Redis may remove our keys before their time
	TopicPersistence Topic = "persistence"  // a restart of Redis forgets
	TopicSlots       Topic = "slots"        // a Cluster does not serve all of its slots
	TopicReplicaRead Topic = "replica_read" // the host's client reads from replicas
	TopicUnknown     Topic = "unknown"      // Redis does not tell; nothing is wrong
)

// Finding is one thing that an operator should know.
type Finding struct {
	Topic Topic
	// Node is the address of the server it is about.
	Node string
	// Text says what is, why it matters, and the remedy. No secret.
	Text string
}

// Warning tells whether the finding is a risk; else it is for information.
func (f Finding) Warning() bool { return f.Topic != TopicUnknown }

// Inspect is the check at start: it asks each server that takes our writes (the
// server, the current primary behind sentinels, every master of a Cluster) for
// its version, role, memory policy, persistence and cluster state, within ctx
// and at most 5 seconds. Findings are logged once for each connection, by
// Options.Logger. What Redis does not tell us (INFO is denied on some managed
// ones) is no error.
//
// Errors: those of Check, and ErrUnsuitable, which names the remedy. Redis 7.0
// or newer is needed.
func (c *Conn) Inspect(ctx context.Context) (Report, error) {
	report := Report{Deployment: c.deployment()}
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := c.Check(bounded); err != nil {
		return report, c.unsuitableKind(err)
	}
	if report.Deployment == deploymentNames[embedded] {
		return report, nil
	}
	err := c.inspect(bounded, &report)
	if _, known := errors.AsType[*Error](err); !known && !errors.Is(err, ErrUnsuitable) {
		err = rediserr.Wrap(context.WithoutCancel(ctx), c.op(), family, err)
	}
	c.tell(ctx, report.Findings)
	return report, err
}

const opInspect = "redisstate: inspection of Redis at "

func (c *Conn) op() string { return opInspect + c.endpoint }

var deploymentNames = map[kind]string{
	standalone: "standalone", unixSocket: "unix", sentinel: "sentinel", cluster: "cluster", embedded: "embedded",
}

func (c *Conn) deployment() string { return deploymentNames[c.kind] }

// kindOf is how the servers behind a host's client work together.
func kindOf(client redis.UniversalClient) kind {
	switch client := client.(type) {
	case *redis.ClusterClient:
		return cluster
	case *redis.Client:
		if client.Options().Addr == "FailoverClient" { // as go-redis calls a client over sentinels
			return sentinel
		}
		if client.Options().Network == "unix" {
			return unixSocket
		}
	}
	return standalone
}

func (c *Conn) inspect(ctx context.Context, report *Report) error {
	members, ok := c.client.(*redis.ClusterClient)
	if !ok {
		node, findings, err := c.inspectNode(ctx, c.client, c.endpoint)
		report.Nodes, report.Findings = []NodeReport{node}, findings
		return err
	}
	if o := members.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
		report.Findings = append(report.Findings, Finding{TopicReplicaRead, c.endpoint,
			"the client reads from replicas, which are behind their masters: a config that was just saved may not be found; " +
				"give a client without ReadOnly, RouteByLatency and RouteRandomly"})
	}
	var mu sync.Mutex // ForEachMaster asks all at once
	return members.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		node, findings, err := c.inspectNode(ctx, master, master.Options().Addr)
		mu.Lock()
		defer mu.Unlock()
		report.Nodes = append(report.Nodes, node)
		report.Findings = append(report.Findings, findings...)
		return err
	})
}

// tell logs each finding once in the life of the connection.
func (c *Conn) tell(ctx context.Context, findings []Finding) {
	for _, f := range findings {
		if _, told := c.told.LoadOrStore(f, struct{}{}); told {
			continue
		}
		level := slog.LevelWarn
		if !f.Warning() {
			level = slog.LevelInfo
		}
		c.log.Log(ctx, level, "what the look at Redis found", "op", "inspect", "topic", string(f.Topic), "redis", f.Node, "reason", f.Text)
	}
}

// unsuitableKind says what is likely when a server does not know the commands of
// its kind.
func (c *Conn) unsuitableKind(err error) error {
	if e, known := errors.AsType[*Error](err); !known || e.Class != rediserr.Permanent {
		return err
	}
	switch c.kind {
	case cluster:
		return fmt.Errorf("%w; %w: it is no Redis Cluster: use redis:// for a single server", err, ErrUnsuitable)
	case sentinel:
		return fmt.Errorf("%w; %w: the hosts in the URL are no sentinels: name those (port 26379), or use redis:// for a single server", err, ErrUnsuitable)
	}
	return err
}

func unsuitable(node, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s %s", opInspect+node, ErrUnsuitable, node, fmt.Sprintf(format, args...))
}

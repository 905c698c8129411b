package redisstate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// oldestMajor is the first major version of Redis that has all commands we use:
// SET with NX and GET, and PEXPIRE GT, came with 7.0.
const oldestMajor = 7

// inspectNode asks one server, judges what it says and returns what is worth
// knowing. An error says that the server cannot be used now.
func (c *Conn) inspectNode(ctx context.Context, client redis.UniversalClient, address string) (NodeReport, []Finding, error) {
	node := NodeReport{Address: address}
	told, err := askNode(ctx, client, &node)
	if err != nil {
		return node, nil, err
	}
	if err := c.judge(node); err != nil {
		return node, nil, err
	}
	findings := node.findings()
	if !told {
		findings = append(findings, Finding{TopicUnknown, address,
			"the user may not call INFO, so that memory policy and persistence were not looked at; " +
				"see that the policy is noeviction, or grant +info"})
	}
	if c.kind != cluster {
		return node, findings, nil
	}
	finding, err := askCluster(ctx, client, &node)
	if err == nil && node.ClusterState == "fail" {
		err = &Error{Op: opInspect + address, Family: family, Class: rediserr.Unavailable, Err: errClusterDown}
	}
	if finding != nil {
		findings = append(findings, *finding)
	}
	return node, findings, err
}

var errClusterDown = errors.New("the cluster's state is fail: a slot has no master, or this node is cut off; see CLUSTER INFO there")

// askNode fills node from INFO, or from HELLO where INFO is denied, and tells
// whether INFO answered. It is asked for no single sections: Redis 6 takes one
// at most, and has to be told apart.
func askNode(ctx context.Context, client redis.UniversalClient, node *NodeReport) (told bool, err error) {
	text, err := client.Info(ctx).Result()
	switch {
	case err == nil:
		node.fromInfo(infoFields(text))
		return true, nil
	case passes(ctx, err):
		return false, err
	}
	hello, err := client.Do(ctx, "hello").Result()
	switch {
	case err == nil:
		node.fromHello(hello)
	case passes(ctx, err):
		return false, err
	}
	return false, nil
}

// passes tells whether err is about the connection or the caller, and not about
// what the user may do.
func passes(ctx context.Context, err error) bool {
	class := rediserr.Classify(ctx, err)
	return class != rediserr.Denied && class != rediserr.Permanent
}

func (n *NodeReport) fromInfo(info map[string]string) {
	n.Version = info["redis_version"]
	n.Mode = info["redis_mode"]
	n.Role = info["role"]
	n.RunID = info["run_id"]
	n.MaxMemory, _ = strconv.ParseInt(info["maxmemory"], 10, 64)
	n.MaxMemoryPolicy = info["maxmemory_policy"]
	switch info["aof_enabled"] {
	case "1":
		n.AppendOnly = "yes"
	case "0":
		n.AppendOnly = "no"
	}
}

func (n *NodeReport) fromHello(reply any) {
	fields := map[string]string{}
	switch reply := reply.(type) {
	case map[any]any:
		for name, value := range reply {
			fields[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any: // RESP2
		for i := 0; i+1 < len(reply); i += 2 {
			fields[fmt.Sprint(reply[i])] = fmt.Sprint(reply[i+1])
		}
	}
	n.Version, n.Mode, n.Role = fields["version"], fields["mode"], fields["role"]
	if n.Role == "replica" {
		n.Role = "slave"
	}
}

// infoFields reads lines of name:value.
func infoFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); found {
			fields[name] = value
		}
	}
	return fields
}

// judge tells why a server cannot be used.
func (c *Conn) judge(n NodeReport) error {
	major, _, _ := strings.Cut(n.Version, ".")
	if version, err := strconv.Atoi(major); err == nil && version < oldestMajor {
		return unsuitable(n.Address, "is Redis %s; use %d.0 or newer", n.Version, oldestMajor)
	}
	switch {
	case n.Mode == "sentinel":
		return unsuitable(n.Address, "is a sentinel, which keeps no data; use redis+sentinel://host:port/master")
	case n.Mode == "cluster" && c.kind != cluster:
		return unsuitable(n.Address, "is a node of a Redis Cluster; use redis+cluster://host:port, or a redis.ClusterClient")
	case n.Role == "slave" && c.kind == sentinel:
		// The sentinels have just named it, or are about to name another.
		return &Error{Op: opInspect + n.Address, Family: family, Class: rediserr.Unavailable, Err: errNotPromoted}
	case n.Role == "slave":
		return unsuitable(n.Address, "is a replica and refuses writes (READONLY); "+
			"name the primary in REDIS_URL, or the sentinels by redis+sentinel://host:port/master so that it is found")
	}
	return nil
}

var errNotPromoted = errors.New("the server that the sentinels name is still a replica; a fail-over is under way")

// findings are the risks that the server's settings carry.
func (n NodeReport) findings() []Finding {
	var found []Finding
	policy := n.MaxMemoryPolicy
	if policy != "" && policy != "noeviction" {
		text := "maxmemory-policy is " + policy + ": when the memory is full, Redis removes leases, configs and events before their time" +
			" (volatile policies too, as all of our keys expire); two activities may then hold one lock, and a config is not found" +
			"; set noeviction, under which writes fail and are tried again, or give us a Redis of our own"
		if n.MaxMemory == 0 {
			text += " (no maxmemory is set here, so this begins when one is)"
		}
		found = append(found, Finding{TopicEviction, n.Address, text})
	}
	if n.AppendOnly == "no" {
		found = append(found, Finding{TopicPersistence, n.Address,
			"there is no append-only file: a restart forgets who holds which lock, so another may be granted it while its holder still works, " +
				"and it forgets configs; set appendonly yes (for locks with appendfsync always), and be able to save configs again"})
	}
	return found
}

// askCluster asks a master how the cluster is.
func askCluster(ctx context.Context, client redis.UniversalClient, node *NodeReport) (*Finding, error) {
	text, err := client.ClusterInfo(ctx).Result()
	if err != nil {
		if passes(ctx, err) {
			return nil, err
		}
		return nil, nil // the user may not ask: unknown
	}
	info := infoFields(text)
	node.ClusterState = info["cluster_state"]
	const all = "16384"
	if assigned := info["cluster_slots_assigned"]; node.ClusterState == "ok" && assigned != all {
		return &Finding{TopicSlots, node.Address, "only " + assigned + " of " + all +
			" slots have a master (cluster-require-full-coverage is off): keys of the others cannot be reached; assign them"}, nil
	}
	return nil, nil
}

package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// DefaultNamespace is the key prefix when nobody chose one.
const DefaultNamespace = "temporal-redis"

// MaxNamespaceBytes bounds the key prefix.
const MaxNamespaceBytes = 256

// ErrInvalidNamespace is wrapped by NewSpace's errors.
var ErrInvalidNamespace = errors.New("invalid namespace")

// Space makes every name under one namespace (our key prefix). The zero value
// is not usable; NewSpace makes one. A Space is immutable and safe for
// concurrent use.
type Space struct {
	prefix  string // "<namespace>:"
	channel string // "" or "<channel prefix>:"
}

// NamespaceFor is the default namespace of a worker: it is made from the
// Temporal namespace, so that two Temporal namespaces never share a key.
func NamespaceFor(temporalNamespace string) string {
	return DefaultNamespace + ":" + Escape(temporalNamespace)
}

// NewSpace returns the names under namespace ("" means DefaultNamespace) with
// the channel prefix ("" means none, so channels are called workflow:<id>).
// Both may hold RFC 3986's unreserved characters, '%' and ':'.
func NewSpace(namespace, channelPrefix string) (Space, error) {
	if namespace == "" {
		namespace = DefaultNamespace
	}
	if err := checkPrefix("namespace", namespace); err != nil {
		return Space{}, err
	}
	s := Space{prefix: namespace + ":"}
	if channelPrefix != "" {
		if err := checkPrefix("channel prefix", channelPrefix); err != nil {
			return Space{}, err
		}
		s.channel = channelPrefix + ":"
	}
	return s, nil
}

func checkPrefix(field, s string) error {
	if len(s) > MaxNamespaceBytes {
		return fmt.Errorf("%w: %s is %d bytes long; use at most %d", ErrInvalidNamespace, field, len(s), MaxNamespaceBytes)
	}
	for i := range len(s) {
		if c := s[i]; !unreserved(c) && c != ':' && c != '%' {
			return fmt.Errorf("%w: %s %q has the character %q; use letters, digits and - . _ ~ : %%",
				ErrInvalidNamespace, field, start(s), c)
		}
	}
	return nil
}

// Namespace is the prefix without its separator.
func (s Space) Namespace() string { return strings.TrimSuffix(s.prefix, ":") }

// Config is the key of a config's current value.
func (s Space) Config(id string) string { return s.prefix + "config:" + Escape(id) }

// ConfigAt is the key under which an overwritten config stays readable for the
// refs that name its digest.
func (s Space) ConfigAt(id, digest string) string { return s.Config(id) + "@" + digest }

// ConfigID is the inverse of Config. It reports false for keys that Config did
// not make, those of ConfigAt included.
func (s Space) ConfigID(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, s.prefix+"config:")
	if !ok || rest == "" {
		return "", false
	}
	return Unescape(rest)
}

// Metadata is the key of the bytes stored under a name.
func (s Space) Metadata(name string) string { return s.prefix + "metadata:" + Escape(name) }

// WorkflowIndex is the key of the sorted set of config ids saved for a workflow.
func (s Space) WorkflowIndex(workflowID string) string {
	return s.prefix + "index:" + Escape(workflowID)
}

// State is the key of a cached state: what it is (a fixed word) and its id. It
// shares its slot with StateGuard.
func (s Space) State(kind, id string) string {
	return s.prefix + "state:" + kind + ":{" + Escape(id) + "}"
}

// StateGuard is the key that says whether a cached state may be used.
func (s Space) StateGuard(kind, id string) string {
	return s.prefix + "guard:" + kind + ":{" + Escape(id) + "}"
}

// StateChanges is the key of the changes of a cached state that are under way. It
// shares its slot with State.
func (s Space) StateChanges(kind, id string) string {
	return s.prefix + "changes:" + kind + ":{" + Escape(id) + "}"
}

// Session is the key of the values of one execution.
func (s Space) Session(executionID string) string { return s.prefix + "session:" + Escape(executionID) }

// Counters is the key of all counters. '@' is in no escaped id, so that a longer
// namespace cannot make the same name.
func (s Space) Counters() string { return s.prefix + "@counters" }

// Gauges is the key of all gauges.
func (s Space) Gauges() string { return s.prefix + "@gauges" }

// WorkflowAsideIndex is the key of the sorted set of overwritten contents of configs
// that were saved for a workflow.
func (s Space) WorkflowAsideIndex(workflowID string) string {
	return s.WorkflowIndex(workflowID) + "@aside"
}

// Invalidation is the channel on which writers tell other processes that a
// config changed.
func (s Space) Invalidation() string { return s.prefix + "invalidate" }

// Probe is the channel on which a listener with this name hears whether its
// connection lives.
func (s Space) Probe(name string) string { return s.prefix + "probe:" + Escape(name) }

// Health is the key that the health monitor writes, one of many so that each master
// of a Cluster has one. '@' is in no escaped id.
func (s Space) Health(n int) string { return s.prefix + "@health:{" + strconv.Itoa(n) + "}" }

// Lock is the key of a resource's lease. It shares its slot with Fence.
func (s Space) Lock(resource string) string { return s.prefix + "lock:{" + Escape(resource) + "}" }

// LockPattern matches the keys of Lock, for SCAN.
func (s Space) LockPattern() string { return s.prefix + "lock:{*}" }

// LockResource is the inverse of Lock. It reports false for keys that Lock did not
// make.
func (s Space) LockResource(key string) (string, bool) {
	rest, ours := strings.CutPrefix(key, s.prefix+"lock:{")
	name, closed := strings.CutSuffix(rest, "}")
	if !ours || !closed || name == "" {
		return "", false
	}
	return Unescape(name)
}

// Fence is the key of a resource's fence counter.
func (s Space) Fence(resource string) string { return s.prefix + "fence:{" + Escape(resource) + "}" }

// LockGrant is the key that remembers who was granted a resource last. It shares
// its slot with Lock.
func (s Space) LockGrant(resource string) string {
	return s.prefix + "lockgrant:{" + Escape(resource) + "}"
}

// LockQueue is the key of a resource's queue of waiters.
func (s Space) LockQueue(resource string) string {
	return s.prefix + "lockq:{" + Escape(resource) + "}"
}

// LockWaiters is the key that is there while someone waits for a resource. It shares
// its slot with Lock.
func (s Space) LockWaiters(resource string) string {
	return s.prefix + "lockwait:{" + Escape(resource) + "}"
}

// Active is the key of the sorted set of workflow ids that publish events.
func (s Space) Active() string { return s.prefix + "active" }

// Ended is the key of the sorted set of workflow ids that ended a moment ago.
func (s Space) Ended() string { return s.prefix + "ended" }

// ChannelPattern matches the channels of all workflows, for PSUBSCRIBE.
func (s Space) ChannelPattern() string { return s.channel + "workflow:*" }

// ChannelWorkflow is the inverse of Channel. It reports false for channels that
// Channel did not make.
func (s Space) ChannelWorkflow(channel string) (workflowID string, ok bool) {
	name, ours := strings.CutPrefix(channel, s.channel+"workflow:")
	if !ours || name == "" {
		return "", false
	}
	return Unescape(name)
}

// Channel is the pub/sub channel of a workflow: workflow:<id>, under the
// channel prefix if one was chosen.
func (s Space) Channel(workflowID string) string { return s.channel + "workflow:" + Escape(workflowID) }

// Events are the keys of one workflow's event log. All of them, and the
// workflow's channel, share one slot.
func (s Space) Events(workflowID string) Events {
	base := s.prefix + "events:{" + s.Channel(workflowID) + "}:"
	return Events{
		Channel:  s.Channel(workflowID),
		Seq:      base + "seq",
		Log:      base + "log",
		Snapshot: base + "snapshot",
		Details:  base + "details",
		Epoch:    base + "epoch",
	}
}

// Events names what belongs to one workflow's event log.
type Events struct {
	Channel  string // pub/sub channel, the bell
	Seq      string // last id given out
	Log      string // list of encoded events
	Snapshot string // sorted set: task -> (attempt, status rank)
	Details  string // hash: task -> encoded last event
	Epoch    string // random id of this incarnation of the log
}

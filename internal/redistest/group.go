//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// nodeKind is the part that a server has in a group.
type nodeKind int

const (
	alone nodeKind = iota
	dataNode
	sentinelNode
	clusterNode
)

// group is what a server shares with the others of its group.
type group struct {
	kind         nodeKind
	certificates *Certificates
	replicaOf    *Server
	watches      *Server // a sentinel's first primary
	password     string  // of the primary, for a sentinel
}

// bound is the longest that a change of a group may take.
const bound = 30 * time.Second

// groupConfiguration are the lines that make a server part of its group.
func (s *Server) groupConfiguration() []directive {
	g := s.settings.group
	if g.kind == alone {
		return nil
	}
	var lines []directive
	add := func(name string, values ...string) { lines = append(lines, directive{name, values}) }
	if s.settings.tls != tlsOff {
		add("tls-replication", "yes")
	}
	switch g.kind {
	case dataNode, clusterNode:
		// A replica that joins is served at once and from memory.
		add("repl-diskless-sync", "yes")
		add("repl-diskless-sync-delay", "0")
		add("repl-diskless-load", "swapdb")
		add("repl-ping-replica-period", "1")
		if s.settings.password != "" {
			add("masterauth", s.settings.password)
		}
	}
	switch g.kind {
	case dataNode:
		if g.replicaOf != nil {
			add("replicaof", "127.0.0.1", strconv.Itoa(g.replicaOf.Port()))
		}
	case clusterNode:
		add("cluster-enabled", "yes")
		add("cluster-port", strconv.Itoa(s.busPort))
		add("cluster-node-timeout", strconv.Itoa(int(nodeTimeout.Milliseconds())))
		add("cluster-allow-replica-migration", "no")
		if s.settings.tls != tlsOff {
			add("tls-cluster", "yes")
		}
	case sentinelNode:
		lines = append(lines, s.sentinelConfiguration()...)
	}
	return lines
}

// runGroup starts servers side by side, each in a directory of its own below
// dir. With an error none of them runs.
func runGroup(ctx context.Context, dir string, members [][]Option) ([]*Server, error) {
	servers, errs := make([]*Server, len(members)), make([]error, len(members))
	var all sync.WaitGroup
	for i, opts := range members {
		all.Go(func() {
			place, err := os.MkdirTemp(dir, "node-")
			if err == nil {
				servers[i], err = Run(ctx, place, opts...)
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		closeAll(servers)
		return nil, err
	}
	return servers, nil
}

func closeAll(servers []*Server) {
	var all sync.WaitGroup
	for _, s := range servers {
		if s != nil {
			all.Go(s.Close)
		}
	}
	all.Wait()
}

// member are the options of one server of a group: the caller's for all of
// them, then its own.
func member(shared []Option, g group, own ...Option) []Option {
	opts := append([]Option{}, shared...)
	opts = append(opts, func(s *settings) { s.group = g })
	return append(opts, own...)
}

// settle reads what the options say about all members, and makes the
// certificates that they share.
func settle(dir string, opts []Option) (settings, *Certificates, error) {
	var s settings
	for _, opt := range opts {
		opt(&s)
	}
	if s.tls == tlsOff {
		return s, nil, nil
	}
	place := filepath.Join(dir, "certificates")
	if err := os.Mkdir(place, 0o700); err != nil {
		return s, nil, fmt.Errorf("redistest: make directory: %w", err)
	}
	certificates, err := NewCertificates(place)
	return s, certificates, err
}

// until asks again and again until reached gives no error, and says at the end
// of the time what it was waiting for.
func until(ctx context.Context, what string, reached func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		err := reached(ctx)
		if err == nil {
			return nil
		}
		if ended := pause(ctx, delay); ended != nil {
			return fmt.Errorf("redistest: waiting for %s: %w: %w", what, ended, err)
		}
	}
}

// control asks a server as the user who may do everything.
func (s *Server) control() *redis.Client { return redis.NewClient(s.controlOptions()) }

// with lends a control client.
func (s *Server) with(do func(*redis.Client) error) error {
	client := s.control()
	defer func() { _ = client.Close() }()
	if err := do(client); err != nil {
		return fmt.Errorf("redistest: %s: %w", s.Addr(), err)
	}
	return nil
}

// replication is that section of INFO.
func replication(ctx context.Context, client *redis.Client) (map[string]string, error) {
	text, err := client.Info(ctx, "replication").Result()
	return fields(text), err
}

// fields reads lines of name:value.
func fields(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			values[name] = value
		}
	}
	return values
}

// stopAtEnd ends the servers with the test, and shows their logs if it failed.
func stopAtEnd(tb testing.TB, servers func() []*Server, stop func()) {
	tb.Helper()
	tb.Cleanup(func() {
		stop()
		if tb.Failed() {
			for _, s := range servers() {
				tb.Logf("end of the log of redis-server on %s:\n%s", s.Addr(), s.logTail(0))
			}
		}
	})
}

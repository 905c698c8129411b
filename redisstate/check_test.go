package redisstate

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// startTalker is a server that answers PING, and INFO with what it is told.
func startTalker(t *testing.T, info string) string {
	t.Helper()
	s, err := server.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for name, answer := range map[string]string{"PING": "PONG", "INFO": info} {
		if err := s.Register(name, func(c *server.Peer, _ string, _ []string) { c.WriteBulk(answer) }); err != nil {
			t.Fatal(err)
		}
	}
	return "redis://" + s.Addr().String()
}

func TestInspect_refuses_a_Redis_that_is_too_old(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"6.2.14": true, "5.0.3": true, "7.0.0": false, "7.2.4": false, "8.0.1": false, "10.0.0": false, "255.255.255": false,
		"": false, "unstable": false,
	} {
		conn := connect(t, Options{URL: startTalker(t, "# Server\r\nredis_version:"+version+"\r\nrole:master\r\n"), Logger: slog.New(slog.DiscardHandler)})
		report, err := conn.Inspect(t.Context())
		if errors.Is(err, ErrUnsuitable) != refused || (refused && !strings.Contains(err.Error(), "7.0 or newer")) || (!refused && err != nil) {
			t.Errorf("%q: got %v; refused should be %v", version, err, refused)
		}
		if !refused && report.Nodes[0].Version != version {
			t.Errorf("%q: reported as %+v", version, report.Nodes[0])
		}
	}
}

func TestInspect_has_nothing_to_say_about_an_embedded_Redis(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	conn := connect(t, Options{URL: "embedded://" + t.Name(), SlowThreshold: -1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	report, err := conn.Inspect(t.Context())
	if err != nil || len(report.Findings) != 0 || report.Deployment != "embedded" || log.String() != "" {
		t.Fatalf("got %+v, %v, log %q", report, err, log.String())
	}
}

func TestJudge_of_a_replica(t *testing.T) {
	t.Parallel()
	for k, want := range map[kind]error{standalone: ErrUnsuitable, unixSocket: ErrUnsuitable, sentinel: rediserr.ErrUnavailable} {
		err := (&Conn{kind: k}).judge(NodeReport{Address: "h:1", Version: "7.0.0", Role: "slave"})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "h:1") {
			t.Errorf("%s: got %v; want %v", deploymentNames[k], err, want)
		}
	}
}

func TestConn_knows_what_kind_of_client_a_host_has(t *testing.T) {
	t.Parallel()
	for want, client := range map[kind]redis.UniversalClient{
		standalone: redis.NewClient(&redis.Options{Addr: "h:1"}),
		unixSocket: redis.NewClient(&redis.Options{Addr: "/run/x", Network: "unix"}),
		sentinel:   redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"h:1"}}),
		cluster:    redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"h:1"}}),
	} {
		conn, err := Connect(t.Context(), Options{Client: client, Registerer: prometheus.NewRegistry()})
		if err != nil || conn.kind != want {
			t.Errorf("took a client of kind %s for %v, %v", deploymentNames[want], conn, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

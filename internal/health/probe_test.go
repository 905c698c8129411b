package health

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/keys"
	"github.com/compozy/temporal-redis/internal/redisdial"
	"github.com/compozy/temporal-redis/internal/rediserr"
	"github.com/compozy/temporal-redis/internal/redistest/mini"
)

func newMini(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	server := mini.Start(t)
	return server
}

func newClient(t *testing.T, o redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(&o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func probing(t *testing.T, client redis.UniversalClient, o Options) (prober, *journal) {
	t.Helper()
	log := &journal{}
	var err error
	if o.Space, err = keys.NewSpace("ns", ""); err != nil {
		t.Fatal(err)
	}
	o.Name, o.Log = "configs", log.logger()
	p := proberOf(client, o)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p, log
}

func ask(t *testing.T, p prober) finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), probeTimeout)
	defer cancel()
	return p.probe(ctx)
}

func TestProbe_writes_a_key_that_expires_under_the_namespace(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	p, _ := probing(t, newClient(t, redis.Options{Addr: server.Addr()}), Options{})
	for range 3 {
		if got := ask(t, p); got != fine {
			t.Fatalf("found %+v", got)
		}
	}
	names := server.Keys()
	if len(names) != 1 || !strings.HasPrefix(names[0], "ns:") || server.TTL(names[0]) != probeTTL {
		t.Errorf("left %q", names)
	}
}

func TestProbe_tells_what_refuses_writes(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	p, _ := probing(t, newClient(t, redis.Options{Addr: server.Addr()}), Options{})
	if got := ask(t, p); got != fine {
		t.Fatalf("found %+v", got)
	}
	for said, want := range map[string]finding{
		"READONLY You can't write against a read only replica.":              {refused, rediserr.Unavailable, rediserr.WordReadOnly},
		"OOM command not allowed when used memory > 'maxmemory'.":            {refused, rediserr.Unavailable, rediserr.WordOOM},
		"NOREPLICAS Not enough good replicas to write.":                      {refused, rediserr.Unavailable, rediserr.WordNoReplicas},
		"MISCONF Redis is configured to save RDB snapshots":                  {refused, rediserr.Unavailable, rediserr.WordMisconf},
		"CLUSTERDOWN The cluster is down":                                    {refused, rediserr.Unavailable, rediserr.WordClusterDown},
		"LOADING Redis is loading the dataset in memory":                     {refused, rediserr.Unavailable, rediserr.WordLoading},
		"BUSY Redis is busy running a script.":                               {refused, rediserr.Unavailable, rediserr.WordBusy},
		"NOPERM this user has no permissions to run the 'set' command":       {refused, rediserr.Denied, rediserr.WordDenied},
		"ERR max number of clients reached":                                  {lost, rediserr.Unavailable, rediserr.WordClients},
		"ERR unknown command 'SET', with args beginning with: 'ns' '' 'px' ": {good, rediserr.Permanent, rediserr.WordRefused},
	} {
		server.SetError(said)
		if got := ask(t, p); got != want {
			t.Errorf("%s: found %+v, want %+v", said, got, want)
		}
		server.SetError("")
		if got := ask(t, p); got != fine {
			t.Errorf("after %s: found %+v", said, got)
		}
	}
}

func TestProbe_finds_a_server_that_is_gone_and_back_without_delay(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	p, _ := probing(t, newClient(t, redis.Options{Addr: server.Addr()}), Options{})
	if got := ask(t, p); got != fine {
		t.Fatalf("found %+v", got)
	}
	server.Close()
	for range 3 * probePool { // a pool that failed so often to dial looks once a second
		if got := ask(t, p); got != gone {
			t.Fatalf("found %+v, want %+v", got, gone)
		}
	}
	mini.Restart(t, server)
	if got := ask(t, p); got != fine {
		t.Errorf("found %+v", got)
	}
}

// silentServer takes connections and says nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestProbe_has_a_deadline_whatever_the_client_has(t *testing.T) {
	t.Parallel()
	patient := redis.Options{
		Addr: silentServer(t), MaxRetries: 10, DialTimeout: time.Hour, ReadTimeout: time.Hour, WriteTimeout: time.Hour, PoolTimeout: time.Hour,
		PoolSize: 1,
	}
	p, _ := probing(t, newClient(t, patient), Options{})
	began := time.Now()
	if got := ask(t, p); got != silent {
		t.Errorf("found %+v, want %+v", got, silent)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestProbe_does_not_wait_for_a_pool_without_connections(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	client := newClient(t, redis.Options{Addr: server.Addr(), PoolSize: 1, PoolTimeout: time.Hour})
	p, _ := probing(t, client, Options{})
	err := client.Watch(t.Context(), func(*redis.Tx) error { // holds the only one
		if got := ask(t, p); got != fine {
			t.Errorf("found %+v", got)
		}
		return nil
	}, "k")
	if err != nil {
		t.Error(err)
	}
}

func TestProbe_pings_where_it_was_never_allowed_to_write(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	p, log := probing(t, newClient(t, redis.Options{Addr: server.Addr()}), Options{})
	denyWrites(p)
	for range 3 {
		if got := ask(t, p); got.verdict != good {
			t.Fatalf("found %+v", got)
		}
	}
	if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "remedy=") {
		t.Errorf("it says %q", lines)
	}
}

func TestProbe_that_wrote_once_does_not_take_a_ping_for_it(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	p, log := probing(t, newClient(t, redis.Options{Addr: server.Addr()}), Options{})
	if got := ask(t, p); got != fine {
		t.Fatalf("found %+v", got)
	}
	denyWrites(p)
	if got := ask(t, p); got != barred {
		t.Errorf("found %+v, want %+v", got, barred)
	}
	if lines := log.all(); len(lines) != 0 {
		t.Errorf("it says %q", lines)
	}
}

// denied refuses writes, as Redis does to a user without the permission.
type denied struct{}

func (denied) DialHook(next redis.DialHook) redis.DialHook { return next }
func (denied) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "set" {
			err := &refusal{"NOPERM this user has no permissions to run the 'set' command"}
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}
func (denied) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func denyWrites(p prober) {
	s := p.(*server)
	if s.client == nil {
		s.client = redisdial.NewClient(&s.options)
	}
	s.client.AddHook(denied{})
}

// elsewhere sends dials to another address, as a tunnel of a host does.
type elsewhere struct{ addr string }

func (e elsewhere) DialHook(redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, e.addr)
	}
}
func (elsewhere) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (elsewhere) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestProbe_asks_a_hosts_client_where_its_options_lead_nowhere(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]string{"refused": "127.0.0.1:1", "silent": silentServer(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newMini(t)
			client := newClient(t, redis.Options{Addr: own, MaxRetries: -1})
			client.AddHook(elsewhere{server.Addr()})
			p, _ := probing(t, client, Options{Host: true})
			for range 2 {
				if got := ask(t, p); got != fine {
					t.Fatalf("found %+v", got)
				}
			}
			server.Close()
			if got := ask(t, p); got.verdict != lost {
				t.Errorf("found %+v", got)
			}
		})
	}
}

// A failed probe that counted as traffic too would be two failures, and so an outage.
func TestProbe_through_the_client_that_is_listened_to_is_no_traffic(t *testing.T) {
	t.Parallel()
	server := newMini(t)
	client := newClient(t, redis.Options{Addr: server.Addr(), MaxRetries: -1})
	var heard traffic
	client.AddHook(&heard)
	p, _ := probing(t, struct{ *redis.Client }{client}, Options{}) // of a kind that is not known
	if got := ask(t, p); got != fine {
		t.Errorf("found %+v", got)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("%d probes were taken for traffic", n)
	}
}

// traffic counts the commands that are no probes.
type traffic struct{ atomic.Int64 }

func (*traffic) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *traffic) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !IsProbe(ctx) && cmd.Name() == "set" { // others greet the server
			c.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (*traffic) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestJudge_takes_no_reply_of_sentinels_for_an_answer(t *testing.T) {
	t.Parallel()
	if got := judge(redis.Nil); got.verdict != lost || got.why != rediserr.WordFailover {
		t.Errorf("found %+v", got)
	}
	if got := judge(errors.New("redis: all sentinels specified in configuration are unreachable: x")); got != gone {
		t.Errorf("found %+v", got)
	}
}

func TestTogether_is_lost_only_where_no_master_is_well(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		found []finding
		want  finding
	}{
		"all":                  {[]finding{fine, fine, fine}, fine},
		"one is away":          {[]finding{fine, gone, fine}, some},
		"one refuses":          {[]finding{gone, full, fine}, finding{partial, rediserr.Unavailable, rediserr.WordOOM}},
		"all are away":         {[]finding{gone, gone}, gone},
		"all refuse or away":   {[]finding{gone, full, silent}, full},
		"there are no masters": {nil, finding{lost, rediserr.Unavailable, rediserr.WordClusterDown}},
	} {
		if got := together(test.found); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

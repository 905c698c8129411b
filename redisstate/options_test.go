package redisstate

import (
	"crypto/tls"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, found := vars[name]
		return value, found
	}
}

func TestOptionsFromEnv_fills_every_variable(t *testing.T) {
	t.Parallel()
	got, err := OptionsFromEnv(Options{}, env(map[string]string{
		"REDIS_URL": "redis://h", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p", "REDIS_TLS": "true",
		"REDIS_TLS_CA": "ca", "REDIS_TLS_CERT": "cert", "REDIS_TLS_KEY": "key", "REDIS_TLS_SERVER_NAME": "name",
		"REDIS_SENTINEL_MASTER": "m", "REDIS_SENTINEL_USERNAME": "su", "REDIS_SENTINEL_PASSWORD": "sp",
		"REDIS_CLIENT_NAME": "c", "REDIS_NAMESPACE": "ns", "REDIS_TTL": "2h", "REDIS_MAX_CONFIG_BYTES": "10",
		"REDIS_NEAR_CACHE_BYTES": "-1", "REDIS_SLOW_THRESHOLD": "7ms",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		URL: "redis://h", Username: "u", Password: "p",
		TLS:            TLSOptions{Mode: TLSOn, CAFile: "ca", CertFile: "cert", KeyFile: "key", ServerName: "name"},
		SentinelMaster: "m", SentinelUsername: "su", SentinelPassword: "sp", ClientName: "c",
		Namespace: "ns", TTL: 2 * time.Hour, MaxConfigBytes: 10, NearCacheBytes: -1, SlowThreshold: 7 * time.Millisecond,
	}
	if got != want {
		t.Fatalf("got %+v; want %+v", got, want)
	}
}

func TestOptionsFromEnv_lets_code_win(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"REDIS_URL": "redis://envuser:envurl@env", "REDIS_USERNAME": "eu", "REDIS_PASSWORD": "ep", "REDIS_TTL": "1h", "REDIS_NAMESPACE": "env",
	}
	for name, test := range map[string]struct {
		base Options
		drop string // a variable to leave out
		user string
		pass string
		addr string
	}{
		"all from the environment":                  {Options{}, "", "eu", "ep", "env:6379"},
		"the URL's password without a variable":     {Options{}, "REDIS_PASSWORD", "eu", "envurl", "env:6379"},
		"the URL's user without a variable":         {Options{}, "REDIS_USERNAME", "envuser", "ep", "env:6379"},
		"password in code":                          {Options{Password: "cp"}, "", "eu", "cp", "env:6379"},
		"user and password in code":                 {Options{Username: "cu", Password: "cp"}, "", "cu", "cp", "env:6379"},
		"URL in code, credentials from environment": {Options{URL: "redis://code"}, "", "eu", "ep", "code:6379"},
		"URL in code with a password":               {Options{URL: "redis://:up@code"}, "", "", "up", "code:6379"},
		"URL in code with user and password":        {Options{URL: "redis://uu:up@code"}, "", "uu", "up", "code:6379"},
		"URL in code with a user only":              {Options{URL: "redis://uu@code"}, "", "uu", "ep", "code:6379"},
		"everything in code":                        {Options{URL: "redis://uu:up@code", Username: "cu", Password: "cp"}, "", "cu", "cp", "code:6379"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vars := maps.Clone(vars)
			delete(vars, test.drop)
			test.base.Namespace = "code"
			o, err := OptionsFromEnv(test.base, env(vars))
			if err != nil {
				t.Fatal(err)
			}
			got, err := o.target()
			if err != nil {
				t.Fatal(err)
			}
			if got.username != test.user || got.password != test.pass || got.addrs[0] != test.addr {
				t.Errorf("got %s:%s at %s; want %s:%s at %s", got.username, got.password, got.addrs[0], test.user, test.pass, test.addr)
			}
			if o.Namespace != "code" || o.TTL != time.Hour {
				t.Errorf("got namespace %s and TTL %v; want code and 1h", o.Namespace, o.TTL)
			}
		})
	}
}

func TestOptionsFromEnv_ignores_the_connection_beside_a_client(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	o, err := OptionsFromEnv(Options{Client: client}, env(map[string]string{"REDIS_URL": "redis://env", "REDIS_TLS": "maybe", "REDIS_TTL": "1h"}))
	if err != nil {
		t.Fatal(err)
	}
	if o.URL != "" || o.TTL != time.Hour {
		t.Fatalf("got URL %q and TTL %v", o.URL, o.TTL)
	}
}

func TestOptionsFromEnv_tells_all_that_is_malformed_without_values(t *testing.T) {
	t.Parallel()
	_, err := OptionsFromEnv(Options{}, env(map[string]string{
		"REDIS_TLS": "C4n4ry", "REDIS_TTL": "C4n4ry", "REDIS_MAX_CONFIG_BYTES": "C4n4ry", "REDIS_NEAR_CACHE_BYTES": "", "REDIS_SLOW_THRESHOLD": "5",
	}))
	if !errors.Is(err, ErrInvalidOptions) {
		t.Fatalf("got %v", err)
	}
	text := err.Error()
	for _, name := range []string{"REDIS_TLS ", "REDIS_TTL ", "REDIS_MAX_CONFIG_BYTES ", "REDIS_SLOW_THRESHOLD "} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is not told: %v", name, err)
		}
	}
	if strings.Contains(text, "C4n4ry") || strings.Contains(text, "NEAR_CACHE") {
		t.Errorf("too much is told: %v", err)
	}
}

func TestValidate_names_the_ways_out_when_there_is_no_URL(t *testing.T) {
	t.Parallel()
	err := Options{}.Validate()
	if !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), "REDIS_URL") || !strings.Contains(err.Error(), "embedded://") {
		t.Fatalf("got %v", err)
	}
	if _, err := Connect(t.Context(), quiet()); !errors.Is(err, ErrInvalidOptions) {
		t.Fatalf("connect gave %v", err)
	}
}

func TestValidate_refuses_with_the_name_of_the_option(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close() })
	for name, test := range map[string]struct {
		o    Options
		says string
	}{
		"namespace":             {Options{URL: "embedded://", Namespace: "a b"}, "Namespace"},
		"glob in namespace":     {Options{URL: "embedded://", Namespace: "a*"}, "Namespace"},
		"long namespace":        {Options{URL: "embedded://", Namespace: strings.Repeat("a", 300)}, "Namespace"},
		"negative TTL":          {Options{URL: "embedded://", TTL: -time.Second}, "TTL"},
		"tiny TTL":              {Options{URL: "embedded://", TTL: time.Microsecond}, "TTL"},
		"negative size":         {Options{URL: "embedded://", MaxConfigBytes: -1}, "MaxConfigBytes"},
		"huge size":             {Options{URL: "embedded://", MaxConfigBytes: 1 << 30}, "MaxConfigBytes"},
		"negative timeout":      {Options{URL: "redis://h", ReadTimeout: -1}, "ReadTimeout"},
		"negative pool":         {Options{URL: "redis://h", PoolSize: -1}, "PoolSize"},
		"huge pool":             {Options{URL: "redis://h", PoolSize: 1 << 20}, "PoolSize"},
		"negative idle":         {Options{URL: "redis://h", MinIdleConns: -1}, "MinIdleConns"},
		"many retries":          {Options{URL: "redis://h", MaxRetries: 1000}, "MaxRetries"},
		"client name":           {Options{URL: "redis://h", ClientName: "a b"}, "ClientName"},
		"user alone":            {Options{URL: "redis://h", Username: "u"}, "REDIS_PASSWORD"},
		"sentinel alone":        {Options{URL: "redis+sentinel://h"}, "REDIS_SENTINEL_MASTER"},
		"master without":        {Options{URL: "redis://h", SentinelMaster: "m"}, "redis+sentinel://"},
		"TLS off and on":        {Options{URL: "rediss://h", TLS: TLSOptions{Mode: TLSOff}}, "REDIS_TLS"},
		"TLS on a socket":       {Options{URL: "unix:///s", TLS: TLSOptions{Mode: TLSOn}}, "unix"},
		"TLS files without":     {Options{URL: "redis://h", TLS: TLSOptions{CAFile: "x"}}, "rediss://"},
		"certificate alone":     {Options{URL: "rediss://h", TLS: TLSOptions{CertFile: "x"}}, "REDIS_TLS_KEY"},
		"key alone":             {Options{URL: "rediss://h", TLS: TLSOptions{KeyFile: "x"}}, "REDIS_TLS_CERT"},
		"no verification":       {Options{URL: "rediss://h", TLS: TLSOptions{Config: &tls.Config{InsecureSkipVerify: true}}}, "InsecureSkipVerify"},
		"config and files":      {Options{URL: "rediss://h", TLS: TLSOptions{Config: &tls.Config{}, CAFile: "x"}}, "TLS.Config"},
		"a mode that is no one": {Options{URL: "redis://h", TLS: TLSOptions{Mode: 9}}, "TLS.Mode"},
		"a ring":                {Options{Client: ring}, "Ring"},
	} {
		err := test.o.Validate()
		if !errors.Is(err, ErrInvalidOptions) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v; want one line with %s", name, err, test.says)
		}
	}
}

func TestValidate_tells_everything_at_once(t *testing.T) {
	t.Parallel()
	err := Options{URL: "redis://h", ReadTimeout: -1, PoolSize: -1, TTL: -1, Namespace: " "}.Validate()
	for _, name := range []string{"ReadTimeout", "PoolSize", "TTL", "Namespace"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not told: %v", name, err)
		}
	}
}

func TestValidate_accepts_what_is_documented(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = client.Close() })
	for _, o := range []Options{
		{URL: "embedded://"},
		{URL: "embedded://", Username: "u", TLS: TLSOptions{Mode: TLSOn}}, // variables for other environments do no harm
		{Client: client},
		{Client: client, URL: "nonsense"},
		{URL: "redis://h", TLS: TLSOptions{Mode: TLSOn, CAFile: "ca"}},
		{URL: "redis+sentinel://h", SentinelMaster: "m"},
		{URL: "redis://u@h", Password: "p"},
		{URL: "redis://h", NearCacheBytes: -1, SlowThreshold: -1, MaxRetries: -1},
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestNewClient_says_everything_that_the_client_would_default(t *testing.T) {
	t.Parallel()
	o := Options{URL: "redis://u:p@h:7000/3?read_timeout=9s&pool_size=7&max_retries=0", ReadTimeout: 2 * time.Second, ClientName: "me"}
	target, err := o.target()
	if err != nil {
		t.Fatal(err)
	}
	universal, err := o.newClient(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = universal.Close() })
	got := universal.(*redis.Client).Options()
	for name, ok := range map[string]bool{
		"address":               got.Addr == "h:7000" && got.Network == "tcp" && got.DB == 3,
		"credentials":           got.Username == "u" && got.Password == "p" && got.ClientName == "me",
		"read timeout of code":  got.ReadTimeout == 2*time.Second,
		"write timeout":         got.WriteTimeout == DefaultWriteTimeout,
		"dial timeout":          got.DialTimeout == DefaultDialTimeout && got.DialerRetries == 1,
		"pool of the URL":       got.PoolSize == 7 && got.PoolTimeout == DefaultPoolTimeout,
		"no other pool":         got.PipelinePoolSize == -1,
		"buffers":               got.ReadBufferSize == 32<<10 && got.WriteBufferSize == 32<<10,
		"no retries":            got.MaxRetries == 0,
		"idle":                  got.ConnMaxIdleTime == DefaultIdleTimeout,
		"deadlines are honored": got.ContextTimeoutEnabled,
		"protocol":              got.Protocol == 3,
		"no notifications":      got.MaintNotificationsConfig.Mode == "disabled",
		"no TLS":                got.TLSConfig == nil,
	} {
		if !ok {
			t.Errorf("%s is not as said: %+v", name, got)
		}
	}
}

// A master's name in the environment is for the sentinels there.
func TestOptionsFromEnv_takes_the_sentinel_master_for_its_own_URL_only(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url, env, want string
		refused        bool
	}{
		"both from the environment":         {env: "redis+sentinel://s", want: "master"},
		"sentinels in code":                 {url: "redis+sentinel://s", want: "master"},
		"a server in code":                  {url: "redis://h", env: "redis+sentinel://s"},
		"a server from the environment":     {env: "redis://h", want: "master", refused: true},
		"embedded, whatever it says":        {url: "embedded://"},
		"embedded, from the environment":    {env: "embedded://", want: "master"},
		"the same server in both, mistaken": {url: "redis://h", env: "redis://h", want: "master", refused: true},
	} {
		o, err := OptionsFromEnv(Options{URL: test.url}, env(map[string]string{"REDIS_URL": test.env, "REDIS_SENTINEL_MASTER": "master"}))
		if err != nil || o.SentinelMaster != test.want {
			t.Errorf("%s: the master is %q, %v; want %q", name, o.SentinelMaster, err, test.want)
		}
		if err := o.Validate(); errors.Is(err, ErrInvalidOptions) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

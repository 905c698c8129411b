package redisstate

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestOptions_At_another_server(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "nowhere:1"})
	t.Cleanup(func() { _ = client.Close() })
	base := Options{URL: "redis://u1:p1@one", Username: "user", Password: "pass", SentinelMaster: "m", Client: client, PoolSize: 7}
	for url, want := range map[string]struct{ username, password, master string }{
		"redis://two":                 {"user", "pass", ""},
		"redis://u2:p2@two":           {"u2", "p2", ""},
		"redis://:p2@two":             {"", "p2", ""},
		"redis+sentinel://two/master": {"user", "pass", "master"},
	} {
		o := base.At(url)
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got, err := o.target()
		if err != nil || got.username != want.username || got.password != want.password || got.master != want.master || o.PoolSize != 7 || o.Client != nil {
			t.Errorf("%s gives user %q, password %q, master %q, %v", url, got.username, got.password, got.master, err)
		}
	}
	if err := base.At("what?").Validate(); err == nil {
		t.Error("no URL at all is accepted")
	}
}

package keys

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func space(t testing.TB, namespace, channelPrefix string) Space {
	t.Helper()
	s, err := NewSpace(namespace, channelPrefix)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpace_names_are_those_that_are_documented(t *testing.T) {
	t.Parallel()
	s := space(t, "", "")
	events := s.Events("w:1")
	for got, want := range map[string]string{
		s.Namespace():                      "temporal-redis",
		s.Config("a:1"):                    "temporal-redis:config:a%3A1",
		s.ConfigAt("a", "sha256:0"):        "temporal-redis:config:a@sha256:0",
		s.Metadata("m"):                    "temporal-redis:metadata:m",
		s.WorkflowIndex("w"):               "temporal-redis:index:w",
		s.Session("w/r"):                   "temporal-redis:session:w%2Fr",
		s.Counters():                       "temporal-redis:@counters",
		s.State("workflow", "w}"):          "temporal-redis:state:workflow:{w%7D}",
		s.StateGuard("workflow", "w"):      "temporal-redis:guard:workflow:{w}",
		s.StateChanges("workflow", "w"):    "temporal-redis:changes:workflow:{w}",
		s.Gauges():                         "temporal-redis:@gauges",
		s.WorkflowAsideIndex("w@"):         "temporal-redis:index:w%40@aside",
		s.Invalidation():                   "temporal-redis:invalidate",
		s.Lock("r{}"):                      "temporal-redis:lock:{r%7B%7D}",
		s.Fence("r"):                       "temporal-redis:fence:{r}",
		s.LockQueue("r"):                   "temporal-redis:lockq:{r}",
		s.LockWaiters("r"):                 "temporal-redis:lockwait:{r}",
		s.Channel("w:1"):                   "workflow:w%3A1",
		events.Channel:                     "workflow:w%3A1",
		events.Seq:                         "temporal-redis:events:{workflow:w%3A1}:seq",
		events.Log:                         "temporal-redis:events:{workflow:w%3A1}:log",
		NamespaceFor("my ns"):              "temporal-redis:my%20ns",
		space(t, "n", "p").Channel("w"):    "p:workflow:w",
		space(t, "n", "p").Events("w").Log: "n:events:{p:workflow:w}:log",
	} {
		if got != want {
			t.Errorf("got %s; want %s", got, want)
		}
	}
}

func TestNewSpace_refuses_prefixes_with_special_characters(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a b", "a{b}", "a*", "a?", "[a]", "a\n", "é", "a@b", strings.Repeat("a", MaxNamespaceBytes+1)} {
		for _, prefix := range [][2]string{{bad, ""}, {"", bad}} {
			_, err := NewSpace(prefix[0], prefix[1])
			if !errors.Is(err, ErrInvalidNamespace) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
				t.Errorf("%.20q: got %v", prefix, err)
			}
		}
	}
	for _, good := range []string{"a", "a:b:c", NamespaceFor("{any} thing*"), strings.Repeat("a", MaxNamespaceBytes)} {
		if _, err := NewSpace(good, good); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
}

func TestConfigID_takes_only_what_Config_made(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 50, -1).Draw(t, "id")
		s, err := NewSpace("ns", "")
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s.ConfigID(s.Config(id)); !ok || got != id {
			t.Fatalf("%q came back as %q, %v", id, got, ok)
		}
		for _, foreign := range []string{
			s.ConfigAt(id, "sha256:0"), s.Metadata(id), s.WorkflowIndex(id), s.Session(id), s.Counters(), s.Lock(id), "other:config:" + Escape(id), "ns:config:", "x" + s.Config(id),
		} {
			if got, ok := s.ConfigID(foreign); ok {
				t.Fatalf("%q was taken for the config %q", foreign, got)
			}
		}
	})
}

// namers make one name each of a namespace and an id.
var namers = map[string]func(Space, string) string{
	"config":    Space.Config,
	"aside":     func(s Space, id string) string { return s.ConfigAt(id, "sha256:00") },
	"metadata":  Space.Metadata,
	"index":     Space.WorkflowIndex,
	"session":   Space.Session,
	"counters":  func(s Space, _ string) string { return s.Counters() },
	"gauges":    func(s Space, _ string) string { return s.Gauges() },
	"state":     func(s Space, id string) string { return s.State("workflow", id) },
	"guard":     func(s Space, id string) string { return s.StateGuard("workflow", id) },
	"changes":   func(s Space, id string) string { return s.StateChanges("workflow", id) },
	"lock":      Space.Lock,
	"fence":     Space.Fence,
	"grant":     Space.LockGrant,
	"queue":     Space.LockQueue,
	"waiters":   Space.LockWaiters,
	"probe":     Space.Probe,
	"health":    func(s Space, id string) string { return s.Health(len(id)) },
	"seq":       func(s Space, id string) string { return s.Events(id).Seq },
	"log":       func(s Space, id string) string { return s.Events(id).Log },
	"snapshot":  func(s Space, id string) string { return s.Events(id).Snapshot },
	"details":   func(s Space, id string) string { return s.Events(id).Details },
	"epoch":     func(s Space, id string) string { return s.Events(id).Epoch },
	"broadcast": func(s Space, _ string) string { return s.Invalidation() },
}

func TestSpace_different_things_never_share_a_name(t *testing.T) {
	t.Parallel()
	ids := rapid.StringOfN(rapid.RuneFrom([]rune("ab:@{}%3A*")), 1, 6, -1)
	namespaces := rapid.SampledFrom([]string{"n", "n:config", "n:index", "n:lock", "n:config:a", "m", "n:events", "n:probe", "n:session"})
	rapid.Check(t, func(t *rapid.T) {
		type thing struct{ namespace, kind, id string }
		named := make(map[string]thing)
		for range 40 {
			x := thing{namespaces.Draw(t, "namespace"), rapid.SampledFrom([]string{
				"config", "aside", "metadata", "index", "session", "counters", "gauges", "lock", "fence", "grant", "queue", "waiters", "probe", "health", "seq", "log", "snapshot", "details", "epoch", "broadcast",
			}).Draw(t, "kind"), ids.Draw(t, "id")}
			switch x.kind {
			case "broadcast", "counters", "gauges":
				x.id = ""
			case "health": // has a number
				x.id = strings.Repeat("n", len(x.id))
			}
			s, err := NewSpace(x.namespace, "")
			if err != nil {
				t.Fatal(err)
			}
			name := namers[x.kind](s, x.id)
			if other, taken := named[name]; taken && other != x {
				t.Fatalf("%+v and %+v are both called %s", x, other, name)
			}
			named[name] = x
		}
	})
}

// slot is the Redis Cluster slot of a key: CRC16 (XMODEM) of its hash tag, else
// of all of it. Source: the Redis Cluster specification.
func slot(key string) uint16 {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

func TestSpace_names_that_change_together_share_a_slot(t *testing.T) {
	t.Parallel()
	if got := slot("123456789"); got != 0x31C3%16384 {
		t.Fatalf("the slot of the specification's example is %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringN(1, 30, -1).Draw(t, "id")
		s, err := NewSpace("ns", rapid.SampledFrom([]string{"", "prefix", "a:b"}).Draw(t, "prefix"))
		if err != nil {
			t.Fatal(err)
		}
		e := s.Events(id)
		for _, group := range [][]string{
			{e.Channel, e.Seq, e.Log, e.Snapshot, e.Details, e.Epoch},
			{s.Lock(id), s.Fence(id), s.LockQueue(id), s.LockGrant(id), s.LockWaiters(id)},
		} {
			for _, name := range group[1:] {
				if slot(name) != slot(group[0]) {
					t.Fatalf("%s and %s are in different slots", group[0], name)
				}
			}
		}
	})
}

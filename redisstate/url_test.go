package redisstate

import (
	"errors"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseURL_reads(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]target{
		"redis://localhost":                   {addrs: []string{"localhost:6379"}},
		"redis://localhost:7000/3":            {addrs: []string{"localhost:7000"}, db: 3},
		"redis://h/":                          {addrs: []string{"h:6379"}},
		"redis://h/?db=2":                     {addrs: []string{"h:6379"}, db: 2},
		"redis://[::1]:7000":                  {addrs: []string{"[::1]:7000"}},
		"redis://[fe80::1]":                   {addrs: []string{"[fe80::1]:6379"}},
		"rediss://h":                          {tls: true, addrs: []string{"h:6379"}},
		"redis://u:p@h":                       {userinfo: true, username: "u", password: "p", addrs: []string{"h:6379"}},
		"redis://:p@h":                        {userinfo: true, password: "p", addrs: []string{"h:6379"}},
		"redis://u:p%2F%40%3A%25@h":           {userinfo: true, username: "u", password: "p/@:%", addrs: []string{"h:6379"}},
		"redis://u:a@b:c@h":                   {userinfo: true, username: "u", password: "a@b:c", addrs: []string{"h:6379"}},
		"unix:///run/redis.sock":              {kind: unixSocket, path: "/run/redis.sock"},
		"unix://u:p@/run/a%20b.sock?db=4":     {kind: unixSocket, path: "/run/a b.sock", db: 4, userinfo: true, username: "u", password: "p"},
		"redis+sentinel://a,b:7000/master":    {kind: sentinel, addrs: []string{"a:26379", "b:7000"}, master: "master"},
		"redis+sentinel://a/master/2":         {kind: sentinel, addrs: []string{"a:26379"}, master: "master", db: 2},
		"redis+sentinel://a":                  {kind: sentinel, addrs: []string{"a:26379"}},
		"rediss+sentinel://a/m":               {kind: sentinel, tls: true, addrs: []string{"a:26379"}, master: "m"},
		"redis+cluster://a:1,[::1]:2,c":       {kind: cluster, addrs: []string{"a:1", "[::1]:2", "c:6379"}},
		"rediss+cluster://a":                  {kind: cluster, tls: true, addrs: []string{"a:6379"}},
		"embedded://":                         {kind: embedded},
		"embedded://tests":                    {kind: embedded, name: "tests"},
		"redis://h?dial_timeout=1s":           {addrs: []string{"h:6379"}, params: params{dialTimeout: time.Second}},
		"redis://h?read_timeout=2s&db=1":      {addrs: []string{"h:6379"}, db: 1, params: params{readTimeout: 2 * time.Second}},
		"redis://h?max_retries=0":             {addrs: []string{"h:6379"}, params: params{maxRetries: -1}},
		"redis://h?pool_size=5":               {addrs: []string{"h:6379"}, params: params{poolSize: 5}},
		"redis://h?client_name=billing%3Aeu":  {addrs: []string{"h:6379"}, params: params{clientName: "billing:eu"}},
		"redis://h?write_timeout=500ms":       {addrs: []string{"h:6379"}, params: params{writeTimeout: 500 * time.Millisecond}},
		"redis://h?pool_timeout=1m":           {addrs: []string{"h:6379"}, params: params{poolTimeout: time.Minute}},
		"redis://h?idle_timeout=1h":           {addrs: []string{"h:6379"}, params: params{idleTimeout: time.Hour}},
		"redis://h?min_idle_conns=2":          {addrs: []string{"h:6379"}, params: params{minIdleConns: 2}},
		"redis+cluster://a,b?max_retries=3":   {kind: cluster, addrs: []string{"a:6379", "b:6379"}, params: params{maxRetries: 3}},
		"redis+sentinel://u:p@a,b:1/m?db=0":   {kind: sentinel, userinfo: true, username: "u", password: "p", addrs: []string{"a:26379", "b:1"}, master: "m"},
		"redis+sentinel://a/master?db=7":      {kind: sentinel, addrs: []string{"a:26379"}, master: "master", db: 7},
		"redis://my-host.example.com:65535/0": {addrs: []string{"my-host.example.com:65535"}},
	} {
		got, err := parseURL(raw)
		got.dbInPath = false // for errors only
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

func TestParseURL_refuses_with_a_remedy(t *testing.T) {
	t.Parallel()
	for raw, remedy := range map[string]string{
		"":                                    "redis://localhost:6379",
		"localhost:6379":                      "no scheme",
		"redis:/localhost":                    "no scheme",
		"http://h":                            `scheme "http"`,
		"REDIS://h":                           "no scheme",
		"redis://":                            "no host",
		"redis://:6379":                       "no host",
		"redis://u:p@":                        "no host",
		"redis://h:x":                         "port",
		"redis://h:0":                         "port",
		"redis://h:65536":                     "port",
		"redis://h:":                          "port",
		"redis://h:1:2":                       "port",
		"redis://h o":                         "host",
		"redis://a,b":                         "redis+cluster",
		"redis://h/x":                         "database",
		"redis://h/-1":                        "database",
		"redis://h/1/2":                       "path",
		"redis://h?db=":                       "database",
		"redis://h?db=x":                      "database",
		"redis://h?color=red":                 `"color"`,
		"redis://h?skip_verify=true":          "REDIS_TLS_CA",
		"redis://h?db=1&db=2":                 "twice",
		"redis://h/1?db=2":                    "keep one",
		"redis://h/0?db=2":                    "keep one",
		"redis+sentinel://h//2":               "empty path element",
		"redis+sentinel://h/m//2":             "empty path element",
		"redis+sentinel://u:p@h,u:p@i/m":      "in front of all hosts",
		"redis+sentinel://h/m/1?db=2":         "keep one",
		"redis://h?dial_timeout=3":            "unit",
		"redis://h?dial_timeout=-3s":          "unit",
		"redis://h?pool_size=x":               "pool_size",
		"redis://h?pool_size=99999":           "pool_size",
		"redis://h?client_name=a%20b":         "client_name",
		"redis://h?a=%zz":                     `"a"`,
		"redis://h?=1":                        "malformed",
		"redis://h#frag":                      "%23",
		"redis://u:%zz@h":                     "password",
		"redis://%zz:p@h":                     "user",
		"redis://[::1":                        "IPv6",
		"redis://[::1]x":                      "port",
		"redis://[::1]x:1":                    "[::1]:6379",
		"redis://[nonsense]:1":                "IPv6",
		"unix://":                             "unix:///run/redis.sock",
		"unix://host/path":                    "absolute path",
		"unix:///%zz":                         "percent-encoded",
		"redis+sentinel://a/ma ster":          "master",
		"redis+sentinel://a/m/x":              "database",
		"redis+cluster://a/1":                 "only 0",
		"redis+cluster://a?db=1":              "only 0",
		"redis+cluster://a,":                  "no host",
		"embedded://a b":                      "embedded://tests",
		"embedded://u:p@x":                    "embedded://tests",
		"embedded://x/y":                      "embedded://tests",
		"redis://:pass/word@h":                "percent-encode",
		"redis://:pass?word@h":                "percent-encode",
		"redis://:pass#word@h":                "percent-encode",
		"redis://h/0@1":                       "percent-encode",
		"redis://" + strings.Repeat("h", 300): "host",
	} {
		_, err := parseURL(raw)
		if !errors.Is(err, ErrInvalidOptions) {
			t.Errorf("%s: got %v; want ErrInvalidOptions", raw, err)
			continue
		}
		if !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error %q does not say %q in one line", raw, err, remedy)
		}
	}
}

// secretURLs have a password that an URL parser may trip over.
var secretURLs = []string{
	"redis://user:CANARY@host:1", "redis://:CANARY@host:x", "redis://:CANARY@", "redis://:CANARY",
	"redis://:CANARY/x@host", "redis://:x/CANARY@host", "redis://:x?CANARY@host", "redis://:x?a=CANARY@host",
	"redis://:x#CANARY@host", "redis://:%zzCANARY@host", "redis://:CANARY%@host", "CANARY://host", "CANARY",
	"redis//:CANARY@host", "redis:///CANARY", "redis://host/CANARY", "redis://host?db=CANARY", "redis://host?a=CANARY",
	"redis://host?CANARY=1", "redis://[CANARY]", "redis://[::1]CANARY", "unix://CANARY/x", "unix://:CANARY@", "embedded://u:CANARY@x",
	"redis+sentinel://:CANARY@a/m/x", "redis+sentinel://a/CAN ARY", "redis+cluster://:CANARY@a/4", "rediss://:CANARY@h?skip_verify=1",
	"redis://:a@CANARY@host:x", "redis://host?dial_timeout=CANARY", "redis://CANARY:x", "x://:CANARY@h",
}

func TestParseURL_never_repeats_what_may_be_a_secret(t *testing.T) {
	t.Parallel()
	for _, raw := range secretURLs {
		raw = strings.ReplaceAll(raw, "CANARY", "C4n4ry") // not the form of a name of ours
		if _, err := parseURL(raw); err != nil && strings.Contains(err.Error(), "C4n4ry") {
			t.Errorf("%s: the error repeats the secret: %v", raw, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, raw := range secretURLs {
		f.Add(raw)
	}
	for _, raw := range []string{
		"redis://%zzC4n4ry:p@h", "redis://C4n4ry%:p@h", "redis://C4n4ry:C4n4ry@h/x", "redis://u:p@h:1/2?db=3", "redis+sentinel://a,b/m", "redis+cluster://[::1]:1,b", "embedded://x", "unix://u:p@/a?db=1", "rediss://h?max_retries=0",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseURL(raw)
		if err != nil {
			if !errors.Is(err, ErrInvalidOptions) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %v", raw, err)
			}
			colon, at := credentials(raw)
			if repeats(refusal, raw, strings.Index(raw, "://")+len("://"), colon) || repeats(refusal, raw, colon+1, at) {
				t.Fatalf("%q: the error repeats the user or the password: %v", raw, err)
			}
			return
		}
		if got.kind != unixSocket && got.kind != embedded && len(got.addrs) == 0 {
			t.Fatalf("%q: no address", raw)
		}
		if got.db < 0 || (got.kind == cluster && got.db != 0) {
			t.Fatalf("%q: database %d", raw, got.db)
		}
		if strings.Contains(got.endpoint(), "@") && got.kind != unixSocket {
			t.Fatalf("%q: the endpoint %q may hold credentials", raw, got.endpoint())
		}
		if again, err := parseURL(written(got)); err != nil || !reflect.DeepEqual(again.addrs, got.addrs) || again.username != got.username ||
			again.password != got.password || again.db != got.db || again.path != got.path || again.master != got.master {
			t.Fatalf("%q: written as %q it is read as %+v, %v; want %+v", raw, written(got), again, err, got)
		}
		if _, err := (Options{URL: raw}).newClientForFuzz(got); err != nil {
			t.Fatalf("%q: accepted, but no client comes of it: %v", raw, err)
		}
	})
}

func refusal(raw string) error {
	_, err := parseURL(raw)
	return err
}

// credentials tells where the first ':' is behind the scheme, and the last '@'. There are
// none if both are 0.
func credentials(raw string) (colon, at int) {
	scheme, rest, _ := strings.Cut(raw, "://")
	end := strings.LastIndexByte(rest, '@')
	if end < 0 {
		return 0, 0
	}
	from := len(scheme) + len("://")
	colon = strings.IndexByte(rest[:end], ':')
	if colon < 0 {
		colon = end
	}
	return from + colon, from + end
}

// repeats tells whether an error holds a part of the URL because the URL did, and not
// because our own words are like it: with other characters in that part it holds those.
func repeats(refusal func(string) error, raw string, from, to int) bool {
	if from >= to || to-from < 3 || !strings.Contains(refusal(raw).Error(), raw[from:to]) {
		return false
	}
	hex := 0 // digits of a %xx to come, which stay, as does what stands between parts
	other := strings.Map(func(r rune) rune {
		switch {
		case hex > 0:
			hex--
		case r == '%':
			hex = 2
		case r >= 'a' && r <= 'z':
			return 'a' + (r-'a'+13)%26
		case r >= 'A' && r <= 'Z':
			return 'A' + (r-'A'+13)%26
		case r >= '0' && r <= '9':
			return '0' + (r-'0'+5)%10
		case r == '-' || r == '_' || r == '.' || r == '~' || r == '!' || r == '*':
			return []rune("_-~.*!")[strings.IndexRune("-_.~!*", r)]
		case r > 0xff && r < 0xd000:
			return r ^ 1
		}
		return r
	}, raw[from:to])
	again := refusal(raw[:from] + other + raw[to:])
	return other != raw[from:to] && again != nil && strings.Contains(again.Error(), other)
}

// The check of FuzzParseURL finds what an error says of an URL, whatever characters it
// has, and takes none of our own words for a secret.
func TestRepeats_tells_what_an_error_has_from_the_URL(t *testing.T) {
	t.Parallel()
	echo := func(raw string) error { return errors.New("no good: " + raw) }
	for raw, test := range map[string]struct {
		refusal func(string) error
		part    string
		want    bool
	}{
		"nonesuch://h":                  {refusal, "nonesuch", true},
		"reddis://h":                    {refusal, "reddis", true},
		"redis://:secret@h/x":           {echo, "secret", true},
		"redis://:4711@h/x":             {echo, "4711", true},
		"redis://:-_.@h/x":              {echo, "-_.", true},
		"redis://:\u00fc\u20ac\u4e16@h": {echo, "\u00fc\u20ac\u4e16", true},
		"redis://:%41b%zz@h":            {echo, "%41b%zz", true},
		"redis://u:password@h/a@b":      {refusal, "password", false}, // words of the error
		"redis://u:database@h/x":        {refusal, "database", false},
		"redis://u:%2F@h/a@b":           {refusal, "%2F", false},
	} {
		err := test.refusal(raw)
		if err == nil || !strings.Contains(err.Error(), test.part) {
			t.Errorf("%q: %v has no %s: this shows nothing", raw, err, test.part)
			continue
		}
		from := strings.Index(raw, test.part)
		if got := repeats(test.refusal, raw, from, from+len(test.part)); got != test.want {
			t.Errorf("%q: %v is told to repeat %s: %t", raw, err, test.part, got)
		}
	}
}

// written is an URL that means t.
func written(t target) string {
	for name, scheme := range schemes {
		if scheme.kind != t.kind || scheme.tls != t.tls {
			continue
		}
		text := name + "://"
		if t.userinfo {
			text += url.QueryEscape(t.username) + ":" + url.QueryEscape(t.password) + "@"
			text = strings.ReplaceAll(text, "+", "%20")
			text = strings.Replace(text, strings.ReplaceAll(name, "+", "%20")+"://", name+"://", 1)
		}
		switch t.kind {
		case embedded:
			return text + t.name
		case unixSocket:
			return text + strings.ReplaceAll(url.PathEscape(t.path), "%2F", "/") + "?db=" + strconv.Itoa(t.db)
		case sentinel:
			return text + strings.Join(t.addrs, ",") + "/" + t.master + "?db=" + strconv.Itoa(t.db)
		case cluster:
			return text + strings.Join(t.addrs, ",")
		}
		return text + strings.Join(t.addrs, ",") + "/" + strconv.Itoa(t.db)
	}
	return ""
}

// newClientForFuzz makes the client and closes it again.
func (o Options) newClientForFuzz(t target) (bool, error) {
	if t.kind == embedded {
		return false, nil
	}
	client, err := o.newClient(t)
	if err != nil {
		return false, err
	}
	return true, client.Close()
}

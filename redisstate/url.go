package redisstate

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is how the servers behind an URL work together.
type kind int

const (
	standalone kind = iota
	unixSocket
	sentinel
	cluster
	embedded
)

// target is what an URL says. Credentials and parameters are as written there;
// Options that are set win over them.
type target struct {
	kind     kind
	tls      bool
	addrs    []string // host:port
	path     string   // of the unix socket
	name     string   // of the embedded Redis
	master   string   // sentinel: the name of the master
	db       int
	dbInPath bool
	userinfo bool // the URL has a user or a password
	username string
	password string
	params   params
}

// params are the query parameters of an URL; zero means not given.
type params struct {
	clientName   string
	dialTimeout  time.Duration
	readTimeout  time.Duration
	writeTimeout time.Duration
	poolTimeout  time.Duration
	idleTimeout  time.Duration
	poolSize     int
	minIdleConns int
	maxRetries   int
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// schemes are the accepted ones with what they mean.
var schemes = map[string]struct {
	kind kind
	tls  bool
	port string
}{
	"redis":           {standalone, false, redisPort},
	"rediss":          {standalone, true, redisPort},
	"unix":            {unixSocket, false, ""},
	"redis+sentinel":  {sentinel, false, sentinelPort},
	"rediss+sentinel": {sentinel, true, sentinelPort},
	"redis+cluster":   {cluster, false, redisPort},
	"rediss+cluster":  {cluster, true, redisPort},
	"embedded":        {embedded, false, ""},
}

const schemeNames = "redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster or embedded"

// parseURL reads an URL by hand instead of by net/url, whose errors repeat the
// URL, password included, and which does not take several hosts. An error of
// parseURL repeats no part of the URL but a known-looking scheme and the name
// of a parameter.
func parseURL(raw string) (target, error) {
	name, rest, found := strings.Cut(raw, "://")
	if !found || !isSchemeName(name) {
		return target{}, invalid("URL has no scheme; use one like redis://localhost:6379 or embedded://")
	}
	scheme, known := schemes[name]
	if !known {
		return target{}, invalid("URL has the scheme %q; use %s", name, schemeNames)
	}
	authority, path, query := split(rest)
	if strings.Contains(path, "@") || strings.Contains(query, "@") {
		return target{}, invalid("URL has an '@' behind its host; percent-encode the password's special characters (/ is %%2F, ? is %%3F, # is %%23, @ is %%40)")
	}
	if strings.Contains(rest, "#") {
		return target{}, invalid("URL has a '#'; percent-encode it as %%23")
	}
	t := target{kind: scheme.kind, tls: scheme.tls}
	hosts, err := t.setUserinfo(authority)
	if err != nil {
		return target{}, err
	}
	values, err := parseQuery(query)
	if err != nil {
		return target{}, err
	}
	if err := t.setPlace(hosts, path, scheme.port); err != nil {
		return target{}, err
	}
	if err := t.setParams(values); err != nil {
		return target{}, err
	}
	if t.kind == cluster && t.db != 0 {
		return target{}, invalid("URL selects database %d, and Redis Cluster has only 0; leave it out", t.db)
	}
	return t, nil
}

func isSchemeName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && c != '+' {
			return false
		}
	}
	return s != "" && len(s) <= len("rediss+sentinel")
}

// split cuts what follows "scheme://" into authority, path (with its slash) and
// query. The authority ends at the first '/', '?' or '#' after it.
func split(rest string) (authority, path, query string) {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, rest = rest[:i], rest[i:]
	} else {
		return rest, "", ""
	}
	path, query, _ = strings.Cut(rest, "?")
	return authority, path, query
}

// setUserinfo takes user and password off the authority and returns the hosts.
// Like net/url it takes the last '@' as their end.
func (t *target) setUserinfo(authority string) (hosts string, err error) {
	i := strings.LastIndexByte(authority, '@')
	if i < 0 {
		return authority, nil
	}
	if several := t.kind == sentinel || t.kind == cluster; several && strings.Contains(authority[:i], "@") && strings.Contains(authority[:i], ",") {
		return "", invalid("URL has several hosts with user and password each; write those once, in front of all hosts (a comma or @ of a password itself is %%2C or %%40)")
	}
	user, password, _ := strings.Cut(authority[:i], ":")
	t.userinfo = true
	if t.username, err = url.PathUnescape(user); err != nil {
		return "", invalid("URL has a user that is not percent-encoded correctly; a %% itself is %%25")
	}
	if t.password, err = url.PathUnescape(password); err != nil {
		return "", invalid("URL has a password that is not percent-encoded correctly; a %% itself is %%25")
	}
	return authority[i+1:], nil
}

// setPlace reads hosts and path as the kind of target wants them.
func (t *target) setPlace(hosts, path, port string) (err error) {
	switch t.kind {
	case embedded:
		if t.userinfo || strings.Trim(path, "/") != "" || !isName(hosts) {
			return invalid("URL embedded:// takes a name of letters, digits and - . _ ~ or nothing, for example embedded://tests")
		}
		t.name = hosts
		return nil
	case unixSocket:
		if hosts != "" || len(path) < 2 {
			return invalid("URL unix:// needs the absolute path of the socket, for example unix:///run/redis.sock")
		}
		if t.path, err = url.PathUnescape(path); err != nil || strings.ContainsRune(t.path, 0) {
			return invalid("URL unix:// has a path that is not percent-encoded correctly")
		}
		return nil
	}
	if t.addrs, err = parseHosts(hosts, port); err != nil {
		return err
	}
	if t.kind == standalone && len(t.addrs) > 1 {
		return invalid("URL has %d hosts; use one, or redis+cluster:// or redis+sentinel:// for several", len(t.addrs))
	}
	elements := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	if len(elements) > 1 && slices.Contains(elements, "") {
		return invalid("URL has an empty path element; use redis://host:port/db or redis+sentinel://host:port/master/db")
	}
	if t.kind == sentinel {
		t.master = elements[0]
		if !isName(t.master) {
			return invalid("URL has a sentinel master that is not of letters, digits and - . _ ~")
		}
		elements = elements[1:]
	}
	switch {
	case len(elements) == 0 || (len(elements) == 1 && elements[0] == ""):
		return nil
	case len(elements) > 1:
		return invalid("URL has too many path elements; use redis://host:port/db or redis+sentinel://host:port/master/db")
	}
	t.db, err = parseDB(elements[0])
	t.dbInPath = true
	return err
}

// parseHosts reads host[:port],host[:port]...
func parseHosts(hosts, defaultPort string) ([]string, error) {
	var addrs []string
	for part := range strings.SplitSeq(hosts, ",") {
		host, port := part, defaultPort
		if strings.HasPrefix(part, "[") {
			end := strings.IndexByte(part, ']')
			if end < 0 || net.ParseIP(part[1:end]) == nil {
				return nil, invalid("URL has a '[' that is not around an IPv6 address; use [::1]:6379")
			}
			host, part = part[1:end], part[end+1:]
			if part != "" && part[0] != ':' {
				return nil, invalid("URL has something behind ']' that is not a port; use [::1]:6379")
			}
			if part != "" {
				port = part[1:]
			}
		} else {
			if h, p, found := strings.Cut(part, ":"); found {
				host, port = h, p
			}
			if host == "" {
				return nil, invalid("URL has no host; use one like redis://localhost:6379")
			}
			if !isName(host) {
				return nil, invalid("URL has a host that is not of letters, digits and - . _; percent-encode the password's special characters")
			}
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, invalid("URL has a port that is not a number from 1 to 65535 (it is one URL; lock masters stand in REDIS_LOCK_URLS)")
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs, nil
}

// isName tells whether s has only unreserved characters of RFC 3986.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return len(s) <= 255
}

// maxDB bounds the database number; servers are configured with far fewer.
const maxDB = 1 << 20

func parseDB(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxDB {
		return 0, invalid("URL has a database that is not a number from 0; use redis://host:port/0")
	}
	return int(n), nil
}

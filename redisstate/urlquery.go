package redisstate

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parameters are the query parameters that an URL may have.
var parameters = map[string]func(*target, string) error{
	"db": func(t *target, s string) error {
		db, err := parseDB(s)
		if err == nil && t.dbInPath && db != t.db {
			err = invalid("URL selects database %d in its path and %d by ?db; keep one", t.db, db)
		}
		t.db = db
		return err
	},
	"client_name":   func(t *target, s string) error { return setName(&t.params.clientName, "client_name", s) },
	"dial_timeout":  func(t *target, s string) error { return setDuration(&t.params.dialTimeout, "dial_timeout", s) },
	"read_timeout":  func(t *target, s string) error { return setDuration(&t.params.readTimeout, "read_timeout", s) },
	"write_timeout": func(t *target, s string) error { return setDuration(&t.params.writeTimeout, "write_timeout", s) },
	"pool_timeout":  func(t *target, s string) error { return setDuration(&t.params.poolTimeout, "pool_timeout", s) },
	"idle_timeout":  func(t *target, s string) error { return setDuration(&t.params.idleTimeout, "idle_timeout", s) },
	"pool_size":     func(t *target, s string) error { return setInt(&t.params.poolSize, "pool_size", s, maxPoolSize) },
	"min_idle_conns": func(t *target, s string) error {
		return setInt(&t.params.minIdleConns, "min_idle_conns", s, maxPoolSize)
	},
	"max_retries": func(t *target, s string) error {
		err := setInt(&t.params.maxRetries, "max_retries", s, maxRetries)
		if err == nil && t.params.maxRetries == 0 {
			t.params.maxRetries = -1 // none, where 0 is the default
		}
		return err
	},
}

// parseQuery reads name=value&name=value. Names are checked by setParams.
func parseQuery(query string) (map[string]string, error) {
	values := make(map[string]string)
	if query == "" {
		return values, nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if !isParameterName(name) {
			return nil, invalid("URL has a malformed query; use ?name=value&name=value with %s", parameterNames())
		}
		if _, twice := values[name]; twice {
			return nil, invalid("URL has the parameter %q twice; keep one", name)
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			return nil, invalid("URL has a parameter %q that is not percent-encoded correctly", name)
		}
		values[name] = decoded
	}
	return values, nil
}

// isParameterName keeps what may be part of a mistyped password out of errors.
func isParameterName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

func parameterNames() string {
	return strings.Join(slices.Sorted(maps.Keys(parameters)), ", ")
}

// setParams applies the query. Parameters that tune the connection say nothing to a
// Redis inside the process.
func (t *target) setParams(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		set, known := parameters[name]
		switch {
		case name == "skip_verify" || name == "insecure_skip_verify":
			return invalid("URL has the parameter %q; certificates are always verified: name your CA with REDIS_TLS_CA or Options.TLS", name)
		case !known:
			return invalid("URL has the unknown parameter %q; use %s", name, parameterNames())
		}
		if err := set(t, values[name]); err != nil {
			return err
		}
	}
	return nil
}

func setName(field *string, name, s string) error {
	if s == "" || !isClientName(s) {
		return invalid("URL parameter %s has characters other than letters, digits and - . _ ~ :", name)
	}
	*field = s
	return nil
}

// isClientName tells whether Redis takes s for CLIENT SETNAME.
func isClientName(s string) bool {
	return isName(strings.ReplaceAll(s, ":", "."))
}

func setDuration(field *time.Duration, name, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return invalid("URL parameter %s is not a positive duration; write it with a unit, like 3s or 500ms", name)
	}
	*field = d
	return nil
}

func setInt(field *int, name, s string, most int) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || int(n) > most {
		return invalid("URL parameter %s is not a number from 0 to %d", name, most)
	}
	*field = int(n)
	return nil
}

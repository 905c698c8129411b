package redisstate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// OptionsFromEnv returns base with what it leaves unset filled from the
// environment. Code wins over environment, field by field:
//
//	REDIS_URL                where Redis is, see Options.URL
//	REDIS_USERNAME           user, wins over the user in REDIS_URL
//	REDIS_PASSWORD           password, wins over the password in REDIS_URL
//	REDIS_TLS                true or false
//	REDIS_TLS_CA             file of trusted certificates
//	REDIS_TLS_CERT           file of our own certificate
//	REDIS_TLS_KEY            file of its key
//	REDIS_TLS_SERVER_NAME    name in the server's certificate
//	REDIS_SENTINEL_MASTER    name of the master, wins over the one in REDIS_URL
//	REDIS_SENTINEL_USERNAME  user for the sentinels
//	REDIS_SENTINEL_PASSWORD  password for the sentinels
//	REDIS_CLIENT_NAME        name in CLIENT LIST
//	REDIS_NAMESPACE          prefix of the keys
//	REDIS_TTL                time to live of configs, like 24h
//	REDIS_MAX_CONFIG_BYTES   largest config, in bytes
//	REDIS_NEAR_CACHE_BYTES   bound of the in-process cache, in bytes; -1 is none
//	REDIS_COMPRESSION        none, s2 or zstd
//	REDIS_ENCRYPTION_KEYS    id:base64,id:base64; newest first
//	REDIS_ENCRYPTION_KEYS_FILE  file of id:base64 lines; newest first
//	REDIS_REQUIRE_ENCRYPTION true refuses stored values that are not encrypted
//	REDIS_SLOW_THRESHOLD     duration from which operations are logged, like 100ms
//
// So for a user and for a password the order is: Options.Username and Password,
// then those in an URL given in code, then REDIS_USERNAME and REDIS_PASSWORD,
// then those in REDIS_URL. REDIS_USERNAME is not combined with a password in a
// code's URL. With a Client in code the variables of the connection are
// ignored. A variable that is empty counts as unset. The file of keys is read
// here, once; see ReadEncryptionKeys for reading it again.
//
// Lookup finds a variable; nil means os.LookupEnv. Errors wrap
// ErrInvalidOptions and name each variable that is malformed, never its value;
// the options returned beside them have what the other variables say.
// What the options mean together is checked by Validate, Connect and NewStore.
func OptionsFromEnv(base Options, lookup func(name string) (value string, found bool)) (Options, error) {
	if lookup == nil {
		lookup = os.LookupEnv
	}
	env := environment{lookup: lookup}
	o := base
	if o.Client == nil {
		env.connection(&o)
	}
	env.string(&o.Namespace, "REDIS_NAMESPACE")
	env.duration(&o.TTL, "REDIS_TTL")
	env.int(&o.MaxConfigBytes, "REDIS_MAX_CONFIG_BYTES")
	env.int64(&o.NearCacheBytes, "REDIS_NEAR_CACHE_BYTES")
	env.string((*string)(&o.Compression), "REDIS_COMPRESSION")
	env.keys(&o.Keys, "REDIS_ENCRYPTION_KEYS", "REDIS_ENCRYPTION_KEYS_FILE")
	env.truth(&o.RequireEncryption, "REDIS_REQUIRE_ENCRYPTION")
	env.duration(&o.SlowThreshold, "REDIS_SLOW_THRESHOLD")
	if err := errors.Join(env.errs...); err != nil {
		return o, err
	}
	return o, nil
}

// environment fills fields that are unset and collects what is malformed.
type environment struct {
	lookup func(string) (string, bool)
	errs   []error
}

func (e *environment) connection(o *Options) {
	var inCode target
	if o.URL != "" {
		inCode, _ = parseURL(o.URL) // a bad URL is Validate's to report
	}
	e.string(&o.URL, "REDIS_URL")
	fromEnv, _ := e.get("REDIS_URL")
	if inCode.username == "" && inCode.password == "" {
		e.string(&o.Username, "REDIS_USERNAME")
	}
	if inCode.password == "" {
		e.string(&o.Password, "REDIS_PASSWORD")
	}
	e.tlsMode(&o.TLS.Mode, "REDIS_TLS")
	if o.TLS.Config == nil {
		e.string(&o.TLS.CAFile, "REDIS_TLS_CA")
		e.string(&o.TLS.CertFile, "REDIS_TLS_CERT")
		e.string(&o.TLS.KeyFile, "REDIS_TLS_KEY")
		e.string(&o.TLS.ServerName, "REDIS_TLS_SERVER_NAME")
	}
	if o.URL == fromEnv || inCode.kind == sentinel { // else it is for another Redis than the one in code
		e.string(&o.SentinelMaster, "REDIS_SENTINEL_MASTER")
	}
	e.string(&o.SentinelUsername, "REDIS_SENTINEL_USERNAME")
	e.string(&o.SentinelPassword, "REDIS_SENTINEL_PASSWORD")
	e.string(&o.ClientName, "REDIS_CLIENT_NAME")
}

func (e *environment) get(name string) (string, bool) {
	value, found := e.lookup(name)
	return value, found && value != ""
}

func (e *environment) malformed(name, remedy string) {
	e.errs = append(e.errs, invalid("%s is malformed; use %s", name, remedy))
}

func (e *environment) string(field *string, name string) {
	if *field != "" {
		return
	}
	if value, ok := e.get(name); ok {
		*field = value
	}
}

func (e *environment) duration(field *time.Duration, name string) {
	if *field != 0 {
		return
	}
	if value, ok := e.get(name); ok {
		d, err := time.ParseDuration(value)
		if err != nil {
			e.malformed(name, "a duration with a unit, like 100ms or 24h")
		}
		*field = d
	}
}

func (e *environment) int(field *int, name string) {
	wide := int64(*field)
	e.int64(&wide, name)
	*field = int(wide)
}

func (e *environment) int64(field *int64, name string) {
	if *field != 0 {
		return
	}
	if value, ok := e.get(name); ok {
		n, err := strconv.ParseInt(value, 10, strconv.IntSize)
		if err != nil {
			e.malformed(name, "a number of bytes, like 1048576")
		}
		*field = n
	}
}

// truth can only switch on: false in code is not told apart from unset.
func (e *environment) truth(field *bool, name string) {
	switch value, ok := e.get(name); {
	case !ok || *field:
	case value == "true":
		*field = true
	case value != "false":
		e.malformed(name, "true or false")
	}
}

func (e *environment) keys(field **KeyRing, listName, fileName string) {
	if *field != nil {
		return
	}
	list, inList := e.get(listName)
	file, inFile := e.get(fileName)
	var keys []EncryptionKey
	var err error
	name := listName
	switch {
	case inList && inFile:
		e.errs = append(e.errs, invalid("%s and %s are both set; use one of them", listName, fileName))
		return
	case inList:
		keys, err = ParseEncryptionKeys(list)
	case inFile:
		name = fileName
		keys, err = ReadEncryptionKeys(file)
	default:
		return
	}
	if err == nil {
		*field, err = NewKeyRing(keys...)
	}
	if err != nil {
		*field = nil
		e.errs = append(e.errs, fmt.Errorf("%s: %w", name, err))
	}
}

func (e *environment) tlsMode(field *TLSMode, name string) {
	if *field != TLSByURL {
		return
	}
	switch value, ok := e.get(name); {
	case !ok:
	case value == "true":
		*field = TLSOn
	case value == "false":
		*field = TLSOff
	default:
		e.malformed(name, "true or false")
	}
}

package rediserr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// passing are the error codes of replies that pass by themselves. Source: the
// codes in Redis 7.0's server.c (shared.*err) and cluster.c; BUSY and OOM pass
// when a script ends or keys expire.
var passing = []string{
	"LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
	"OOM", "BUSY", "MISCONF", "MOVED", "ASK", "UNBLOCKED", "NOQUORUM", "NOGOODSLAVE", "INPROG",
}

// deniedCodes need an operator.
var deniedCodes = []string{"NOAUTH", "WRONGPASS", "NOPERM", "DENIED"}

func classifyReply(err error, text string) Class {
	// EXECABORT hides why: Redis refused a command inside the MULTI, and
	// go-redis keeps the reason in the command's own error. Out of memory is
	// by far the usual one, and the classification of the whole falls there.
	if redis.IsExecAbortError(err) {
		return Unavailable
	}
	if redis.IsMaxClientsError(err) {
		return Unavailable
	}
	return classifyText(text)
}

func classifyText(text string) Class {
	text = strings.TrimPrefix(text, "ERR ")
	for _, code := range deniedCodes {
		if hasCode(text, code) {
			return Denied
		}
	}
	for _, code := range passing {
		if hasCode(text, code) {
			return Unavailable
		}
	}
	switch {
	case strings.HasPrefix(text, "max number of clients reached"),
		strings.HasPrefix(text, "redis: all sentinels specified in configuration are unreachable"),
		strings.HasPrefix(text, "redis: cluster has no"),
		strings.HasPrefix(text, "redis: connection pool"):
		return Unavailable
	// An ACL denial inside a script has no NOPERM code (Redis 7.0).
	case strings.Contains(text, "ACL failure in script"),
		strings.HasPrefix(text, "AUTH <password> called without any password configured"),
		strings.HasPrefix(text, "invalid username-password pair"):
		return Denied
	}
	return Permanent
}

func hasCode(text, code string) bool {
	rest, ok := strings.CutPrefix(text, code)
	return ok && (rest == "" || rest[0] == ' ')
}

// isDenied recognises TLS handshakes that fail for a reason of trust, which no
// waiting mends.
func isDenied(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		unknownCA    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	return errors.As(err, &verification) || errors.As(err, &unknownCA) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &record) || errors.As(err, &alert)
}

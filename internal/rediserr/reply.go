package rediserr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
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

// shutOutCodes refuse a connection, and deniedCodes need an operator.
var (
	shutOutCodes = []string{"NOAUTH", "WRONGPASS", "DENIED"}
	deniedCodes  = append(slices.Clip(shutOutCodes), "NOPERM")
)

func classifyReply(err error, text string) Class {
	// EXECABORT hides why: Redis refused a command inside the MULTI, and
	// go-redis keeps the reason in the command's own error. Out of memory is
	// by far the usual one, and the classification of the whole falls there.
	if redis.IsExecAbortError(err) || errors.Is(err, redis.TxFailedErr) {
		return Unavailable
	}
	return classifyText(text)
}

// classifyClient decides about errors that the client made itself. They are
// about a connection that broke or could not be had, but for one: arguments
// that it cannot send.
func classifyClient(text string) Class {
	if strings.HasPrefix(text, "redis: ") && !strings.HasPrefix(text, "redis: can't marshal") {
		return Unavailable
	}
	return classifyText(text)
}

// replyText is the text of a reply from its code on. What a script ran into has
// its code in front since Redis 7.0 ("OOM command not allowed ... script: ..."),
// and before, and in servers made from those, behind words of its own: "ERR Error
// running script (call to f_...): @user_script:1: -OOM command not allowed ...".
func replyText(text string) string {
	text = strings.TrimPrefix(text, "ERR ")
	if strings.HasPrefix(text, "Error running script") {
		if _, said, found := strings.Cut(text, ": -"); found {
			return strings.TrimPrefix(said, "ERR ")
		}
	}
	return text
}

func tooManyClients(text string) bool { return strings.HasPrefix(text, "max number of clients") }

func classifyText(text string) Class {
	text = replyText(text)
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
	case tooManyClients(text),
		// An operator ended our script, as BUSY tells them to.
		strings.HasPrefix(text, "Script killed by user"):
		return Unavailable
	// An ACL denial inside a script has no NOPERM code (Redis 7.0), and in some
	// of the forms nothing but this beginning.
	case strings.Contains(text, "ACL failure in script"),
		strings.HasPrefix(text, "The user executing the script can't"),
		strings.HasPrefix(text, "AUTH <password> called without any password configured"),
		strings.HasPrefix(text, "Client sent AUTH, but no password is set"),
		strings.HasPrefix(text, "invalid username-password pair"),
		strings.HasPrefix(text, "invalid password"):
		return Denied
	}
	return Permanent
}

func hasCode(text, code string) bool {
	rest, ok := strings.CutPrefix(text, code)
	return ok && (rest == "" || rest[0] == ' ')
}

// isDenied recognises TLS handshakes that fail for a reason of trust, which no
// waiting mends. crypto/tls reports an alert as an operation of this name.
func isDenied(err error) bool {
	var operation *net.OpError
	if errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error") {
		return true
	}
	var (
		verification *tls.CertificateVerificationError
		unknownCA    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
	)
	return errors.As(err, &verification) || errors.As(err, &unknownCA) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &record)
}

// IsShutOut tells whether Redis did not let the connection in, as against a command
// that the user may not use.
func IsShutOut(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && slices.ContainsFunc(shutOutCodes, func(code string) bool { return hasCode(reply.Error(), code) })
}

// IsWrongType tells whether Redis refused a command because the key holds
// another type of value.
func IsWrongType(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && hasCode(reply.Error(), "WRONGTYPE")
}

// Settle has every command of a pipeline that was not sent fail, and passes on what
// Exec returned. go-redis leaves them without an error if the server refuses a new
// connection (a password that was changed, too many clients), and a nothing that
// nobody said would be read as an answer: that a value is empty, that a lock is
// granted, or that a lease is gone.
func Settle(cmds []redis.Cmder, err error) ([]redis.Cmder, error) {
	if err == nil {
		return cmds, nil
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return cmds, err // one of them was answered, or all failed
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return cmds, err
}

// Reason is the error that says most about a pipeline or transaction: err as
// Exec returned it, unless that only says that a key is missing or that a
// transaction was refused because of one of its commands.
func Reason(err error, cmds []redis.Cmder) error {
	missing, aborted := errors.Is(err, redis.Nil), redis.IsExecAbortError(err)
	if !missing && !aborted {
		return err
	}
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) && !redis.IsExecAbortError(e) {
			return e
		}
	}
	if aborted {
		return err
	}
	return nil
}

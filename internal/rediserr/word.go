package rediserr

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Word says in one word why Redis did not serve an operation. There are few of
// them, so that they can be the values of a metric's label, and none holds a part
// of an error's text.
type Word string

// The words.
const (
	WordNone        Word = ""            // nothing is wrong
	WordConnection  Word = "connection"  // there is none, or it broke
	WordTimeout     Word = "timeout"     // it is there, and nothing was answered in time
	WordPool        Word = "pool"        // this process has no connection left to give out
	WordClients     Word = "clients"     // Redis takes no more connections
	WordLoading     Word = "loading"     // Redis reads its data after a start
	WordBusy        Word = "busy"        // a script runs for too long
	WordReadOnly    Word = "readonly"    // it is a replica
	WordNoReplicas  Word = "noreplicas"  // min-replicas-to-write is not met
	WordOOM         Word = "oom"         // maxmemory is reached
	WordMisconf     Word = "misconf"     // Redis cannot write to its disk
	WordClusterDown Word = "clusterdown" // a slot has no master, or this one is cut off
	WordMasterDown  Word = "masterdown"  // a replica without its master
	WordFailover    Word = "failover"    // another server takes over, or slots move
	WordDenied      Word = "denied"      // user, password or ACL rules
	WordTLS         Word = "tls"         // the handshake failed for a reason of trust
	WordConflict    Word = "conflict"    // WATCH saw a change: Redis is well
	WordRefused     Word = "refused"     // a reply of another kind
	WordOther       Word = "other"       // none of these
)

// wordsOfCodes are the words of the error codes that replies begin with.
var wordsOfCodes = map[string]Word{
	"LOADING": WordLoading, "BUSY": WordBusy, "READONLY": WordReadOnly, "NOREPLICAS": WordNoReplicas,
	"OOM": WordOOM, "MISCONF": WordMisconf, "CLUSTERDOWN": WordClusterDown, "MASTERDOWN": WordMasterDown,
	"TRYAGAIN": WordFailover, "MOVED": WordFailover, "ASK": WordFailover, "UNBLOCKED": WordFailover,
	"NOQUORUM": WordFailover, "NOGOODSLAVE": WordFailover, "INPROG": WordFailover,
	"NOAUTH": WordDenied, "WRONGPASS": WordDenied, "NOPERM": WordDenied, "DENIED": WordDenied,
}

// Words are all that Why gives, for those who make a metric of each.
func Words() []Word {
	return []Word{
		WordConnection, WordTimeout, WordPool, WordClients, WordLoading, WordBusy, WordReadOnly, WordNoReplicas, WordOOM,
		WordMisconf, WordClusterDown, WordMasterDown, WordFailover, WordDenied, WordTLS, WordConflict, WordRefused, WordOther,
	}
}

// Why is the word for err. It looks at the cause only; what err means for the
// caller is Classify's to say.
func Why(err error) Word {
	switch {
	case err == nil:
		return WordNone
	case errors.Is(err, redis.TxFailedErr):
		return WordConflict
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return whyRefused(reply.Error())
	}
	var waited net.Error
	switch {
	case isDenied(err):
		return WordTLS
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return WordPool
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &waited) && waited.Timeout():
		return WordTimeout
	case classifyPlain(err) == Unavailable:
		return WordConnection
	}
	return WordOther
}

func whyRefused(text string) Word {
	text = replyText(text)
	code, _, _ := strings.Cut(text, " ")
	if word, known := wordsOfCodes[code]; known {
		return word
	}
	switch {
	case tooManyClients(text):
		return WordClients
	case classifyText(text) == Denied:
		return WordDenied
	}
	return WordRefused
}

// IsReply tells whether Redis itself said err.
func IsReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// AboutConnection tells whether the word is about the way to Redis, so that others
// may be served on connections that they have. The other words come from Redis
// itself, and hold for everybody.
func (w Word) AboutConnection() bool {
	switch w {
	case WordConnection, WordTimeout, WordPool, WordClients, WordOther:
		return true
	}
	return false
}

package locking

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// maxHolder bounds Options.Holder in bytes.
const maxHolder = 256

// holder is what stands behind the token in a lock, for people who look at it.
type holder struct {
	By string `json:"by"`
	At int64  `json:"at"` // by the clock of Redis, in microseconds
}

// text is what is stored.
func (h holder) text() string {
	text, err := json.Marshal(h)
	if err != nil { // strings and numbers can always be written
		return ""
	}
	return string(text)
}

// holderOf reads what stands behind a token; a lock of another making has nothing.
func holderOf(value string) (h holder) {
	if len(value) > tokenLen {
		_ = json.Unmarshal([]byte(value[tokenLen:]), &h) // then it is not told
	}
	return h
}

// tokenOf cuts off what stands behind a token.
func tokenOf(value string) string { return value[:min(len(value), tokenLen)] }

func (h holder) age(now time.Time) time.Duration {
	if h.At == 0 {
		return 0
	}
	return max(now.Sub(time.UnixMicro(h.At)), 0)
}

// defaultHolder names this process.
func defaultHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", strings.ToValidUTF8(host, ""), os.Getpid())
}

package locking

import "sync"

// lossesKept is how many losses are remembered. They are rare.
const lossesKept = 1024

// losses are the tokens of the last leases of one Manager that were lost. It is safe for
// concurrent use; nil has none.
type losses struct {
	mu     sync.Mutex
	tokens map[string]bool
	order  []string
}

func (l *losses) add(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens == nil {
		l.tokens = make(map[string]bool)
	}
	if len(l.order) == lossesKept {
		delete(l.tokens, l.order[0])
		l.order = l.order[1:]
	}
	l.tokens[token] = true
	l.order = append(l.order, token)
}

func (l *losses) has(token string) bool {
	if l == nil || token == "" {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tokens[token]
}

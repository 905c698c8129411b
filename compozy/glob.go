package compozy

import (
	"fmt"
	"path"
	"strings"
)

// glob is a pattern of PSUBSCRIBE (https://redis.io/docs/latest/commands/psubscribe).
type glob struct{ pattern string }

func newGlob(pattern string) (glob, error) {
	g := glob{pattern}
	if _, err := path.Match(flat(pattern), ""); err != nil {
		return g, fmt.Errorf("%q is no pattern: %w; close what [ opens, and put \\ before what stands for itself", pattern, err)
	}
	return g, nil
}

// flat takes out the slash, the one character that path.Match treats otherwise than
// Redis does. A byte that no text has stands for it.
func flat(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

func (g glob) matches(channel string) bool {
	ok, err := path.Match(flat(g.pattern), flat(channel))
	return err == nil && ok
}

// plain is what stands before the first character with a meaning.
func (g glob) plain() string {
	before, _, _ := strings.Cut(strings.NewReplacer("?", "*", "[", "*", "\\", "*").Replace(g.pattern), "*")
	return before
}

// workflows tells whether it may match channels workflow:<id>.
func (g glob) workflows() bool {
	plain := g.plain()
	return strings.HasPrefix(plain, workflowChannel) || (plain != g.pattern && strings.HasPrefix(workflowChannel, plain))
}

// others tells whether it may match other channels.
func (g glob) others() bool { return !strings.HasPrefix(g.plain(), workflowChannel) }

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/worker"
)

// lockLine is a held lock in JSON; what it says is what locking.Held says.
type lockLine struct {
	Resource string `json:"resource"`
	Holder   string `json:"holder"`
	Age      int64  `json:"age_ms"`
	TTL      int64  `json:"ttl_ms"`
	Fence    uint64 `json:"fence"`
	Waiters  *int   `json:"waiters"` // null: Redis does not tell
	Masters  int    `json:"masters"`
	Of       int    `json:"of"`
}

func locks(ctx context.Context, args []string, s streams, env lookup) error {
	f := flag.NewFlagSet("temporal-redis locks", flag.ContinueOnError)
	var c connection
	c.flags(f)
	asJSON := f.Bool("json", false, "one JSON array instead of a table")
	if err := parse(f, args, s); err != nil {
		return err
	}
	return c.with(ctx, s, env, func(ctx context.Context, plugin *worker.Plugin) error {
		manager, err := plugin.Locks(ctx)
		if err != nil {
			return err
		}
		held, err := manager.List(ctx)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(s, held)
		}
		return writeTable(s, held, c.prefix(env))
	})
}

func writeJSON(s streams, held []locking.Held) error {
	lines := make([]lockLine, 0, len(held))
	for _, h := range held {
		line := lockLine{
			Resource: h.Resource, Holder: h.Holder, Age: h.Age.Milliseconds(), TTL: h.TTL.Milliseconds(),
			Fence: h.Fence, Masters: h.Masters, Of: h.Of,
		}
		if h.Waiters >= 0 {
			line.Waiters = &h.Waiters
		}
		lines = append(lines, line)
	}
	encoder := json.NewEncoder(plainJSON{s.out})
	encoder.SetIndent("", "  ")
	return encoder.Encode(lines)
}

func writeTable(s streams, held []locking.Held, namespace string) error {
	if len(held) == 0 {
		_, err := fmt.Fprintf(s.out, "no locks are held in the namespace %s\n", namespace)
		return err
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "RESOURCE\tHOLDER\tAGE\tTTL\tFENCE\tWAITERS\tMASTERS")
	for _, h := range held {
		waiters := "?"
		if h.Waiters >= 0 {
			waiters = strconv.Itoa(h.Waiters)
		}
		holder := h.Holder
		if holder == "" {
			holder = "?"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d of %d\n", quoted(h.Resource), quoted(holder),
			h.Age.Round(100*time.Millisecond), h.TTL.Round(100*time.Millisecond), h.Fence, waiters, h.Masters, h.Of)
	}
	return w.Flush()
}

// quoted is a name as it is, unless that would break the table or the terminal.
func quoted(name string) string {
	for _, r := range name {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(name)
		}
	}
	return name
}

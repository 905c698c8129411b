package redisstate

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
)

// canned answers in place of a server, so that benchmarks show what happens in
// the process and nothing of the network.
type canned struct {
	read    string // of GET and GETRANGE
	members []string
}

func (c canned) answer(cmd redis.Cmder) error {
	switch cmd := cmd.(type) {
	case *redis.StringCmd:
		if cmd.Name() == "set" { // NX GET of what is not there
			cmd.SetErr(redis.Nil)
			return redis.Nil
		}
		cmd.SetVal(c.read)
	case *redis.ScanCmd:
		cmd.SetVal(append([]string(nil), c.members...), 0)
	}
	return nil
}

func (canned) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c canned) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return c.answer(cmd) }
}

func (c canned) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) (first error) {
		for _, cmd := range cmds {
			if err := c.answer(cmd); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
}

// BenchmarkStore shows what operations that Redis has to answer allocate: our
// part and that of the client but for its reading and writing.
func BenchmarkStore(b *testing.B) {
	task, o := newBenchTask(), quiet()
	o.NearCacheBytes = -1
	w, err := newStore(b, newClient(b, newServer(b)), o).prepareOne(Entry{ID: "task", Workflow: "wf", Value: task})
	if err != nil {
		b.Fatal(err)
	}
	answers := canned{read: string(w.raw)}
	for i := range 100 {
		answers.members = append(answers.members, fmt.Sprintf("task-%03d", i))
	}
	client := redis.NewClient(&redis.Options{})
	defer func() { _ = client.Close() }()
	client.AddHook(answers)
	store := newStore(b, client, o)
	for name, do := range map[string]func() error{
		"set": func() error {
			_, err := store.Set(b.Context(), Entry{ID: "task", Workflow: "wf", Value: task})
			return err
		},
		"get by ref": func() error { _, err := store.Get(b.Context(), w.ref.Key()); return err },
		"scan 100": func() error {
			if n, err := store.Count(b.Context(), Scope{Workflow: "wf"}); n != 100 || err != nil {
				return fmt.Errorf("counted %d, %w", n, err)
			}
			return nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

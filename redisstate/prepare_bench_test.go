package redisstate

import (
	"strings"
	"testing"
)

// benchTask is a task config as hosts have them: a struct whose fields are not
// in the order of their names.
type benchTask struct {
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Agent     benchAgent        `json:"agent"`
	With      map[string]any    `json:"with"`
	Env       map[string]string `json:"env"`
	OnSuccess map[string]string `json:"on_success"`
	OnError   map[string]string `json:"on_error"`
	Timeout   string            `json:"timeout"`
	Retry     benchRetry        `json:"retry"`
}

type benchAgent struct {
	ID           string        `json:"id"`
	Model        string        `json:"model"`
	Instructions string        `json:"instructions"`
	Actions      []benchAction `json:"actions"`
}

type benchAction struct {
	ID     string `json:"id"`
	Prompt string `json:"prompt"`
	JSON   bool   `json:"json_mode"`
}

type benchRetry struct {
	Attempts int    `json:"max_attempts"`
	Initial  string `json:"initial_interval"`
	Max      string `json:"max_interval"`
}

func newBenchTask() *benchTask {
	return &benchTask{
		ID: "summarize", Type: "basic",
		Agent: benchAgent{
			ID: "writer", Model: "large-model", Instructions: strings.Repeat("Answer <briefly> & in plain words.\n", 20),
			Actions: []benchAction{{"a", strings.Repeat("Look at the input again. ", 18), true}, {"b", strings.Repeat("Say what is missing. ", 18), false}},
		},
		With: map[string]any{"depth": 3, "files": []string{"a.go", "b.go", "c.go"}, "ratio": 0.25, "query": "{{ .workflow.input.query }}"},
		Env:  map[string]string{"REGION": "eu-west-1", "STAGE": "production", "LEVEL": "debug"}, Timeout: "5m0s",
		OnSuccess: map[string]string{"next": "publish"}, OnError: map[string]string{"next": "notify"},
		Retry: benchRetry{3, "1s", "1m0s"},
	}
}

// BenchmarkPrepare is what Set does for one config before any byte goes out.
func BenchmarkPrepare(b *testing.B) {
	task := newBenchTask()
	for name, o := range map[string]Options{
		"plain":          {},
		"s2":             {Compression: CompressionS2},
		"zstd":           {Compression: CompressionZstd},
		"encrypted":      {Keys: mustRing(b, "a")},
		"zstd encrypted": {Keys: mustRing(b, "a"), Compression: CompressionZstd},
	} {
		b.Run(name, func(b *testing.B) {
			store := newStore(b, newClient(b, newServer(b)), o)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := store.prepareOne(Entry{ID: "2dRqJxW2jzNcu3Yy6cUEZZ1KqFQ", Workflow: "wf", Value: task}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

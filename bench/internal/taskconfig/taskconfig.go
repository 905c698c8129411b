// Package taskconfig makes normalized task configs in the shape of Compozy's,
// varied and the same for the same random numbers: what all rows of the
// benchmarks store.
//
// A config is about 2 KB of JSON, which is what a basic task with an agent, two
// actions and schemas comes to. Texts are sentences from a vocabulary of some
// hundred words, ids are random: so it compresses about as prose and JSON do,
// not as a repeated line would.
//
// Not for: tests of what Compozy's own types do.
package taskconfig

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Config is a task config. It decodes as Compozy's do: structs for what the
// engine knows, maps for what the user wrote.
type Config struct {
	ID           string            `json:"id"`
	Resource     string            `json:"resource"`
	Type         string            `json:"type"`
	Agent        *Agent            `json:"agent,omitempty"`
	Tool         *Tool             `json:"tool,omitempty"`
	With         map[string]any    `json:"with,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	InputSchema  map[string]any    `json:"input,omitempty"`
	OutputSchema map[string]any    `json:"output,omitempty"`
	OnSuccess    *Transition       `json:"on_success,omitempty"`
	OnError      *Transition       `json:"on_error,omitempty"`
	Timeout      string            `json:"timeout,omitempty"`
	Retries      int               `json:"retries,omitempty"`
	Final        bool              `json:"final"`
}

// Agent is who does a task.
type Agent struct {
	ID           string   `json:"id"`
	Model        Model    `json:"model"`
	Instructions string   `json:"instructions"`
	Actions      []Action `json:"actions"`
}

// Model is what an agent runs on.
type Model struct {
	Provider    string  `json:"provider"`
	Model       string  `json:"model"`
	Temperature float64 `json:"temperature"`
	MaxTokens   int     `json:"max_tokens"`
}

// Action is one thing that an agent can be asked to do.
type Action struct {
	ID     string         `json:"id"`
	Prompt string         `json:"prompt"`
	Output map[string]any `json:"output,omitempty"`
}

// Tool is code that does a task.
type Tool struct {
	ID          string `json:"id"`
	Description string `json:"description"`
}

// Transition is what follows a task.
type Transition struct {
	Next string `json:"next"`
}

// Make makes n configs, each with an id of its own.
func Make(r *rand.Rand, n int) []*Config {
	all := make([]*Config, n)
	for i := range all {
		all[i] = one(r, ID(r))
	}
	return all
}

// Copies makes n configs that differ in their ids and share the rest with
// templates: n different contents for little memory.
func Copies(r *rand.Rand, templates []*Config, n int) []*Config {
	all := make([]*Config, n)
	for i := range all {
		c := *templates[i%len(templates)]
		c.ID = ID(r)
		all[i] = &c
	}
	return all
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ID makes a random id of the length that Compozy's have.
func ID(r *rand.Rand) string {
	var id [27]byte
	for i := range id {
		id[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(id[:])
}

func one(r *rand.Rand, id string) *Config {
	name := slug(r)
	return &Config{
		ID:       id,
		Resource: "task",
		Type:     "basic",
		Agent: &Agent{
			ID: slug(r),
			Model: Model{
				Provider:    pick(r, "openai", "anthropic", "groq", "google", "mock"),
				Model:       pick(r, "large-2", "small-4", "reasoner-1", "flash-3"),
				Temperature: float64(r.IntN(11)) / 10,
				MaxTokens:   1024 << r.IntN(4),
			},
			Instructions: text(r, 3+r.IntN(3)),
			Actions: []Action{
				{ID: slug(r), Prompt: text(r, 3), Output: schema(r, 2)},
				{ID: slug(r), Prompt: text(r, 2)},
			},
		},
		With: map[string]any{
			"path":   "{{ .workflow.input." + word(r) + " }}/" + slug(r),
			"limit":  r.IntN(1000),
			"strict": r.IntN(2) == 0,
			"labels": []any{word(r), word(r), word(r)},
		},
		Env:          map[string]string{"REGION": pick(r, "eu-west-1", "us-east-2", "ap-south-1"), "TRACE_ID": ID(r)},
		InputSchema:  schema(r, 2),
		OutputSchema: schema(r, 2),
		OnSuccess:    &Transition{Next: name + "-" + word(r)},
		OnError:      &Transition{Next: "handle-" + word(r)},
		Timeout:      fmt.Sprintf("%ds", 30+r.IntN(300)),
		Retries:      r.IntN(5),
	}
}

// schema is a JSON schema of an object.
func schema(r *rand.Rand, properties int) map[string]any {
	fields := make(map[string]any, properties)
	var required []any
	for range properties {
		name := word(r) + "_" + word(r)
		fields[name] = map[string]any{
			"type":        pick(r, "string", "integer", "boolean", "array"),
			"description": text(r, 1),
		}
		required = append(required, name)
	}
	return map[string]any{"type": "object", "properties": fields, "required": required}
}

func pick(r *rand.Rand, choices ...string) string { return choices[r.IntN(len(choices))] }

func word(r *rand.Rand) string { return words[r.IntN(len(words))] }

func slug(r *rand.Rand) string { return word(r) + "-" + word(r) }

// text is a number of sentences of 7 to 13 words.
func text(r *rand.Rand, sentences int) string {
	var b strings.Builder
	for s := range sentences {
		if s > 0 {
			b.WriteByte(' ')
		}
		first := word(r)
		b.WriteString(strings.ToUpper(first[:1]) + first[1:])
		for range 6 + r.IntN(7) {
			b.WriteByte(' ')
			if r.IntN(3) == 0 {
				b.WriteString(pick(r, "the", "of", "and", "to", "in", "a", "for", "with", "each", "as"))
				continue
			}
			b.WriteString(word(r))
		}
		b.WriteByte('.')
	}
	return b.String()
}

var words = strings.Fields(`
	account activity address agent alert amount analyze answer append apply approve archive article assign attach audit author
	backup balance batch before begin between billing block branch budget build bundle cache calculate campaign cancel carrier
	catalog category change channel check choose classify clean client code collect column combine commit compare complete
	compose condition confirm connect contact content context contract convert copy correct count country create credit
	currency customer daily data deadline decide default define delete deliver department deploy describe design detail detect
	device diagram different direct discount display document domain download draft driver duplicate during email employee
	enable enrich entry error estimate evaluate event every evidence example exclude execute expense explain export extract
	facility failure feature feedback field figure filter final finance finding folder follow forecast format forward fraction
	generate global group growth guide handle health history hourly identify image import improve include income index inform
	input insert inspect install instead insurance interest invoice issue item journal keep keyword label language large latest
	layout lead ledger legal letter level library license limit line list load local locate lookup machine manage manifest
	manual margin market match material measure media meeting member merge message method metric migrate minimum minute missing
	model module monitor month move name network normal note notify number object observe offer office online open operator
	option order organize origin output outline package page parse partner password patch pattern payment people percent period
	permission person phone place plan platform policy portal position post prepare present preview previous price primary
	print priority problem process product profile program project promote prompt proof property protect provide public publish
	purchase quality quantity quarter query question queue quote range rank rate read reason receipt receive recent record
	reduce reference refund region register reject related release remote remove rename render repair repeat replace report
	request require research reserve resolve resource response result retry return revenue review revise risk role route rule
	sample save scale schedule schema score screen search secret section secure segment select send sentence sequence server
	service session settle shipment short signal similar simple site size skip source split stage standard start state status
	step stock storage store strategy stream string structure subject submit subscription suggest summary supplier support
	survey switch symbol system table target task team template tenant term test text thread ticket timeline title token tool
	topic total track trade training transfer translate transport trend trigger type unique unit update upload usage user
	validate value variant vendor verify version video view visit volume warehouse warning weekly weight within word workflow
	write year zone`)

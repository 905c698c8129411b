package taskconfig

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestConfigsAreTheSameForTheSameSeedOnly(t *testing.T) {
	t.Parallel()
	first, again, other := Make(seeded(1), 20), Make(seeded(1), 20), Make(seeded(2), 20)
	if !reflect.DeepEqual(first, again) {
		t.Error("two runs with one seed made different configs")
	}
	if reflect.DeepEqual(first, other) {
		t.Error("another seed made the same configs")
	}
}

func TestConfigsAreAboutTwoKilobytesAndDifferInSize(t *testing.T) {
	t.Parallel()
	total, sizes := 0, map[int]bool{}
	const n = 500
	for _, c := range Make(seeded(1), n) {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		total += len(text)
		sizes[len(text)] = true
	}
	if mean := total / n; mean < 1900 || mean > 2150 {
		t.Errorf("configs have %d bytes on average, want about 2000", mean)
	}
	if len(sizes) < n/10 {
		t.Errorf("only %d different sizes among %d configs", len(sizes), n)
	}
}

func TestConfigsSurviveJSON(t *testing.T) {
	t.Parallel()
	for _, c := range Make(seeded(3), 20) {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(text) {
			t.Fatalf("config changed on the way:\n%s\n%s", text, again)
		}
	}
}

func TestCopiesDifferFromTheirTemplatesInTheIDOnly(t *testing.T) {
	t.Parallel()
	r := seeded(4)
	templates := Make(r, 3)
	seen := map[string]bool{}
	for i, c := range Copies(r, templates, 10) {
		if seen[c.ID] {
			t.Fatalf("copy %d has the id of another", i)
		}
		seen[c.ID] = true
		same := *c
		same.ID = templates[i%3].ID
		if !reflect.DeepEqual(&same, templates[i%3]) {
			t.Errorf("copy %d differs in more than its id", i)
		}
	}
}

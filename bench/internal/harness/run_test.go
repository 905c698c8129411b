package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// row is a row that measures nothing and gives value.
func row(key string, value float64, bar Bar) Row {
	return Row{Key: key, Group: "group", How: "how " + key, Bar: bar, Run: func(context.Context, *Lab) (Outcome, error) {
		return Outcome{Value: value, Ours: Figure{Value: value}, Theirs: Figure{Value: 1}, Unit: Bytes, Samples: []int{1, 2, 3}}, nil
	}}
}

func readResults(t *testing.T, path string) map[string]Result {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]Result
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestResultsAreMergedByKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	o := Options{Settings: Settings{Rounds: MinRounds}, Results: path, Out: new(bytes.Buffer)}
	if err := Run(t.Context(), []Row{row("a", 1, AtMost(2)), row("b", 2, AtMost(2))}, o); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), []Row{row("b", 3.14159, AtMost(2)), row("extra", 9, Bar{})}, o); err != nil {
		t.Fatalf("a missed bar is no failure: %v", err)
	}
	all := readResults(t, path)
	want := Result{Value: 3.142, Ours: 3.142, Theirs: 1, Unit: Bytes, How: "how b"}
	if len(all) != 2 || all["a"].Value != 1 || all["b"] != want {
		t.Errorf("got %+v", all)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".bench-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWhatIsNotUnderstoodInResultsStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(path, []byte(`{"later": {"value": 1, "note": "kept"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mergeResults(path, map[string]Result{"a": {Value: 1}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"note": "kept"`) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestABrokenResultsFileIsNotOverwritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(path, []byte(`[`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mergeResults(path, map[string]Result{"a": {}}); err == nil || !strings.Contains(err.Error(), "mend or remove it") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != `[` {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

func TestSamplesAreKeptWithTheMachine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "raw")
	o := Options{Settings: Settings{Rounds: MinRounds, Seed: 42}, Raw: dir, Out: new(bytes.Buffer)}
	if err := Run(t.Context(), []Row{row("a", 1, Bar{})}, o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "a.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		Seed    uint64
		Machine Machine
		Samples []int
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if kept.Seed != 42 || kept.Machine.Go == "" || kept.Machine.Procs == 0 || len(kept.Samples) != 3 {
		t.Errorf("kept %+v", kept)
	}
}

func TestOneRowThatFailsDoesNotKeepTheOthersFromRunning(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	failing := Row{Key: "bad", Run: func(context.Context, *Lab) (Outcome, error) { return Outcome{}, broken }}
	path := filepath.Join(t.TempDir(), "results.json")
	var out bytes.Buffer
	o := Options{Settings: Settings{Rounds: MinRounds}, Results: path, Out: &out}
	err := Run(t.Context(), []Row{failing, row("good", 1, AtMost(2))}, o)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %v", err)
	}
	if all := readResults(t, path); len(all) != 1 || all["good"].Value != 1 {
		t.Errorf("results: %v", all)
	}
}

func TestTheTableSaysWhichBarsAreMissed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slow := row("slow", 5, AtMost(2))
	slow.Absolute = "Get"
	timed := slow.Run
	slow.Run = func(ctx context.Context, lab *Lab) (Outcome, error) {
		o, err := timed(ctx, lab)
		o.Unit, o.Ours = Microseconds, Figure{Value: 120, P99: 1500}
		return o, err
	}
	o := Options{Settings: Settings{Rounds: MinRounds}, Out: &out}
	if err := Run(t.Context(), []Row{slow, row("fine", 1, AtMost(2)), row("extra", 7, Bar{})}, o); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		`(?m)^slow +5 +<= 2 +NO `,
		`(?m)^fine +1 +<= 2 +yes `,
		`(?m)^extra +7 +- +- `,
		`(?m)^Get +120 us +1500 us +yes +NO$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", pattern, out.String())
		}
	}
}

func TestRowsAreChosenByGroupOrKey(t *testing.T) {
	t.Parallel()
	rows := []Row{row("a1", 1, Bar{}), row("a2", 1, Bar{}), {Key: "b", Group: "other"}}
	for pattern, want := range map[string]string{"group": "a1 a2", "a2$": "a2", "^other/": "b", "none": ""} {
		var got []string
		for _, r := range choose(rows, regexp.MustCompile(pattern)) {
			got = append(got, r.Key)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s chose %v, want %s", pattern, got, want)
		}
	}
	if len(choose(rows, nil)) != 3 {
		t.Error("no selection is all")
	}
	err := Run(t.Context(), rows, Options{Settings: Settings{Rounds: MinRounds}, Select: regexp.MustCompile("none"), Out: new(bytes.Buffer)})
	if err == nil || !strings.Contains(err.Error(), "no row matches none") {
		t.Errorf("got %v", err)
	}
}

func TestTooFewRoundsAreRefused(t *testing.T) {
	t.Parallel()
	o := Options{Settings: Settings{Rounds: MinRounds - 1}, Out: new(bytes.Buffer)}
	if err := Run(t.Context(), []Row{row("a", 1, Bar{})}, o); err == nil {
		t.Error("six rounds were accepted")
	}
}

func TestALabClosesWhatWasOpenedLastFirst(t *testing.T) {
	t.Parallel()
	var closed []int
	failing := Row{Key: "a", Run: func(_ context.Context, lab *Lab) (Outcome, error) {
		for i := range 3 {
			lab.Defer(func() error { closed = append(closed, i); return nil })
		}
		err := lab.Within(func(inner *Lab) error {
			inner.Defer(func() error { closed = append(closed, 9); return nil })
			return nil
		})
		return Outcome{}, errors.Join(err, errors.New("broken"))
	}}
	_, _ = runRow(t.Context(), failing, Options{})
	if len(closed) != 4 || closed[0] != 9 || closed[1] != 2 || closed[3] != 0 {
		t.Errorf("closed in the order %v", closed)
	}
}

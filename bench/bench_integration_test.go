//go:build integration && unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/compozy/temporal-redis/bench/internal/harness"
)

// TestEveryRowRuns is no benchmark: it shows that all rows can still be
// measured, and that what they measure is what they say (they check that
// themselves).
func TestEveryRowRuns(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		t.Run(row.Key, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			results, raw := filepath.Join(dir, "results.json"), filepath.Join(dir, "raw")
			var out bytes.Buffer
			args := []string{"-quick", "-run", "/" + row.Key + "$", "-out", results, "-raw", raw}
			if err := run(t.Context(), args, &out, &out); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if _, err := os.Stat(filepath.Join(raw, row.Key+".json")); err != nil {
				t.Error(err)
			}
			if row.Bar.IsZero() {
				return
			}
			text, err := os.ReadFile(results)
			if err != nil {
				t.Fatal(err)
			}
			var all map[string]harness.Result
			if err := json.Unmarshal(text, &all); err != nil {
				t.Fatal(err)
			}
			if r := all[row.Key]; r.Value <= 0 || r.Ours <= 0 || r.Theirs <= 0 || r.Unit == "" || r.How == "" {
				t.Errorf("result %+v", r)
			}
		})
	}
}

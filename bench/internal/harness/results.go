package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Result is a row in results.json.
type Result struct {
	Value  float64 `json:"value"`
	Ours   float64 `json:"ours"`
	Theirs float64 `json:"theirs"`
	Unit   string  `json:"unit"`
	How    string  `json:"how"`
}

func result(row Row, o Outcome) Result {
	return Result{
		Value:  significant(o.Value),
		Ours:   significant(o.Ours.Value),
		Theirs: significant(o.Theirs.Value),
		Unit:   o.Unit,
		How:    row.How,
	}
}

// mergeResults puts results into the file at path by key and leaves what it
// does not name as it is. The file is replaced as a whole.
func mergeResults(path string, results map[string]Result) error {
	all := map[string]json.RawMessage{}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("results: %w", err)
	default:
		if err := json.Unmarshal(text, &all); err != nil {
			return fmt.Errorf("results: %s is not a JSON object; mend or remove it: %w", path, err)
		}
	}
	for key, r := range results {
		if all[key], err = json.Marshal(r); err != nil {
			return fmt.Errorf("results: %s: %w", key, err)
		}
	}
	return writeJSON(path, all, "  ")
}

// writeJSON replaces a file by v as JSON, without a moment at which half of it
// is there.
func writeJSON(path string, v any, indent string) error {
	text, err := json.MarshalIndent(v, "", indent)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".bench-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temporary.Write(append(text, '\n'))
	err = errors.Join(err, temporary.Chmod(0o644), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(temporary.Name()))
	}
	return nil
}

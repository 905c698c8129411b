package flow

import (
	"encoding/json"
	"strconv"
)

// sum replaces every list in v by its count and the sums of its elements'
// numbers; everything else stays as it is.
func sum(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = sum(e)
		}
		return out
	case []any:
		sums := map[string]float64{}
		for _, e := range v {
			fields, _ := e.(map[string]any)
			for name, f := range fields {
				if n, ok := f.(json.Number); ok {
					x, _ := n.Float64()
					sums[name] += x
				}
			}
		}
		out := map[string]any{}
		for name, x := range sums {
			out[name] = json.Number(strconv.FormatFloat(x, 'f', -1, 64))
		}
		out["count"] = len(v)
		return out
	}
	return v
}

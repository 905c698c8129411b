package tools

import (
	"context"
	"encoding/json"
	"path/filepath"
)

// ReportName is the file that write_report leaves in the out directory.
const ReportName = "report.json"

type reportInput struct {
	Out      string          `json:"out"`
	Tree     string          `json:"tree"`
	Packages json.RawMessage `json:"packages"`
	Totals   json.RawMessage `json:"totals"`
}

func writeReport(_ context.Context, call Call, in reportInput) (any, error) {
	data, err := json.MarshalIndent(map[string]any{
		"workflow_id": call.WorkflowID, "tree": in.Tree, "totals": in.Totals, "packages": in.Packages,
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(in.Out, ReportName)
	return map[string]any{"report": file}, replace(file, append(data, '\n'))
}

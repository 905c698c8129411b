package notifier

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/compozy/temporal-redis/internal/keys"
)

// prune brings the snapshot down to three quarters of its bound: first the
// tasks that are finished, oldest first, then the others. A task that changes
// in the same moment may lose its place in the snapshot until its next event;
// the log has it all the same.
func (l *eventLog) prune(ctx context.Context, k keys.Events) error {
	v, err := l.readKeys(ctx, k, 1, true)
	if err != nil {
		return err
	}
	slices.SortStableFunc(v.states, func(a, b state) int {
		if c := cmp.Compare(finished(b), finished(a)); c != 0 {
			return c
		}
		return a.event.Time.Compare(b.event.Time)
	})
	excess := max(len(v.states)-l.tasks*3/4, 0)
	gone := make(map[string]bool, excess)
	members := make([]any, 0, excess)
	for _, s := range v.states[:excess] {
		gone[s.key] = true
		members = append(members, s.key)
	}
	if excess == 0 {
		return nil
	}
	var fields []string
	for field := range v.details {
		if _, key, _ := strings.Cut(field, ":"); gone[key] {
			fields = append(fields, field)
		}
	}
	pipe := l.client.TxPipeline()
	pipe.ZRem(ctx, k.Snapshot, members...)
	if len(fields) > 0 {
		pipe.HDel(ctx, k.Details, fields...)
	}
	cmds, err := pipe.Exec(ctx)
	return causeOf(cmds, err)
}

func finished(s state) int {
	if rankOf(s.score) == rankTerminal {
		return 1
	}
	return 0
}

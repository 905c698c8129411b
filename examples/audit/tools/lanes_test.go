package tools

import (
	"context"
	"errors"
	"testing"
)

func TestLanes_bound_what_is_computed_at_a_time(t *testing.T) {
	t.Parallel()
	l := make(lanes, 1)
	wrong := errors.New("it does not parse")
	ctx, cancel := context.WithCancel(t.Context())
	err := l.within(t.Context(), func() error {
		cancel()
		return errors.Join(wrong, l.within(ctx, func() error { return nil })) // there is no lane
	})
	if !errors.Is(err, wrong) || !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	if err := l.within(t.Context(), func() error { return nil }); err != nil {
		t.Errorf("after errors there is no lane: %v", err)
	}
}

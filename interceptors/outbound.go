package interceptors

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
)

// activityOutbound gives user code its own heartbeat details, and what the host
// said of time-outs and attempts.
type activityOutbound struct {
	interceptor.ActivityOutboundInterceptorBase
	in *activityInbound
}

// details are nil where the SDK or the host ask before the attempt began.
func (o *activityOutbound) details() *details {
	if o.in.call == nil || o.in.call.details.foreign.Load() {
		return nil
	}
	return o.in.call.details
}

// GetInfo tells the host's limits and the number of the user's attempt.
func (o *activityOutbound) GetInfo(ctx context.Context) activity.Info {
	info := o.Next.GetInfo(ctx)
	if c := o.in.call; c != nil {
		c.asUsual(&info)
	}
	return info
}

// HasHeartbeatDetails leaves our record out.
func (o *activityOutbound) HasHeartbeatDetails(ctx context.Context) bool {
	if d := o.details(); d != nil {
		return d.given > 0
	}
	return o.Next.HasHeartbeatDetails(ctx)
}

// GetHeartbeatDetails leaves our record out.
func (o *activityOutbound) GetHeartbeatDetails(ctx context.Context, targets ...any) error {
	d := o.details()
	switch {
	case d == nil:
		return o.Next.GetHeartbeatDetails(ctx, targets...)
	case d.given == 0:
		return temporal.ErrNoData
	}
	return o.Next.GetHeartbeatDetails(ctx, targets[:min(len(targets), d.given)]...)
}

// RecordHeartbeat sends our record along, which the server would else forget.
func (o *activityOutbound) RecordHeartbeat(ctx context.Context, values ...any) {
	d := o.details()
	if d == nil || !d.carry(ctx, values) {
		o.Next.RecordHeartbeat(ctx, values...)
	}
}

package locking

import "context"

type contextKey struct{}

// NewContext returns a copy of ctx that carries lease. It does not tie ctx to
// the lease's life; Lease.Bind does.
func NewContext(ctx context.Context, lease *Lease) context.Context {
	return context.WithValue(ctx, contextKey{}, lease)
}

// FromContext returns the lease that ctx carries, if it carries one.
func FromContext(ctx context.Context) (*Lease, bool) {
	lease, ok := ctx.Value(contextKey{}).(*Lease)
	return lease, ok && lease != nil
}

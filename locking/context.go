package locking

import (
	"context"
	"slices"
)

type contextKey struct{}

// NewContext returns a copy of ctx that carries leases, in place of those that it
// carries: to add one to an activity's own, give it append(AllFromContext(ctx), lease)...,
// or what guards its writes by their fences guards by one only. It does not tie ctx to
// their lives; Lease.Bind does.
func NewContext(ctx context.Context, leases ...*Lease) context.Context {
	return context.WithValue(ctx, contextKey{}, slices.Clone(leases))
}

// FromContext returns the first lease that ctx carries, if it carries one.
func FromContext(ctx context.Context) (*Lease, bool) {
	leases := AllFromContext(ctx)
	if len(leases) == 0 {
		return nil, false
	}
	return leases[0], leases[0] != nil
}

// AllFromContext returns all leases that ctx carries, in the order in which they
// were given; that of an activity is the one of its key function.
func AllFromContext(ctx context.Context) []*Lease {
	leases, _ := ctx.Value(contextKey{}).([]*Lease)
	return slices.Clip(leases) // who appends to it changes nobody's
}

// carries tells whether ctx carries a lease of the resource that is held.
func carries(ctx context.Context, namespace, resource string) bool {
	return slices.ContainsFunc(AllFromContext(ctx), func(l *Lease) bool {
		return l != nil && l.resource == resource && l.manager.opts.Namespace == namespace && l.Err() == nil
	})
}

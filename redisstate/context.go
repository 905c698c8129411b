package redisstate

import "context"

type (
	storeKey  struct{}
	configKey struct{}
)

// NewContext returns a context that carries a store.
func NewContext(ctx context.Context, store ConfigStore) context.Context {
	return context.WithValue(ctx, storeKey{}, store)
}

// StoreFromContext returns the store that NewContext put into ctx.
func StoreFromContext(ctx context.Context) (ConfigStore, bool) {
	store, ok := ctx.Value(storeKey{}).(ConfigStore)
	return store, ok
}

// WithConfig returns a context that carries the config of the running activity.
func WithConfig(ctx context.Context, config Config) context.Context {
	return context.WithValue(ctx, configKey{}, config)
}

// FromContext returns the config that WithConfig put into ctx.
func FromContext(ctx context.Context) (Config, bool) {
	config, ok := ctx.Value(configKey{}).(Config)
	return config, ok
}

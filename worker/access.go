package worker

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/locking"
	"github.com/compozy/temporal-redis/notifier"
	"github.com/compozy/temporal-redis/redisstate"
)

// Store is the plugin's config store for the host's own use, outside of
// activities: saving the configs of a workflow before its start, for example.
// It opens Redis where nothing has (without a check) and keeps it open until
// Close. Errors: ErrClosed, and those of redisstate.Connect.
func (p *Plugin) Store(ctx context.Context) (*redisstate.Store, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.store, nil
}

// Redis is the plugin's client, and the options that its keys and values have
// (namespace, encryption, telemetry), for what has no method here: a cache of the
// host's states, for example.
//
//	client, options, err := plugin.Redis(ctx)
//	states, err := redisstate.NewCache(client, redisstate.CacheOptions[State]{Kind: "workflow", Load: load}, options)
//
// The client is not to be closed, and is closed with the plugin: close what was made
// on it before. See Store.
func (p *Plugin) Redis(ctx context.Context) (redis.UniversalClient, redisstate.Options, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, redisstate.Options{}, err
	}
	return rt.conn.Client(), rt.options, nil
}

// Sessions are the plugin's sessions, by execution. Inside an activity use
// activities.Session; elsewhere open the one of a run by
// redisstate.ExecutionID. See Store.
func (p *Plugin) Sessions(ctx context.Context) (*redisstate.Sessions, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.sessions, nil
}

// Counters are the plugin's counters and gauges, which all processes of the
// namespace share; put their Collector on one registry to export them. See
// Store.
func (p *Plugin) Counters(ctx context.Context) (*redisstate.Counters, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.counters, nil
}

// Locks is the plugin's lock manager for the host's own use. See Store.
func (p *Plugin) Locks(ctx context.Context) (*locking.Manager, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.locks, nil
}

// Publisher is the plugin's event publisher for the host's own events. See
// Store.
func (p *Plugin) Publisher(ctx context.Context) (*notifier.BackgroundPublisher, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.publisher, nil
}

// Subscriber is the plugin's subscriber: all subscriptions of the process share
// one connection. See Store.
func (p *Plugin) Subscriber(ctx context.Context) (*notifier.Hub, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	return rt.subscriber()
}

// Inspect looks at Redis as the start of a worker does, see
// redisstate.Conn.Inspect. It opens Redis where nothing has. Errors wrap
// redisstate.ErrUnavailable, redisstate.ErrDenied or redisstate.ErrUnsuitable.
func (p *Plugin) Inspect(ctx context.Context) (redisstate.Report, error) {
	rt, err := p.hold(ctx)
	if err != nil {
		return redisstate.Report{}, err
	}
	return rt.conn.Inspect(ctx)
}

// Check asks Redis whether it answers. It opens Redis where nothing has. Errors
// wrap redisstate.ErrUnavailable or redisstate.ErrDenied.
func (p *Plugin) Check(ctx context.Context) error {
	rt, err := p.hold(ctx)
	if err != nil {
		return err
	}
	return rt.conn.Check(ctx)
}

package redisdial

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// NewClient is redis.NewClient with dials of ours, also for redis.ClusterOptions.
func NewClient(o *redis.Options) *redis.Client {
	own := *o
	if own.DialTimeout == 0 {
		own.DialTimeout = defaultTimeout // which go-redis sets too late for its dialler
	}
	if own.Dialer == nil {
		own.Dialer = redis.NewDialer(&own)
	}
	own.Dialer = quiet(own.Dialer)
	return redis.NewClient(&own)
}

// defaultTimeout is go-redis' own.
const defaultTimeout = 5 * time.Second

// quiet makes a failed dial a connection that is broken with the error of the dial.
func quiet(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return &broken{&failed{err}}, nil //nolint:nilerr // it is the connection's to say
		}
		return conn, nil
	}
}

// Hook does the same for a client that makes its own dialler, as one over sentinels.
// Add it before other hooks of dials, so that it has their errors, and before the
// first dial.
type Hook struct{}

// DialHook gives a broken connection instead of an error.
func (Hook) DialHook(next redis.DialHook) redis.DialHook { return quiet(next) }

// ProcessHook passes commands through.
func (Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook passes pipelines through.
func (Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// With adds the hook to a new client.
func With(client *redis.Client) *redis.Client {
	client.AddHook(Hook{})
	return client
}

// failed is the error of a dial in a wrapping: go-redis takes one off what it meets
// while it greets the server.
type failed struct{ err error }

func (f *failed) Error() string { return f.err.Error() }

// Unwrap gives the error of the dial.
func (f *failed) Unwrap() error { return f.err }

// broken is a connection that was not made.
type broken struct{ err error }

func (b *broken) Read([]byte) (int, error)       { return 0, b.err }
func (b *broken) Write([]byte) (int, error)      { return 0, b.err }
func (*broken) Close() error                     { return nil }
func (*broken) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*broken) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*broken) SetDeadline(time.Time) error      { return nil }
func (*broken) SetReadDeadline(time.Time) error  { return nil }
func (*broken) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn is how a pool looks whether an idle connection is well: one whose dial
// nobody waited for is thrown away there.
func (b *broken) SyscallConn() (syscall.RawConn, error) { return nil, b.err }

package redisdial

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Func dials, as redis.Options.Dialer and the hooks of dials do.
type Func = func(ctx context.Context, network, addr string) (net.Conn, error)

// Quiet is dial, but for what a failure gives: a connection that is broken with the
// error of the dial.
func Quiet(dial Func) Func {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return &broken{err}, nil //nolint:nilerr // it is the connection's to say
		}
		return conn, nil
	}
}

// Options sets the dialler of o to the quiet form of the one that o has, or would get.
func Options(o *redis.Options) {
	if o.Dialer == nil {
		o.Dialer = redis.NewDialer(o)
	}
	o.Dialer = Quiet(o.Dialer)
}

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

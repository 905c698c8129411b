package locking

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

// attendant adds commands around a script call. All of them travel in one
// pipeline, so they cost no round trip. A client that retries the pipeline
// repeats them; attendants take commands that bear it.
type attendant interface {
	before(ctx context.Context, pipe redis.Pipeliner)
	after(ctx context.Context, pipe redis.Pipeliner)
}

// standIn is an attendant with a command that mostly does what the script does, at
// less cost.
type standIn interface {
	attendant
	// instead sends the command.
	instead(ctx context.Context, pipe redis.Pipeliner, keys []string, args []any) *redis.Cmd
	// means makes the script's answer of the command's. It is nil if only the script
	// can tell.
	means(ctx context.Context, answer *redis.Cmd) *redis.Cmd
}

type attendantKey struct{}

// attended returns a context under which scripter runs a with the script.
func attended(ctx context.Context, a attendant) context.Context {
	return context.WithValue(ctx, attendantKey{}, a)
}

// scripter is the redis.Scripter given to redislock. redislock knows only of
// its scripts; which commands go with a call is told through the context,
// because a redislock.Lock keeps the scripter that it was obtained with.
//
// A script that the server does not know (a new server, SCRIPT FLUSH, a
// fail-over) is sent again as EVAL by go-redis, which makes the server remember
// it.
//
// A stand-in is used only while scripts run, as far as is known from the last one: who
// may have a lock, but not give it back or keep it, is to be refused at once.
type scripter struct {
	redis.UniversalClient
	pipes *pipes
	runs  *atomic.Bool // the last script ran
}

var _ redis.Scripter = scripter{}

func (s scripter) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if s.alone(ctx) {
		return s.noted(s.UniversalClient.EvalSha(ctx, sha, keys, args...))
	}
	if other, ok := ctx.Value(attendantKey{}).(standIn); ok && s.runs.Load() {
		answer := s.run(ctx, func(pipe redis.Pipeliner) *redis.Cmd { return other.instead(ctx, pipe, keys, args) })
		if answer = other.means(ctx, answer); answer != nil {
			return answer
		}
	}
	return s.noted(s.run(ctx, func(pipe redis.Pipeliner) *redis.Cmd { return pipe.EvalSha(ctx, sha, keys, args...) }))
}

func (s scripter) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	if s.alone(ctx) {
		return s.noted(s.UniversalClient.Eval(ctx, script, keys, args...))
	}
	return s.noted(s.run(ctx, func(pipe redis.Pipeliner) *redis.Cmd { return pipe.Eval(ctx, script, keys, args...) }))
}

// noted takes note of whether a script ran.
func (s scripter) noted(answer *redis.Cmd) *redis.Cmd {
	switch err := answer.Err(); {
	case err == nil, errors.Is(err, redis.Nil):
		if !s.runs.Load() {
			s.runs.Store(true)
		}
	default:
		if class := classOf(err); class == rediserr.Denied || class == rediserr.Permanent {
			s.runs.Store(false) // a server without EVAL says that it does not know it
		}
	}
	return answer
}

// alone tells whether a script goes as a command of its own: a Cluster's client sends
// those to the new master after a fail-over sooner than pipelines.
func (s scripter) alone(ctx context.Context) bool {
	return s.pipes.shared == nil && ctx.Value(attendantKey{}) == nil
}

func (s scripter) run(ctx context.Context, script func(redis.Pipeliner) *redis.Cmd) *redis.Cmd {
	pipe := s.Pipeline()
	a, ok := ctx.Value(attendantKey{}).(attendant)
	if ok {
		a.before(ctx, pipe)
	}
	cmd := script(pipe)
	if ok {
		a.after(ctx, pipe)
	}
	if err := s.pipes.exec(ctx, pipe); err != nil {
		cmd = redis.NewCmd(ctx)
		cmd.SetErr(err)
	}
	return cmd
}

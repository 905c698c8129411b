package rediserr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/rediserr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replies are what servers say, word for word: Redis 7.0 unless noted.
var replies = map[string]rediserr.Class{
	"LOADING Redis is loading the dataset in memory":                                                   rediserr.Unavailable,
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":                 rediserr.Unavailable,
	"READONLY You can't write against a read only replica.":                                            rediserr.Unavailable,
	"CLUSTERDOWN The cluster is down":                                                                  rediserr.Unavailable,
	"CLUSTERDOWN Hash slot not served":                                                                 rediserr.Unavailable,
	"TRYAGAIN Multiple keys request during rehashing of slot":                                          rediserr.Unavailable,
	"NOREPLICAS Not enough good replicas to write.":                                                    rediserr.Unavailable,
	"OOM command not allowed when used memory > 'maxmemory'.":                                          rediserr.Unavailable,
	"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.":           rediserr.Unavailable,
	"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": rediserr.Unavailable,
	"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)":     rediserr.Unavailable,
	"ERR max number of clients reached":                                                                rediserr.Unavailable,
	"ERR max number of clients + cluster connections reached":                                          rediserr.Unavailable,
	"EXECABORT Transaction discarded because of previous errors.":                                      rediserr.Unavailable,
	"NOAUTH Authentication required.":                                                                  rediserr.Denied,
	"WRONGPASS invalid username-password pair or user is disabled.":                                    rediserr.Denied,
	"NOPERM this user has no permissions to run the 'set' command":                                     rediserr.Denied,
	"NOPERM this user has no permissions to access one of the keys used as arguments":                  rediserr.Denied,
	"DENIED Redis is running in protected mode because protected mode is enabled":                      rediserr.Denied,
	"ERR AUTH <password> called without any password configured for the default user.":                 rediserr.Denied,
	"ERR Client sent AUTH, but no password is set":                                                     rediserr.Denied, // Redis 5
	"ERR invalid password": rediserr.Denied, // Redis 5
	"ERR The user executing the script can't run this command or subcommand; ACL failure in script: no perms":     rediserr.Denied,
	"ERR The user executing the script can't run this command or subcommand script: 80a1b5f2, on @user_script:5.": rediserr.Denied, // 7.0.15
	// What a script ran into: Redis 7.0.15, tried out for each, and Redis 6.
	"OOM command not allowed when used memory > 'maxmemory'. script: 2597e057, on @user_script:1.":                                       rediserr.Unavailable,
	"READONLY You can't write against a read only replica. script: 2597e057, on @user_script:1.":                                         rediserr.Unavailable,
	"NOREPLICAS Not enough good replicas to write. script: 2597e057, on @user_script:1.":                                                 rediserr.Unavailable,
	"ERR Script killed by user with SCRIPT KILL... script: 694a5fe1, on @user_script:1.":                                                 rediserr.Unavailable,
	"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: aa96, on @u:1.":  rediserr.Denied,
	"ERR Error running script (call to f_2597e057): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.":            rediserr.Unavailable,
	"ERR Error running script (call to f_2597e057): @user_script:1: @user_script: 1: -READONLY You can't write against a read only repl": rediserr.Unavailable,
	"ERR Error running script (call to f_2597e057): @user_script:1: -NOPERM this user has no permissions to run the 'set' command":       rediserr.Denied,
	"ERR Error running script (call to f_2597e057): @user_script:1: -ERR value is not an integer or out of range":                        rediserr.Permanent,
	"ERR Error running script (call to f_2597e057): @user_script:1: attempt to index a nil value":                                        rediserr.Permanent,
	"UNKILLABLE Sorry the script already executed write commands against the dataset.":                                                   rediserr.Permanent,
	"WRONGTYPE Operation against a key holding the wrong kind of value":                                                                  rediserr.Permanent,
	"CROSSSLOT Keys in request don't hash to the same slot":                                                                              rediserr.Permanent,
	"NOSCRIPT No matching script. Please use EVAL.":                                                                                      rediserr.Permanent,
	"ERR syntax error":             rediserr.Permanent,
	"ERR DB index is out of range": rediserr.Permanent,
	"ERR unknown command 'FOO', with args beginning with: 'a' 'b' ": rediserr.Permanent,
	"ERR value is not an integer or out of range":                   rediserr.Permanent,
	"BUSYGROUP Consumer Group name already exists":                  rediserr.Permanent,
	"OOMPH no code of ours":                                         rediserr.Permanent,
}

func newClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	return newPool(t, addr, 10)
}

func newPool(t *testing.T, addr string, size int) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: addr, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: 200 * time.Millisecond, PoolSize: size, PoolTimeout: 50 * time.Millisecond,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newServer(t *testing.T) *miniredis.Miniredis {
	t.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

func TestClassify_knows_what_servers_say(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server.Addr())
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for reply, want := range replies {
		server.SetError(reply)
		err := client.Get(t.Context(), "k").Err()
		if err == nil || !strings.Contains(err.Error(), strings.Fields(reply)[0]) {
			t.Fatalf("%s: the client gave %v", reply, err)
		}
		for _, e := range []error{err, fmt.Errorf("wrapped: %w", err), errors.Join(err)} {
			if got := rediserr.Classify(t.Context(), e); got != want {
				t.Errorf("%s: got %v; want %v", reply, got, want)
			}
		}
		if got := rediserr.IsWrongType(err); got != strings.HasPrefix(reply, "WRONGTYPE") {
			t.Errorf("%s: wrong type is %v", reply, got)
		}
	}
}

// connectionErrors makes the errors that come from connections, by what happens.
func connectionErrors(t *testing.T) map[string]error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := listener.Addr().String()
	_ = listener.Close()

	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = hangsUp.Close(); <-done })

	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })

	babbles, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	babbled := make(chan struct{})
	go func() {
		defer close(babbled)
		for {
			conn, err := babbles.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = babbles.Close(); <-babbled })

	server := newServer(t)
	busy := newPool(t, server.Addr(), 1)
	if err := busy.Watch(t.Context(), func(*redis.Tx) error { // holds the only connection
		err = busy.Get(t.Context(), "k").Err()
		return nil
	}, "k"); err != nil {
		t.Fatal(err)
	}
	ping := func(addr string) error { return newClient(t, addr).Ping(t.Context()).Err() }
	return map[string]error{
		"refused":         ping(refused),
		"hung up":         ping(hangsUp.Addr().String()),
		"silent":          ping(silent.Addr().String()),
		"not Redis":       ping(babbles.Addr().String()),
		"pool exhausted":  err,
		"no such host":    ping("no-such-host.invalid:6379"),
		"no such socket":  ping("/nonexistent/redis.sock"),
		"end of file":     io.EOF,
		"cut":             io.ErrUnexpectedEOF,
		"closed pipe":     io.ErrClosedPipe,
		"closed socket":   net.ErrClosed,
		"no sentinel":     errors.New("redis: all sentinels specified in configuration are unreachable: x"),
		"no cluster node": errors.New("redis: cluster has no nodes"),
		"bad connection":  errors.New("redis: Conn is in a bad state: x"),
		"inner deadline":  context.DeadlineExceeded,
	}
}

func TestClassify_takes_broken_connections_for_outages(t *testing.T) {
	t.Parallel()
	for name, err := range connectionErrors(t) {
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if got := rediserr.Classify(t.Context(), err); got != rediserr.Unavailable {
			t.Errorf("%s: %v is %v; want unavailable", name, err, got)
		}
	}
}

func TestClassify_tells_who_gave_up(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	client := newClient(t, newServer(t).Addr())
	closed := newClient(t, newServer(t).Addr())
	_ = closed.Close()
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want rediserr.Class
	}{
		"nothing happened":      {t.Context(), nil, rediserr.OK},
		"missing key":           {t.Context(), client.Get(t.Context(), "k").Err(), rediserr.NotFound},
		"canceled":              {canceled, client.Get(canceled, "k").Err(), rediserr.Canceled},
		"past the deadline":     {late, client.Get(late, "k").Err(), rediserr.Canceled},
		"canceled from without": {context.Background(), client.Get(canceled, "k").Err(), rediserr.Canceled},
		"closed client":         {t.Context(), closed.Get(t.Context(), "k").Err(), rediserr.Closed},
		"lost a race":           {t.Context(), redis.TxFailedErr, rediserr.Unavailable},
		"bad argument":          {t.Context(), client.Set(t.Context(), "k", struct{}{}, 0).Err(), rediserr.Permanent},
		"somebody else's":       {t.Context(), errors.New("something"), rediserr.Permanent},
	} {
		if got := rediserr.Classify(test.ctx, test.err); got != test.want {
			t.Errorf("%s: %v is %v; want %v", name, test.err, got, test.want)
		}
	}
}

func TestWrap_keeps_the_cause_and_names_the_operation(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	client := newClient(t, server.Addr())
	for reply, sentinel := range map[string]error{
		"OOM command not allowed when used memory > 'maxmemory'.": rediserr.ErrUnavailable,
		"NOPERM no permissions":                                   rediserr.ErrDenied,
	} {
		server.SetError(reply)
		cause := client.Get(t.Context(), "k").Err()
		err := rediserr.Wrap(t.Context(), "redisstate: get", "config", cause)
		var typed *rediserr.Error
		if !errors.Is(err, sentinel) || !errors.Is(err, cause) || !errors.As(err, &typed) || typed.Op != "redisstate: get" || typed.Family != "config" {
			t.Errorf("%s: got %#v", reply, err)
		}
		for _, other := range []error{rediserr.ErrUnavailable, rediserr.ErrDenied, rediserr.ErrClosed} {
			if !errors.Is(sentinel, other) && errors.Is(err, other) {
				t.Errorf("%s: is also %v", reply, other)
			}
		}
		if text := err.Error(); !strings.Contains(text, "redisstate: get (config)") || strings.Contains(text, "\n") {
			t.Errorf("%s: says %q", reply, text)
		}
		if again := rediserr.Wrap(t.Context(), "locking: acquire", "lock", err); again.Error() != err.Error() {
			t.Errorf("%s: wrapped twice: %v", reply, again)
		}
	}
	if err := rediserr.Wrap(t.Context(), "x", "y", nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := rediserr.Wrap(t.Context(), "x", "y", redis.Nil); !errors.Is(err, redis.Nil) {
		t.Errorf("redis.Nil became %v", err)
	}
	if err := rediserr.Wrap(t.Context(), "x", "y", redis.ErrClosed); !errors.Is(err, rediserr.ErrClosed) {
		t.Errorf("a closed client became %v", err)
	}
}

func TestText_leaves_out_arguments_and_replies(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ERR unknown command 'SET', with args beginning with: 'k' 'C4n4ry' 'px'": "ERR unknown command 'SET'",
		`redis: can't parse int reply: "C4n4ry"`:                                 "redis: can't parse",
		`read: redis: invalid reply: "C4n4ry"`:                                   "read: redis: invalid reply",
		"redis: can't marshal C4n4ry (implement encoding.BinaryMarshaler)":       "redis: can't marshal",
		"one\ntwo":                  "one; two",
		"dial tcp 1.2.3.4: refused": "dial tcp 1.2.3.4: refused",
	} {
		if got := rediserr.Text(errors.New(in)); got != want {
			t.Errorf("%s: got %s; want %s", in, got, want)
		}
		if err := rediserr.Wrap(t.Context(), "op", "family", errors.New(in)); strings.Contains(err.Error(), "C4n4ry") {
			t.Errorf("the argument is in %v", err)
		}
	}
}

func TestReason_finds_what_hides_behind_a_pipeline(t *testing.T) {
	t.Parallel()
	cmds := func(errs ...error) []redis.Cmder {
		all := make([]redis.Cmder, len(errs))
		for i, err := range errs {
			all[i] = redis.NewStatusCmd(t.Context())
			all[i].SetErr(err)
		}
		return all
	}
	server := newServer(t)
	client := newClient(t, server.Addr())
	said := func(reply string) error {
		server.SetError(reply)
		return client.Ping(t.Context()).Err()
	}
	aborted, denied := said("EXECABORT Transaction discarded because of previous errors."), said("NOPERM no permissions")
	for name, test := range map[string]struct {
		err  error
		cmds []redis.Cmder
		want error
	}{
		"nothing":                  {nil, cmds(nil, nil), nil},
		"missing keys":             {redis.Nil, cmds(nil, redis.Nil, redis.Nil), nil},
		"a missing key hides":      {redis.Nil, cmds(redis.Nil, denied), denied},
		"an aborted one hides":     {aborted, cmds(nil, denied, aborted), denied},
		"aborted without a reason": {aborted, cmds(aborted, aborted), aborted},
		"a plain one":              {io.EOF, cmds(denied), io.EOF},
	} {
		if got := rediserr.Reason(test.err, test.cmds); !errors.Is(got, test.want) || (got == nil) != (test.want == nil) {
			t.Errorf("%s: got %v; want %v", name, got, test.want)
		}
	}
}

func TestClass_has_a_name_each(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for c := rediserr.OK; c <= rediserr.Permanent; c++ {
		if name := c.String(); name == "unknown" || seen[name] {
			t.Errorf("class %d is called %s", c, name)
		}
		seen[c.String()] = true
	}
	if rediserr.Class(99).String() != "unknown" {
		t.Error("an unknown class has a name")
	}
}

package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that answers with what it got, and counts it.
type echo struct {
	addr string
	mu   sync.Mutex
	got  string
	more chan struct{}
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: listener.Addr().String(), more: make(chan struct{}, 1000)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				buffer := make([]byte, 100)
				for {
					n, err := conn.Read(buffer)
					if err != nil {
						return
					}
					e.mu.Lock()
					e.got += string(buffer[:n])
					e.mu.Unlock()
					e.more <- struct{}{}
					if _, err := conn.Write(buffer[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return e
}

func (e *echo) received() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask sends one letter and gives the answer.
func ask(t *testing.T, conn net.Conn, within time.Duration) (string, error) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "x"); err != nil {
		return "", err
	}
	buffer := make([]byte, 10)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

const patience = 30 * time.Second

func TestProxyPassesWhatComes(t *testing.T) {
	t.Parallel()
	p := Start(t, startEcho(t).addr)
	conn := dial(t, p)
	for range 3 {
		if got, err := ask(t, conn, patience); got != "x" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if got := p.Counts(); got.Connections != 1 || got.ToServer != 3 || got.Back != 3 {
		t.Errorf("counted %+v", got)
	}
}

func TestLoseRepliesLetsTheCommandThrough(t *testing.T) {
	t.Parallel()
	server := startEcho(t)
	p := Start(t, server.addr)
	conn := dial(t, p)
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.LoseReplies()
	if got, err := ask(t, conn, patience); err == nil {
		t.Fatalf("got the reply %q", got)
	}
	if got := server.received(); got != "xx" {
		t.Errorf("the server received %q; want both", got)
	}
	if got, err := ask(t, dial(t, p), patience); got != "x" || err != nil {
		t.Errorf("a new connection got %q, %v", got, err)
	}
	if got := p.Counts().RepliesLost; got != 1 {
		t.Errorf("counted %d lost replies", got)
	}
}

func TestBlackHoleSwallowsItsDirection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		way     Direction
		arrives bool
	}{
		"to the server": {ToServer, false},
		"to the client": {ToClient, true},
		"both ways":     {Both, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startEcho(t)
			p := Start(t, server.addr)
			p.BlackHole(test.way)
			conn := dial(t, p)
			if got, err := ask(t, conn, 50*time.Millisecond); !isTimeout(err) {
				t.Fatalf("got %q, %v; want silence", got, err)
			}
			if test.arrives {
				<-server.more
			}
			if arrived := server.received() == "x"; arrived != test.arrives {
				t.Errorf("arrived: %v; want %v", arrived, test.arrives)
			}
			if err := p.Heal(); err != nil {
				t.Fatal(err)
			}
			if got, err := ask(t, conn, patience); got != "x" || err != nil {
				t.Errorf("healed: %q, %v", got, err)
			}
		})
	}
}

func TestBlackHolePresentSparesNewConnections(t *testing.T) {
	t.Parallel()
	p := Start(t, startEcho(t).addr)
	conn := dial(t, p)
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.BlackHolePresent(ToClient)
	if got, err := ask(t, conn, 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("got %q, %v; want silence", got, err)
	}
	if got, err := ask(t, dial(t, p), patience); got != "x" || err != nil {
		t.Errorf("a new connection got %q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func TestRedirectLeadsToAnotherServer(t *testing.T) {
	t.Parallel()
	first, second := startEcho(t), startEcho(t)
	p := Start(t, first.addr)
	conn := dial(t, p)
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Redirect(second.addr)
	if got, err := ask(t, conn, patience); err == nil || isTimeout(err) {
		t.Errorf("the present connection got %q, %v; want a reset", got, err)
	}
	if got, err := ask(t, dial(t, p), patience); got != "x" || err != nil {
		t.Errorf("a new connection got %q, %v", got, err)
	}
	if first.received() != "x" || second.received() != "x" {
		t.Errorf("the first server received %q and the second %q", first.received(), second.received())
	}
}

func TestResetEndsPresentConnections(t *testing.T) {
	t.Parallel()
	p := Start(t, startEcho(t).addr)
	conn := dial(t, p)
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	if got, err := ask(t, conn, patience); err == nil || isTimeout(err) || errors.Is(err, io.EOF) {
		t.Errorf("got %q, %v; want a reset", got, err)
	}
}

func TestRefuseRefusesNewConnectionsOnTheSamePort(t *testing.T) {
	t.Parallel()
	p := Start(t, startEcho(t).addr)
	conn := dial(t, p)
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	if _, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial gave %v; want it refused", err)
	}
	if got, err := ask(t, conn, patience); got != "x" || err != nil {
		t.Errorf("the present connection got %q, %v", got, err)
	}
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, dial(t, p), patience); got != "x" || err != nil {
		t.Errorf("healed: %q, %v", got, err)
	}
}

func TestDelayMakesAnswersLate(t *testing.T) {
	t.Parallel()
	p := Start(t, startEcho(t).addr)
	p.Delay(30 * time.Millisecond)
	conn := dial(t, p)
	start := time.Now()
	if _, err := ask(t, conn, patience); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("took %v; want both ways delayed", took)
	}
}

func TestRandomFaultsFollowTheSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (fates string) {
		p := Start(t, startEcho(t).addr)
		p.Random(seed, Chaos{LoseReply: 0.3, ResetCommand: 0.2})
		for range 40 {
			before := p.Counts()
			conn := dial(t, p)
			_, err := ask(t, conn, patience)
			_ = conn.Close()
			switch after := p.Counts(); {
			case err == nil:
				fates += "."
			case after.RepliesLost > before.RepliesLost:
				fates += "l"
			case after.Resets > before.Resets:
				fates += "r"
			default:
				t.Fatalf("an error without a fault: %v", err)
			}
		}
		return fates
	}
	one, again, other := run(1), run(1), run(2)
	if one != again {
		t.Errorf("the same seed gave\n%s and\n%s", one, again)
	}
	if one == other {
		t.Errorf("another seed gave the same: %s", one)
	}
}

func TestProxyToNobodyTurnsClientsAway(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	p := Start(t, listener.Addr().String())
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil { // else it was reset before the dial was over
		defer func() { _ = conn.Close() }()
		if got, err := ask(t, conn, patience); err == nil || isTimeout(err) {
			t.Errorf("got %q, %v; want it closed", got, err)
		}
	}
	p.Close()
}

// A connection that the proxy has taken, but does not carry yet, is refused too: it would
// outlive the Reset that comes next.
func TestRefuseCatchesWhatIsBeingTaken(t *testing.T) {
	t.Parallel()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	p := Start(t, target.Addr().String())
	p.mu.Lock() // it cannot carry yet
	client := dial(t, p)
	server, err := target.Accept() // it was taken
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	_ = p.listener.Close() // as Refuse does
	p.listener = nil
	p.mu.Unlock()
	p.Reset()
	if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); isTimeout(err) {
		t.Error("it lives")
	}
	if c := p.Counts(); c.Refused != 1 || c.Connections != 0 {
		t.Errorf("the proxy counts %+v", c)
	}
}

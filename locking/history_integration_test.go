//go:build integration

package locking_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/compozy/temporal-redis/internal/redistest"
	"github.com/compozy/temporal-redis/internal/redistest/faultproxy"
	"github.com/compozy/temporal-redis/locking"
)

// seed is that of the contenders and of the faults: go test -tags integration ./locking -seed 7
var seed = flag.Uint64("seed", 1, "of what is random in the contests")

// contest is a few processes that want one lock, on masters behind proxies.
type contest struct {
	t        *testing.T
	servers  []*redistest.Server
	controls []*redis.Client
	proxies  []*faultproxy.Proxy
	guard    *guard
	setup    locking.Contender
	running  []*contender

	mu    sync.Mutex
	deeds []locking.Deed
}

// briefly are leases that end within a second of silence.
const briefly = time.Second

func newContest(t *testing.T, masters int, setup locking.Contender) *contest {
	t.Helper()
	c := &contest{t: t, guard: newGuard(t), setup: setup}
	c.setup.TTL, c.setup.Guard = briefly, c.guard.addr
	var watch sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); watch.Wait() })
	watch.Go(func() {
		locking.Late(ctx, func(from, to int64) { c.add(locking.Deed{By: proxies, Kind: "late", Call: from, Return: to}) })
	})
	for range masters {
		server := redistest.Start(t)
		proxy := faultproxy.Start(t, server.Addr())
		c.servers, c.controls, c.proxies = append(c.servers, server), append(c.controls, server.ControlClient(t)), append(c.proxies, proxy)
		c.setup.Masters = append(c.setup.Masters, proxy.Addr())
	}
	return c
}

// contender is one of the processes.
type contender struct {
	*exec.Cmd
	stdin io.Closer
	ended chan error
}

func (c *contest) start(number int) *contender {
	c.t.Helper()
	setup := c.setup
	setup.Number = number
	role, err := json.Marshal(setup)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), locking.ContenderVariable+"="+string(role))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	one := &contender{Cmd: cmd, stdin: in, ended: make(chan error, 1)}
	go func() {
		c.note(out)
		one.ended <- cmd.Wait()
		close(one.ended)
	}()
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-one.ended
	})
	c.running = append(c.running, one)
	return one
}

func (c *contest) note(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var d locking.Deed
		if json.Unmarshal(lines.Bytes(), &d) != nil {
			continue // the last line of one that was killed
		}
		c.add(d)
	}
}

func (c *contest) add(d locking.Deed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deeds = append(c.deeds, d)
}

// count is how often something was done.
func (c *contest) count(kind string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.deeds {
		if d.Kind == kind {
			n++
		}
	}
	return n
}

// finish ends the processes, and waits for them.
func (c *contest) finish() {
	c.t.Helper()
	for _, one := range c.running {
		_ = one.stdin.Close()
	}
	for _, one := range c.running {
		select {
		case err := <-one.ended:
			if status, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || status.Exited()) { // else it was killed
				c.t.Errorf("a contender ended: %v", err)
			}
		case <-time.After(patience):
			c.t.Error("a contender does not end")
		}
	}
}

// lockCall is an operation of the model: a lease is granted, or is over.
type lockCall struct {
	acquire bool
	lease   string
	fence   uint64
}

type lockState struct {
	holder string
	fence  uint64
}

// lockModel is a lock that one holds at a time, with fences that rise.
var lockModel = porcupine.Model{
	Init: func() any { return lockState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, call := state.(lockState), input.(lockCall)
		if call.acquire {
			return s.holder == "" && call.fence > s.fence, lockState{call.lease, call.fence}
		}
		return s.holder == call.lease, lockState{"", s.fence}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// operations are the grants, and their ends. A lease of which no end was told, since
// its process was killed, was over at some time after it was held for sure.
func operations(deeds []locking.Deed) (ops []porcupine.Operation) {
	never := int64(0)
	last := make(map[string]locking.Deed)
	for _, d := range deeds {
		never = max(never, d.Return+1)
		if d.Kind == "held" || d.Kind == "end" || (d.Kind == "acquire" && last[d.Lease].Lease == "") {
			last[d.Lease] = d
		}
	}
	number := 0
	add := func(call lockCall, from, to int64) {
		number++
		ops = append(ops, porcupine.Operation{ClientId: number, Input: call, Call: from, Return: to})
	}
	for _, d := range deeds {
		if d.Kind != "acquire" {
			continue
		}
		add(lockCall{true, d.Lease, d.Fence}, d.Call, d.Return)
		switch end := last[d.Lease]; end.Kind {
		case "end":
			add(lockCall{lease: d.Lease}, end.Call, end.Return)
		case "held":
			add(lockCall{lease: d.Lease}, end.Call, never)
		default:
			add(lockCall{lease: d.Lease}, d.Return, never)
		}
	}
	return ops
}

// exclusive tells what is wrong with a history: two held the lock, a fence did not
// rise, or a holder was refused by the store.
func exclusive(deeds []locking.Deed) error {
	if porcupine.CheckOperationsTimeout(lockModel, operations(deeds), time.Minute) != porcupine.Ok {
		return errors.New("the history is not that of a lock")
	}
	for _, d := range deeds {
		if d.Kind == "write" && d.Held && !d.Accepted {
			return fmt.Errorf("a holder with fence %d was refused", d.Fence)
		}
	}
	return fencesRise(deeds)
}

// fencesRise tells whether a lease that was asked for after another was granted
// does not have a higher fence.
func fencesRise(deeds []locking.Deed) error {
	var grants []locking.Deed
	for _, d := range deeds {
		if d.Kind == "acquire" {
			grants = append(grants, d)
		}
	}
	byReturn := slices.SortedFunc(slices.Values(grants), func(a, b locking.Deed) int { return int(a.Return - b.Return) })
	slices.SortFunc(grants, func(a, b locking.Deed) int { return int(a.Call - b.Call) })
	highest, i := uint64(0), 0
	for _, d := range grants {
		for ; i < len(byReturn) && byReturn[i].Return < d.Call; i++ {
			highest = max(highest, byReturn[i].Fence)
		}
		if d.Fence <= highest {
			return fmt.Errorf("fence %d was granted after %d", d.Fence, highest)
		}
	}
	return nil
}

// judge keeps the history if it is wrong.
func (c *contest) judge(by ...func([]locking.Deed) error) {
	c.t.Helper()
	deeds := c.done()
	c.t.Logf("%d leases %v, refusals %v; %d writes accepted, %d refused",
		c.count("acquire"), turnsIn(deeds), tally(refusals(deeds, always)), c.guard.writes(), c.guard.refusals())
	var all []error
	for _, judge := range by {
		all = append(all, judge(deeds))
	}
	wrong := errors.Join(all...)
	if wrong == nil {
		return
	}
	text, _ := json.MarshalIndent(deeds, "", " ")
	file := filepath.Join(os.TempDir(), fmt.Sprintf("locking-history-%d.json", time.Now().UnixNano()))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		file = err.Error()
	}
	c.t.Errorf("%v; seed %d, history in %s", wrong, c.setup.Seed, file)
}

// up waits until all masters have been running for longer than a quarantine.
func (c *contest) up(quarantine time.Duration) {
	c.t.Helper()
	for _, control := range c.controls {
		until(c.t, "a master is up for a while", func() bool {
			info, err := control.InfoMap(c.t.Context(), "server").Result()
			seconds := 0
			_, _ = fmt.Sscan(info["Server"]["uptime_in_seconds"], &seconds)
			return err == nil && seconds > int(quarantine/time.Second)
		})
	}
}

const (
	contenders = 4
	leasesEach = 15 // on average, at least
	disorders  = 4  // faults in one contest
)

// TestLock_is_held_by_one has processes contend while up to a minority of the
// masters is in trouble at a time (the only one, where there is one).
func TestLock_is_held_by_one(t *testing.T) {
	t.Parallel()
	for _, masters := range []int{1, 3, 5} {
		for name, fault := range troubles {
			t.Run(fmt.Sprintf("%d masters, %s", masters, name), func(t *testing.T) {
				t.Parallel()
				c := newContest(t, masters, locking.Contender{Seed: *seed, Quarantine: briefly, Hold: 20 * time.Millisecond})
				if masters > 1 { // there is always a majority
					c.setup.Wait = lasting
				}
				c.up(briefly)
				for n := range contenders {
					c.start(n)
				}
				until(t, "a lease is granted", func() bool { return c.count("acquire") > 0 })
				// Each has masters of its own, so that never more than a minority is in trouble.
				minority := max(masters/2, 1)
				each := masters / minority
				var disorder sync.WaitGroup
				for who := range minority {
					theirs := each
					if who == minority-1 {
						theirs = masters - who*each
					}
					disorder.Go(func() {
						random := rand.New(rand.NewPCG(*seed, uint64(who)))
						for range disorders {
							c.have(fault, random, who*each+random.IntN(theirs))
							some(random, briefly/4)
						}
					})
				}
				disorder.Wait()
				calm := c.recover()
				if masters > 1 {
					calm = always
				}
				enough := max(contenders*leasesEach, c.count("acquire")+2*contenders)
				until(t, "it was held often enough", func() bool { return c.count("acquire") >= enough })
				if fault.met != nil {
					until(t, "the fault has met somebody", func() bool { return fault.met(c) })
				}
				c.finish()
				c.judge(exclusive, granted(contenders, masters/2+1, calm))
			})
		}
	}
}

package locking

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/compozy/temporal-redis/internal/telemetry"
)

func TestLease_is_renewed_every_ten_seconds_until_its_release(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		lease := acquire(t, m, "r")
		pass(time.Hour + time.Second) // virtual
		synctest.Wait()
		if err := lease.Err(); err != nil {
			t.Fatal(err)
		}
		for i, at := range fake.calls["extend"] {
			if want := time.Duration(i+1) * 10 * time.Second; at != want {
				t.Fatalf("renewal %d was at %s; want %s", i+1, at, want)
			}
		}
		if n := fake.count("extend"); n != 360 {
			t.Fatalf("%d renewals in an hour; want 360", n)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if n := fake.count("extend"); n != 360 {
			t.Fatalf("renewed %d times after the release", n-360)
		}
	})
}

func TestLease_outlives_the_context_it_was_acquired_under(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := fakeManager(t, newFake(), Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		lease, err := m.Acquire(ctx, "r")
		if err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Minute)
		if err := lease.Err(); err != nil {
			t.Fatalf("the lease ended with the acquire context: %v", err)
		}
	})
}

func TestLease_ends_itself_before_redis_gives_the_lock_away(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]fault{"calls lost": lostCall, "calls hang": hangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m := fakeManager(t, fake, Options{})
				lease := acquire(t, m, "r")
				fake.plan("extend", always(broken))
				fake.plan("release", always(broken))
				deadline := lease.Deadline()

				over(t, lease.Context())
				wantErr(t, context.Cause(lease.Context()), ErrLost)
				if _, stillThere := fake.held(lease.keys); !stillThere {
					t.Fatal("redis gave the lock away before the lease ended")
				}
				if now := time.Now(); now.After(deadline) {
					t.Fatalf("ended %s after Deadline", now.Sub(deadline))
				}
				if used := time.Since(lease.acquired.mono); used != 30*time.Second-drift(30*time.Second) {
					t.Fatalf("ended after %s", used)
				}
				if fake.count("extend") < 5 {
					t.Fatalf("tried %d renewals only", fake.count("extend"))
				}
				synctest.Wait()
				if n := testutil.ToFloat64(m.telemetry.Metrics.LockLost.WithLabelValues(telemetry.LostExpired)); n != 1 {
					t.Fatalf("counted %v lost leases; want 1", n)
				}
				wantErr(t, lease.Release(t.Context()), ErrNotHeld)
			})
		})
	}
}

func TestLease_is_valid_from_the_sending_of_what_redis_confirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const valid, slow = 30*time.Second - 610*time.Millisecond, 2 * time.Second
		fake := newFake()
		fake.slow["obtain"], fake.slow["extend"] = slow, slow
		m := fakeManager(t, fake, Options{})
		start := time.Now()
		lease := acquire(t, m, "r")
		if got := lease.Deadline().Sub(start); got != valid {
			t.Fatalf("after the grant: valid for %s from its sending; want %s", got, valid)
		}
		pass(10*time.Second + time.Millisecond) // the renewal of second 10 has its answer
		synctest.Wait()
		if got := lease.Deadline().Sub(start); got != 10*time.Second+valid {
			t.Fatalf("after a renewal: valid until %s; want %s", got, 10*time.Second+valid)
		}
	})
}

func TestLease_survives_renewals_that_fail_for_less_than_its_validity(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]fault{"calls lost": lostCall, "replies lost": lostReply, "calls hang": hangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m := fakeManager(t, fake, Options{})
				lease := acquire(t, m, "r")
				fake.plan("extend", func(int) fault {
					if time.Since(fake.started) < 25*time.Second {
						return broken
					}
					return none
				})
				pass(2 * time.Minute)
				if err := lease.Err(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestLease_ends_when_a_renewal_finds_that_redis_no_longer_knows_it(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		lease := acquire(t, m, "r")
		fake.flush()
		over(t, lease.Context())
		wantErr(t, context.Cause(lease.Context()), ErrLost)
		wantErr(t, context.Cause(lease.Context()), errGone)
		if at := time.Since(fake.started); at != 10*time.Second {
			t.Fatalf("noticed after %s; want the first renewal, 10 s", at)
		}
	})
}

func TestLease_of_a_suspended_machine_is_over_when_it_wakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		machine := &skewedClock{}
		m := fakeManagerWith(t, newFake(), machine.now, Options{})
		asked, watched := acquire(t, m, "asked"), acquire(t, m, "watched")
		pass(3 * time.Second)
		machine.skew.Store(int64(time.Minute)) // the monotonic clock saw nothing
		wantErr(t, asked.Err(), ErrLost)       // at once, by asking

		over(t, watched.Context()) // soon, without asking
		if noticed := time.Since(watched.acquired.mono) - 3*time.Second; noticed > watchEvery {
			t.Fatalf("noticed after %s", noticed)
		}
		synctest.Wait()
		if n := testutil.ToFloat64(m.telemetry.Metrics.LockLost.WithLabelValues(telemetry.LostSuspended)); n != 2 {
			t.Fatalf("counted %v suspended leases; want 2", n)
		}
	})
}

func TestLease_is_not_lengthened_by_a_wall_clock_that_is_set_back(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		machine := &skewedClock{}
		fake := newFake()
		m := fakeManagerWith(t, fake, machine.now, Options{})
		lease := acquire(t, m, "r")
		fake.plan("extend", always(lostCall))
		machine.skew.Store(-int64(time.Hour))
		over(t, lease.Context())
		if used := time.Since(lease.acquired.mono); used > 30*time.Second-drift(30*time.Second) {
			t.Fatalf("ended after %s", used)
		}
	})
}

func TestLease_lives_until_its_deadline_at_the_latest(t *testing.T) {
	t.Parallel()
	for _, lifetime := range []time.Duration{200 * time.Millisecond, 5 * time.Second, 10 * time.Second, 29 * time.Second, 31 * time.Second, 95 * time.Second} {
		t.Run(lifetime.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m := fakeManager(t, fake, Options{})
				lease := acquire(t, m, "r", WithDeadline(time.Now().Add(lifetime)))
				fake.plan("release", always(lostCall)) // only the TTL ends it in Redis
				over(t, lease.Context())
				if lived := time.Since(fake.started); lived != lifetime {
					t.Fatalf("lived %s", lived)
				}
				cause := context.Cause(lease.Context())
				if wantErr(t, cause, ErrLost); !strings.Contains(cause.Error(), "WithDeadline") {
					t.Fatal(cause)
				}
				l, stillThere := fake.held(lease.keys)
				if !stillThere {
					t.Fatal("redis gave the lock away before the lease ended")
				}
				if over := time.Until(l.expires); over > MinTTL {
					t.Fatalf("redis keeps the lock for %s after the deadline", over)
				}
			})
		})
	}
}

func TestLease_release(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		plan func(int) fault
		done bool // the context given to Release
		want error
	}{
		"gives the lock back":                           {plan: first(0, none)},
		"goes through when its context is done":         {plan: first(0, none), done: true},
		"is repeated when a call is lost":               {plan: first(2, lostCall), done: true},
		"is repeated when a reply is lost":              {plan: first(1, lostReply)},
		"is finished in the background after an outage": {plan: first(10, lostCall), want: ErrUnavailable},
		"is finished in the background after a hang":    {plan: first(2, hangs), want: ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fake := newFake()
				m := fakeManager(t, fake, Options{})
				lease := acquire(t, m, "r")
				fake.plan("release", test.plan)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.done {
					cancel()
				}
				start := time.Now()
				err := lease.Release(ctx)
				if !errors.Is(err, test.want) {
					t.Fatalf("got %v; want %v", err, test.want)
				}
				if took := time.Since(start); took > releaseTimeout {
					t.Fatalf("took %s", took)
				}
				if again := lease.Release(ctx); !errors.Is(again, err) {
					t.Fatalf("the second Release returned %v; want the first one's %v", again, err)
				}
				cause := context.Cause(lease.Context())
				if wantErr(t, cause, context.Canceled); errors.Is(cause, ErrLost) {
					t.Fatal("a released lease counts as lost")
				}
				pass(10 * time.Second) // virtual: for the background
				if _, held := fake.held(lease.keys); held {
					t.Fatal("the lock is still held")
				}
			})
		})
	}
}

func TestLease_context_ends_before_the_release_is_sent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		lease := acquire(t, m, "r")
		alive := false
		fake.plan("release", func(int) fault {
			alive = lease.Context().Err() == nil
			return none
		})
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if alive {
			t.Fatal("the lock was given back while the holder's context was alive")
		}
	})
}

func TestLease_that_redis_gave_away_is_not_held_at_its_release(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFake()
		m := fakeManager(t, fake, Options{})
		lease := acquire(t, m, "r")
		fake.flush()
		err := lease.Release(t.Context())
		wantErr(t, err, ErrNotHeld)
		if errors.Is(err, ErrLost) {
			t.Fatal("ErrNotHeld and ErrLost are not told apart")
		}
	})
}

func TestLease_bind(t *testing.T) {
	t.Parallel()
	t.Run("ends with the lease and its cause", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			fake := newFake()
			lease := acquire(t, fakeManager(t, fake, Options{}), "r")
			ctx, cancel := lease.Bind(t.Context())
			defer cancel()
			fake.flush()
			over(t, ctx)
			wantErr(t, context.Cause(ctx), ErrLost)
		})
	})
	t.Run("ends with its parent and leaves the lease alone", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			lease := acquire(t, fakeManager(t, newFake(), Options{}), "r")
			parent, end := context.WithCancel(t.Context())
			ctx, cancel := lease.Bind(parent)
			defer cancel()
			end()
			over(t, ctx)
			wantErr(t, context.Cause(ctx), context.Canceled)
			if err := lease.Err(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("is dead at once when the lease is over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			lease := acquire(t, fakeManager(t, newFake(), Options{}), "r")
			if err := lease.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := lease.Bind(t.Context())
			defer cancel()
			over(t, ctx)
		})
	})
}

func TestLease_travels_in_a_context(t *testing.T) {
	t.Parallel()
	lease := &Lease{resource: "r"}
	got, ok := FromContext(NewContext(context.Background(), lease))
	if !ok || got != lease {
		t.Fatalf("got %v, %v", got, ok)
	}
	if _, ok := FromContext(context.Background()); ok {
		t.Fatal("found a lease in an empty context")
	}
	if _, ok := FromContext(NewContext(context.Background(), nil)); ok {
		t.Fatal("a nil lease counts as one")
	}
}

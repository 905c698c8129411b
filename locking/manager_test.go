package locking

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestManager_close(t *testing.T) {
	t.Parallel()
	t.Run("ends and gives back the leases that are held", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			fake := newFake()
			m := fakeManager(t, fake, Options{})
			lease := acquire(t, m, "r")
			if err := m.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantErr(t, lease.Err(), ErrLost)
			wantErr(t, lease.Err(), ErrClosed)
			wantErr(t, lease.Release(t.Context()), ErrNotHeld)
			if _, held := fake.held(lease.keys); held {
				t.Fatal("the lock is still held")
			}
			_, err := m.Acquire(t.Context(), "r")
			wantErr(t, err, ErrClosed)
		})
	})
	t.Run("ends waits", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			fake := newFake()
			acquire(t, fakeManager(t, fake, Options{}), "r")
			m := fakeManager(t, fake, Options{})
			results := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := m.Acquire(t.Context(), "r")
					results <- err
				}()
			}
			synctest.Wait()
			if err := m.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantErr(t, <-results, ErrClosed)
			wantErr(t, <-results, ErrClosed)
		})
	})
	t.Run("returns when its context ends", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			fake := newFake()
			m := fakeManager(t, fake, Options{})
			acquire(t, m, "r")
			fake.plan("release", always(hangs))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			wantErr(t, m.Close(ctx), context.DeadlineExceeded)
		})
	})
	t.Run("stands fifty rounds of acquiring and closing at once", func(t *testing.T) {
		t.Parallel()
		for range 50 {
			m := fakeManager(t, newFake(), Options{})
			done := make(chan struct{})
			for range 4 {
				go func() {
					defer func() { done <- struct{}{} }()
					for {
						lease, err := m.Acquire(context.Background(), "r", WithWait(time.Minute))
						if err != nil {
							if !errors.Is(err, ErrClosed) {
								t.Error(err)
							}
							return
						}
						_ = lease.Release(context.Background())
					}
				}()
			}
			if err := m.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				<-done
			}
		}
	})
}

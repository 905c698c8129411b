package redisstate

import (
	"errors"
	"sync"
	"sync/atomic"
)

// What inParallel does about errors.
const (
	allErrors  = false // all are tried
	firstError = true  // what was not begun is left out
)

// errEnded says that the host's code did not return.
var errEnded = errors.New("the host's code ended its goroutine instead of returning")

// inParallel calls do for 0 to n-1, at most parallel of them at a time, and joins
// their errors. With stop, none is begun after an error.
func inParallel(n, parallel int, stop bool, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		errs   []error
		failed atomic.Bool
		free   = make(chan struct{}, parallel)
	)
	for i := range n {
		free <- struct{}{}
		if stop && failed.Load() {
			break
		}
		all.Go(func() {
			err := errEnded // stays if the host's code ends the goroutine
			defer func() {
				if err != nil {
					failed.Store(true)
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				<-free
			}()
			err = do(i)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

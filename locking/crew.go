package locking

import "time"

// crew runs what asks masters, on goroutines that stay for a while: a new one grows its
// stack anew in each call of the Redis client, which takes an eighth of the time of a
// lease on three masters.
type crew struct {
	jobs    chan func() // to one who has nothing to do
	closing <-chan struct{}
	spawn   func(func())
}

// crewRest is for how long one with nothing to do stays.
const crewRest = time.Second

func newCrew(spawn func(func()), closing <-chan struct{}) *crew {
	return &crew{jobs: make(chan func()), closing: closing, spawn: spawn}
}

// run has job run at once.
func (c *crew) run(job func()) {
	select {
	case c.jobs <- job:
		return
	default:
	}
	c.spawn(func() {
		job()
		rest := time.NewTimer(crewRest)
		defer rest.Stop()
		for {
			select {
			case job := <-c.jobs:
				job()
				rest.Reset(crewRest)
			case <-rest.C:
				return
			case <-c.closing:
				return
			}
		}
	})
}

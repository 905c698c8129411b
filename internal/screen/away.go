package screen

import (
	"fmt"
	"time"

	"github.com/compozy/temporal-redis/internal/excerpt"
)

const (
	redisLost    = "the connection to Redis is lost"
	temporalLost = "Temporal does not answer"
)

// Away is who is away of those from whom events come. Its methods tell what changed, ""
// if nothing did. The zero value is that nobody is. It is used by one goroutine.
type Away struct {
	redis    bool
	temporal string // why it does not answer
}

// Redis takes in whether Redis is there.
func (a *Away) Redis(connected bool) (news string) {
	if a.redis == !connected {
		return ""
	}
	a.redis = !connected
	if a.redis {
		return redisLost + "; trying again"
	}
	return "Redis is back"
}

// maxReason bounds what is shown of why, in bytes.
const maxReason = 200

// Temporal takes in why Temporal does not answer, nil if it does or was not asked.
func (a *Away) Temporal(failure error) (news string) {
	before := a.temporal
	a.temporal = ""
	if failure != nil {
		a.temporal = " (" + printable(excerpt.Line(failure.Error(), maxReason)) + ")"
	}
	switch {
	case before == "" && failure != nil:
		return temporalLost + "; trying again" + a.temporal
	case before != "" && failure == nil:
		return "Temporal answers again"
	}
	return ""
}

// footer is what the last line of a table says of it.
func (a *Away) footer() (text string) {
	if a.redis {
		text += "; " + redisLost
	}
	if a.temporal != "" {
		text += "; " + temporalLost + a.temporal
	}
	return text
}

// Connection says whether Redis is there for the events, which is shown if it changed.
func (s *Screen) Connection(connected bool) error { return s.tell(s.away.Redis(connected)) }

// Source says why Temporal does not answer, nil if it does or was not asked. It is shown
// if that changed.
func (s *Screen) Source(failure error) error { return s.tell(s.away.Temporal(failure)) }

func (s *Screen) tell(news string) error {
	if news == "" {
		return nil
	}
	if s.height != nil {
		return s.Draw()
	}
	_, err := fmt.Fprintf(s.out, "%s %-9s %s\n", time.Now().Format(clock), "--", news)
	return err
}

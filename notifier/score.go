package notifier

import "strconv"

// A score orders the states of one task: the final word before any attempt, a
// later attempt before an earlier one, and within an attempt the rank of the
// status. Redis keeps scores as float64, exact up to 2^53; ours end at 2^41.
const (
	scoreRanks = 4       // ranks are 0..3
	scoreFinal = 1 << 40 // above any attempt: 2^31 attempts of 4 ranks
)

func scoreOf(e *Event) int64 { return score(e.Attempt, e.Status.Rank(), e.Final) }

func score(attempt int32, rank int, final bool) int64 {
	s := int64(attempt)*scoreRanks + int64(rank)
	if final {
		s += scoreFinal
	}
	return s
}

// attemptOf is the attempt in a score.
func attemptOf(score int64) int64 { return score % scoreFinal / scoreRanks }

// rankOf is the rank in a score.
func rankOf(score int64) int { return int(score % scoreRanks) }

// The details hash holds bodies under field names that no two different states
// share, so that a late event can never overwrite the body of the state that
// the snapshot names: "<score>:<task key>" for statuses, "p:<task key>" for a
// task's last progress.

func statusField(score int64, taskKey string) string {
	return strconv.FormatInt(score, 10) + ":" + taskKey
}

func progressField(taskKey string) string { return "p:" + taskKey }

// obsoleteFields are names that the event's own score makes useless: whatever
// the snapshot says, it is at least this score. They keep the hash small; what
// slips through lives until the hash expires.
func obsoleteFields(e *Event, taskKey string) []string {
	rank := e.Status.Rank()
	var fields []string
	switch {
	case rank == rankTerminal:
		for r := rankPending; r < rankTerminal; r++ {
			fields = append(fields, statusField(score(e.Attempt, r, false), taskKey))
		}
		fields = append(fields, progressField(taskKey))
	case e.Attempt > 0:
		for r := rankPending; r <= rankTerminal; r++ {
			fields = append(fields, statusField(score(e.Attempt-1, r, false), taskKey))
		}
	}
	return fields
}

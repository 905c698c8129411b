package worker

import "time"

// maxAbsences bounds how many are remembered, the last.
const maxAbsences = 64

// absences are the times at which Redis was not available. The zero value has none.
type absences struct {
	past []absence
	from time.Time // of the present one; zero: there is none
}

type absence struct{ from, to time.Time }

// note takes in whether Redis is away.
func (a *absences) note(now time.Time, away bool) {
	switch {
	case away && a.from.IsZero():
		a.from = now
	case !away && !a.from.IsZero():
		a.past = append(a.past, absence{a.from, now})
		a.past = a.past[max(len(a.past)-maxAbsences, 0):]
		a.from = time.Time{}
	}
}

// since is how much of the time from then to now they take.
func (a *absences) since(then, now time.Time) (total time.Duration) {
	add := func(from, to time.Time) {
		if from.Before(then) {
			from = then
		}
		total += max(to.Sub(from), 0)
	}
	for _, one := range a.past {
		add(one.from, one.to)
	}
	if !a.from.IsZero() {
		add(a.from, now)
	}
	return total
}

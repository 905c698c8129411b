package notifier

import "testing"

func TestEvent_TaskKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		event Event
		want  string
		of    bool // of the workflow itself
	}{
		"is the run for the workflow itself":       {Event{RunID: "r"}, "r/", true},
		"is the call where it is known":            {Event{RunID: "r", TaskID: "t", ActivityID: "7", Call: 3}, "r/#3", false},
		"is the activity id without a call":        {Event{RunID: "r", TaskID: "t", ActivityID: "7"}, "r/7", false},
		"is the task id when nothing else is left": {Event{RunID: "r", TaskID: "t"}, "r/t", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.event.TaskKey(); got != test.want {
				t.Errorf("got %q; want %q", got, test.want)
			}
			if got := test.event.OfWorkflow(); got != test.of {
				t.Errorf("of the workflow: %v; want %v", got, test.of)
			}
		})
	}
}

func TestEvent_Supersedes(t *testing.T) {
	t.Parallel()
	state := func(attempt int32, s Status) Event { return Event{RunID: "r", Call: 1, Attempt: attempt, Status: s} }
	final := func(s Status) Event { return Event{RunID: "r", Call: 1, Status: s, Final: true} }
	for name, test := range map[string]struct {
		prev, ev Event
		want     bool
	}{
		"the first attempt follows pending":          {state(0, StatusPending), state(1, StatusRunning), true},
		"a late pending does not follow running":     {state(1, StatusRunning), state(0, StatusPending), false},
		"running follows waiting":                    {state(1, StatusWaiting), state(1, StatusRunning), true},
		"running follows a pause of the same try":    {state(1, StatusPaused), state(1, StatusRunning), true},
		"a pause follows running":                    {state(1, StatusRunning), state(1, StatusPaused), true},
		"an end follows running":                     {state(1, StatusRunning), state(1, StatusFailed), true},
		"running does not follow the attempt's end":  {state(1, StatusFailed), state(1, StatusRunning), false},
		"the next attempt follows a failure":         {state(1, StatusFailed), state(2, StatusRunning), true},
		"a zombie's end does not follow the next":    {state(2, StatusRunning), state(1, StatusSuccess), false},
		"the later of two ends counts":               {state(1, StatusFailed), state(1, StatusTimedOut), true},
		"the final word follows any attempt":         {state(2_000_000_000, StatusSuccess), final(StatusSuccess), true},
		"nothing of an attempt follows a final word": {final(StatusTimedOut), state(2_000_000_000, StatusSuccess), false},
		"another task is another matter":             {state(1, StatusRunning), Event{RunID: "r", Call: 2, Attempt: 2, Status: StatusRunning}, false},
		"another run is another matter":              {state(1, StatusRunning), Event{RunID: "s", Call: 1, Attempt: 2, Status: StatusRunning}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.ev.Supersedes(test.prev); got != test.want {
				t.Errorf("got %v; want %v", got, test.want)
			}
		})
	}
}

func TestStatus_knows_its_words(t *testing.T) {
	t.Parallel()
	for s, want := range map[Status]struct {
		rank     int
		terminal bool
	}{
		StatusPending: {1, false}, StatusWaiting: {2, false}, StatusRunning: {2, false}, StatusPaused: {2, false},
		StatusSuccess: {3, true}, StatusFailed: {3, true}, StatusTimedOut: {3, true}, StatusCanceled: {3, true},
		"": {0, false}, "success": {0, false},
	} {
		if s.Rank() != want.rank || s.Terminal() != want.terminal || s.Valid() != (want.rank > 0) {
			t.Errorf("%q: rank %d, terminal %v, valid %v", s, s.Rank(), s.Terminal(), s.Valid())
		}
	}
}

func TestScore_survives_being_a_float64(t *testing.T) {
	t.Parallel()
	for _, attempt := range []int32{0, 1, 2, 1<<31 - 1} {
		for _, final := range []bool{false, true} {
			s := score(attempt, rankTerminal, final)
			if int64(float64(s)) != s || attemptOf(s) != int64(attempt) || rankOf(s) != rankTerminal {
				t.Errorf("attempt %d, final %v: score %d, back %d and %d", attempt, final, s, attemptOf(s), rankOf(s))
			}
		}
	}
}

package compozy

import "testing"

func TestGlob_matches_as_Redis_does(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]struct {
		yes, no           []string
		workflows, others bool
	}{
		"workflow:*":       {yes: []string{"workflow:a", "workflow:a/b"}, no: []string{"task:a"}, workflows: true},
		"workflow:order-*": {yes: []string{"workflow:order-1", "workflow:order-a/b"}, no: []string{"workflow:other"}, workflows: true},
		"workflow:order 1": {yes: []string{"workflow:order 1"}, no: []string{"workflow:order 2"}, workflows: true},
		"*":                {yes: []string{"", "workflow:a", "task:a/b"}, workflows: true, others: true},
		"[tw]*":            {yes: []string{"workflow:a", "task:a"}, no: []string{"other"}, workflows: true, others: true},
		"work*:?":          {yes: []string{"workflow:a"}, no: []string{"workflow:ab"}, workflows: true, others: true},
		"task:*":           {yes: []string{"task:a"}, no: []string{"workflow:a"}, others: true},
		"task:[^a]":        {yes: []string{"task:b"}, no: []string{"task:a"}, others: true},
		`task:\*`:          {yes: []string{"task:*"}, no: []string{"task:a"}, others: true},
		"work":             {yes: []string{"work"}, no: []string{"workflow:a"}, others: true},
	} {
		g, err := newGlob(pattern)
		if err != nil || g.workflows() != want.workflows || g.others() != want.others {
			t.Errorf("%s: workflows: %v, others: %v, %v", pattern, g.workflows(), g.others(), err)
		}
		for _, channel := range want.yes {
			if !g.matches(channel) {
				t.Errorf("%s does not match %q", pattern, channel)
			}
		}
		for _, channel := range want.no {
			if g.matches(channel) {
				t.Errorf("%s matches %q", pattern, channel)
			}
		}
	}
	if _, err := newGlob("workflow:[a"); err == nil {
		t.Error("what is not closed is a pattern")
	}
}

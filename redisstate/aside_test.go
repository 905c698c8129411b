package redisstate

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Content that was overwritten in one workflow, and then saved and overwritten in another,
// is of the second one: deleting the first takes no ref from it.
func TestStore_gives_what_lies_aside_to_the_workflow_that_had_it_last(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		o       Options
		cluster bool // each trip goes to several nodes
		beside  bool // another writer saves it in between
	}{
		"on one server":             {},
		"encrypted":                 {o: Options{Keys: mustRing(t, "a")}},
		"on a Cluster":              {cluster: true},
		"encrypted, on a Cluster":   {o: Options{Keys: mustRing(t, "a")}, cluster: true},
		"beside another writer":     {beside: true},
		"encrypted, beside another": {o: Options{Keys: mustRing(t, "a")}, beside: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := contest(t, test.o)
			save := func(s *Store, workflow string, value int, ttl time.Duration) Ref {
				t.Helper()
				refs, err := s.Set(t.Context(), Entry{ID: "a", Workflow: workflow, Value: value, TTL: ttl})
				if err != nil {
					t.Fatal(err)
				}
				return refs[0]
			}
			save(c.other, "old", 2, 3*time.Hour)
			save(c.other, "old", 3, 0)
			mine := func() Ref { return save(c.other, "mine", 2, time.Hour) }
			var ref Ref
			writer := c.hooked(&onTrip{before: func(trip int, _ []redis.Cmder) error {
				if test.beside && trip == 3 {
					ref = mine()
				}
				return nil
			}})
			writer.ordered = !test.cluster
			if !test.beside {
				ref = mine()
			}
			save(writer, "third", 4, 0)
			if n, err := c.other.DeleteWorkflow(t.Context(), "old"); err != nil || n != 0 {
				t.Fatalf("deleting the first workflow: %d, %v", n, err)
			}
			c.finds("after its first workflow was deleted", ref)
			if config, err := c.other.Get(t.Context(), ref.Key()); err != nil || config.Workflow != "mine" {
				t.Errorf("it is of the workflow %q, %v", config.Workflow, err)
			}
			raw, err := c.server.Get(contestedKey + "@" + string(ref.Digest))
			if v, e := decodeHeader([]byte(raw)); err != nil || e != nil || v.ttl != 3*time.Hour {
				t.Errorf("its time to live is %v, %v, %v; want the longer one", v.ttl, err, e)
			}
			if _, err := c.other.DeleteWorkflow(t.Context(), "mine"); err != nil {
				t.Fatal(err)
			}
			if _, err := c.other.Get(t.Context(), ref.Key()); !errors.Is(err, ErrNotFound) {
				t.Errorf("after its last workflow was deleted its ref gives %v", err)
			}
		})
	}
}

package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compozy/temporal-redis/redisstate"
)

// opened is the session of an execution.
func opened(tb testing.TB, s *redisstate.Sessions, executionID string) *redisstate.Session {
	tb.Helper()
	session, err := s.Open(executionID)
	if err != nil {
		tb.Fatal(err)
	}
	return session
}

// session is that of an execution in one more process.
func (b SessionsBackend) session(tb testing.TB, executionID string) *redisstate.Session {
	tb.Helper()
	return opened(tb, b.Open(tb, redisstate.Options{}), executionID)
}

func sets(tb testing.TB, s *redisstate.Session, name string, v any) {
	tb.Helper()
	if err := s.Set(tb.Context(), name, v); err != nil {
		tb.Fatalf("set %.40q: %v", name, err)
	}
}

// has fails the test unless the value of a name is want.
func has[T any](tb testing.TB, s *redisstate.Session, name string, want T) {
	tb.Helper()
	got, err := redisstate.SessionGet[T](tb.Context(), s, name)
	if err != nil || !reflect.DeepEqual(got, want) {
		tb.Fatalf("%.40q is %v, %v; want %v", name, got, err, want)
	}
}

// lacks fails the test unless reading a name gives one line that is want.
func lacks(tb testing.TB, s *redisstate.Session, name string, want error) {
	tb.Helper()
	v, err := s.Get(tb.Context(), name)
	if !errors.Is(err, want) || v.JSON() != nil {
		tb.Fatalf("%.40q is %s, %v; want %v", name, v.JSON(), err, want)
	}
	oneLine(tb, err)
}

// named fails the test unless a session has exactly these names.
func named(tb testing.TB, s *redisstate.Session, want ...string) {
	tb.Helper()
	all, err := s.All(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, want) {
		tb.Fatalf("the session has %q; want %q", got, want)
	}
}

type step struct {
	Name  string         `json:"name"`
	Costs map[string]int `json:"costs,omitempty"`
}

func sessionGivesBack(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "step", step{"charge", map[string]int{"eur": 3}})
	has(tb, s, "step", step{"charge", map[string]int{"eur": 3}})
	sets(tb, s, "n", int64(math.MaxInt64))
	has(tb, s, "n", int64(math.MaxInt64))
	sets(tb, s, "text", "a\x00b\n\u2028")
	has(tb, s, "text", "a\x00b\n\u2028")
	sets(tb, s, "nothing", (*step)(nil))
	has(tb, s, "nothing", (*step)(nil))
}

func sessionGivesOwn(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	mine := step{"charge", map[string]int{"eur": 3}}
	sets(tb, s, "step", mine)
	mine.Costs["eur"] = 4
	v, err := s.Get(tb.Context(), "step")
	if err != nil {
		tb.Fatal(err)
	}
	for range 2 {
		got, err := redisstate.DecodeSession[step](v)
		if err != nil || got.Costs["eur"] != 3 {
			tb.Fatalf("got %v, %v", got, err)
		}
		got.Costs["eur"] = 5
		text := v.JSON()
		text[0] = 'x'
	}
	has(tb, s, "step", step{"charge", map[string]int{"eur": 3}})
}

func sessionTakesJSON(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	for _, v := range []any{step{Name: "a"}, []byte(`{"name":"a"}`), json.RawMessage(` {"name": "a"} `), map[string]string{"name": "a"}} {
		sets(tb, s, "step", v)
		has(tb, s, "step", step{Name: "a"})
	}
}

func sessionFindsOnlySet(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	lacks(tb, s, "a", redisstate.ErrNotFound)
	named(tb, s)
	sets(tb, s, "b", 1)
	lacks(tb, s, "a", redisstate.ErrNotFound)
	if _, err := redisstate.SessionGet[int](tb.Context(), s, "a"); !errors.Is(err, redisstate.ErrNotFound) {
		tb.Fatalf("got %v", err)
	}
	if _, err := redisstate.DecodeSession[int](redisstate.SessionValue{}); !errors.Is(err, redisstate.ErrNotFound) {
		tb.Fatalf("got %v", err)
	}
}

func sessionShowsOthers(tb testing.TB, b SessionsBackend) {
	s, other := b.session(tb, "e"), b.session(tb, "e")
	for i := range 3 {
		sets(tb, s, "a", i)
		has(tb, other, "a", i)
	}
}

func sessionKeepsLast(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "a", 1)
	sets(tb, s, "a", "text")
	has(tb, s, "a", "text")
	named(tb, s, "a")
}

func sessionKeepsApart(tb testing.TB, b SessionsBackend) {
	ids := []string{
		"a", "A", "a:b", "a%3Ab", "a/b", "a*", "{a}", "a ", "ä", "a\u0308",
		redisstate.ExecutionID("a", "b/c"), redisstate.ExecutionID("a/b", "c"), redisstate.ExecutionID("a%2Fb", "c"),
		strings.Repeat("x", 1024), redisstate.ExecutionID(strings.Repeat("x", 1024), "r1"), redisstate.ExecutionID(strings.Repeat("x", 1024), "r2"),
	}
	for i, id := range ids {
		sets(tb, b.session(tb, id), "n", i)
	}
	for i, id := range ids {
		has(tb, b.session(tb, id), "n", i)
	}
}

func hostileNames() []string {
	return []string{"a", "A", "a:b", "*", "{a}", " ", "\n", "\x00", "ä", "a\u0308", "%", "%00", "-1", "FIELDS", strings.Repeat("n", 1024)}
}

func sessionTakesAnyName(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	for i, name := range hostileNames() {
		sets(tb, s, name, i)
	}
	other := b.session(tb, "e")
	for i, name := range hostileNames() {
		has(tb, other, name, i)
	}
	want := hostileNames()
	slices.Sort(want)
	named(tb, other, want...)
}

func sessionSetsMany(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "b", "old")
	values := map[string]any{"b": "new"}
	for i := range 500 {
		values[fmt.Sprintf("n%03d", i)] = i
	}
	for _, some := range []map[string]any{values, {}, nil} {
		if err := s.SetMany(tb.Context(), some); err != nil {
			tb.Fatal(err)
		}
	}
	other := b.session(tb, "e")
	has(tb, other, "b", "new")
	has(tb, other, "n499", 499)
	named(tb, other, slices.Sorted(maps.Keys(values))...)
}

func sessionReadsAll(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "n", 1)
	sets(tb, s, "step", step{Name: "a"})
	all, err := b.session(tb, "e").All(tb.Context())
	if err != nil || len(all) != 2 {
		tb.Fatalf("got %d, %v", len(all), err)
	}
	n, err := redisstate.DecodeSession[int](all["n"])
	if err != nil || n != 1 {
		tb.Fatalf("got %d, %v", n, err)
	}
	if got, err := redisstate.DecodeSession[step](all["step"]); err != nil || got.Name != "a" {
		tb.Fatalf("got %v, %v", got, err)
	}
}

func sessionDeletes(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	if err := s.SetMany(tb.Context(), map[string]any{"a": 1, "b": 2, "c": 3}); err != nil {
		tb.Fatal(err)
	}
	for _, names := range [][]string{{"a", "b", "none", "a"}, {"none"}, {}} {
		if err := s.Delete(tb.Context(), names...); err != nil {
			tb.Fatal(err)
		}
	}
	lacks(tb, s, "a", redisstate.ErrNotFound)
	named(tb, b.session(tb, "e"), "c")
	sets(tb, s, "a", 4)
	has(tb, b.session(tb, "e"), "a", 4)
}

func sessionDrops(tb testing.TB, b SessionsBackend) {
	s, other := b.session(tb, "e"), b.session(tb, "other")
	sets(tb, s, "a", 1)
	sets(tb, other, "a", 2)
	for range 2 {
		if err := s.Drop(tb.Context()); err != nil {
			tb.Fatal(err)
		}
		named(tb, s)
	}
	has(tb, other, "a", 2)
	sets(tb, s, "a", 3) // a dropped session may begin again
	has(tb, s, "a", 3)
}

// A client or a caller that lost an answer asks again.
func sessionTwice(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	for range 2 {
		if err := s.SetMany(tb.Context(), map[string]any{"a": 1, "b": 2}); err != nil {
			tb.Fatal(err)
		}
	}
	for range 2 {
		if err := s.Delete(tb.Context(), "a"); err != nil {
			tb.Fatal(err)
		}
	}
	named(tb, s, "b")
}

func sessionForgets(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "a", 1)
	b.Flush(tb)
	lacks(tb, s, "a", redisstate.ErrNotFound)
	named(tb, s)
	sets(tb, s, "b", 2)
	named(tb, s, "b")
}

func sessionManyWriters(tb testing.TB, b SessionsBackend) {
	const writers, rounds = 8, 20
	var all sync.WaitGroup
	for w := range writers {
		s := b.session(tb, "e")
		all.Go(func() {
			for i := range rounds {
				if err := s.SetMany(tb.Context(), map[string]any{fmt.Sprint("own", w): i, "x": w, "y": w}); err != nil {
					tb.Error(err)
					return
				}
				both, err := s.All(tb.Context())
				if err != nil {
					tb.Error(err)
					return
				}
				if x, y := string(both["x"].JSON()), string(both["y"].JSON()); x != y {
					tb.Errorf("x is %s and y is %s, which were set together", x, y)
				}
			}
		})
	}
	all.Wait()
	s := b.session(tb, "e")
	for w := range writers {
		has(tb, s, fmt.Sprint("own", w), rounds-1)
	}
}

func sessionEndsWithContext(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	_, get := s.Get(ctx, "a")
	_, all := s.All(ctx)
	for what, err := range map[string]error{
		"get": get, "all": all, "set": s.Set(ctx, "a", 1), "delete": s.Delete(ctx, "a"), "drop": s.Drop(ctx),
	} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, redisstate.ErrUnavailable) {
			tb.Errorf("%s: %v", what, err)
		}
	}
	named(tb, s)
}

func sessionEndsWithClose(tb testing.TB, b SessionsBackend) {
	sessions := b.Open(tb, redisstate.Options{})
	s := opened(tb, sessions, "e")
	sets(tb, s, "a", 1)
	for range 2 {
		if err := sessions.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	_, open := sessions.Open("e")
	_, get := s.Get(tb.Context(), "a")
	for what, err := range map[string]error{"open": open, "get": get, "set": s.Set(tb.Context(), "a", 2), "drop": s.Drop(tb.Context())} {
		if !errors.Is(err, redisstate.ErrClosed) {
			tb.Errorf("%s: %v", what, err)
		}
	}
	has(tb, b.session(tb, "e"), "a", 1) // nothing is removed
}

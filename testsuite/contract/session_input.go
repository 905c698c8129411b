package contract

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/compozy/temporal-redis/redisstate"
)

func sessionAllOrNothing(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	for what, test := range map[string]struct {
		values map[string]any
		want   error
	}{
		"a bad name":    {map[string]any{"good": 1, "": 2, "x": 3}, redisstate.ErrInvalidKey},
		"nil":           {map[string]any{"good": 1, "a": nil, "x": 3}, redisstate.ErrInvalidValue},
		"no JSON":       {map[string]any{"good": 1, "a": []byte("{"), "x": 3}, redisstate.ErrInvalidValue},
		"a channel":     {map[string]any{"good": 1, "a": make(chan int), "x": 3}, redisstate.ErrInvalidValue},
		"not a number":  {map[string]any{"good": 1, "a": math.NaN(), "x": 3}, redisstate.ErrInvalidValue},
		"too much of b": {map[string]any{"good": 1, "b": strings.Repeat("x", 2<<20), "x": 3}, redisstate.ErrTooLarge},
	} {
		err := s.SetMany(tb.Context(), test.values)
		if !errors.Is(err, test.want) {
			tb.Fatalf("%s: got %v; want %v", what, err, test.want)
		}
		oneLine(tb, err)
		named(tb, s)
	}
}

func sessionRefusesBadNames(tb testing.TB, b SessionsBackend) {
	sessions := b.Open(tb, redisstate.Options{})
	s := opened(tb, sessions, "e")
	sets(tb, s, "kept", 1)
	for _, bad := range badIDs() {
		_, open := sessions.Open(bad)
		_, get := s.Get(tb.Context(), bad)
		for what, err := range map[string]error{
			"open": open, "get": get, "set": s.Set(tb.Context(), bad, 1), "delete": s.Delete(tb.Context(), "kept", bad),
		} {
			if !errors.Is(err, redisstate.ErrInvalidKey) {
				tb.Fatalf("%s %.40q: got %v; want ErrInvalidKey", what, bad, err)
			}
			oneLine(tb, err)
		}
	}
	named(tb, s, "kept")
}

func sessionRefusesTooLarge(tb testing.TB, b SessionsBackend) {
	s := opened(tb, b.Open(tb, redisstate.Options{MaxConfigBytes: 100}), "e")
	fits := strings.Repeat("x", 98) // and two quotes
	err := s.Set(tb.Context(), "a", fits+"x")
	if !errors.Is(err, redisstate.ErrTooLarge) || !strings.Contains(err.Error(), "MaxConfigBytes") {
		tb.Fatalf("got %v", err)
	}
	oneLine(tb, err)
	sets(tb, s, "a", fits)
	has(tb, s, "a", fits)
}

func sessionTellsType(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "a", "s3cret")
	n, err := redisstate.SessionGet[int](tb.Context(), s, "a")
	if !errors.Is(err, redisstate.ErrCorrupt) || n != 0 || strings.Contains(err.Error(), "s3cret") {
		tb.Fatalf("got %d, %v", n, err)
	}
	oneLine(tb, err)
	sets(tb, s, "b", []string{"x", "1999-12-31"})
	when, err := redisstate.SessionGet[[]time.Time](tb.Context(), s, "b")
	if !errors.Is(err, redisstate.ErrCorrupt) || when != nil || strings.Contains(err.Error(), "1999") {
		tb.Fatalf("got %v, %v", when, err)
	}
}

func sessionTellsCorrupt(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "good", 1)
	good := b.Stored(tb, "e", "good")
	for what, test := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":     {[]byte{}, redisstate.ErrCorrupt},
		"text":        {[]byte("something else"), redisstate.ErrCorrupt},
		"one byte":    {good[:1], redisstate.ErrCorrupt},
		"a version":   {append([]byte{31}, good[1:]...), redisstate.ErrNewerFormat},
		"no version":  {append([]byte{0}, good[1:]...), redisstate.ErrCorrupt},
		"a new flag":  {append([]byte{good[0], 0x80}, good[2:]...), redisstate.ErrNewerFormat},
		"a longer no": {[]byte(strings.Repeat("z", 10_000)), redisstate.ErrCorrupt},
	} {
		b.Damage(tb, "e", "bad", test.raw)
		lacks(tb, s, "bad", test.want)
		all, err := s.All(tb.Context())
		if !errors.Is(err, test.want) || len(all) != 1 || string(all["good"].JSON()) != "1" {
			tb.Fatalf("%s: all gave %d, %v", what, len(all), err)
		}
		oneLine(tb, err)
	}
	sets(tb, s, "bad", 2) // writing heals
	has(tb, s, "bad", 2)
}

func sessionTellsWrongType(tb testing.TB, b SessionsBackend) {
	s := b.session(tb, "e")
	sets(tb, s, "a", 1)
	b.Damage(tb, "e", "", nil)
	_, get := s.Get(tb.Context(), "a")
	_, all := s.All(tb.Context())
	for what, err := range map[string]error{"get": get, "all": all, "set": s.Set(tb.Context(), "a", 1), "delete": s.Delete(tb.Context(), "a")} {
		if !errors.Is(err, redisstate.ErrWrongType) || errors.Is(err, redisstate.ErrUnavailable) {
			tb.Fatalf("%s: got %v; want ErrWrongType", what, err)
		}
		oneLine(tb, err)
	}
	if err := s.Drop(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	sets(tb, s, "a", 2)
	has(tb, s, "a", 2)
}

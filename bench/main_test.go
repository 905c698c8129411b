//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/compozy/temporal-redis/internal/leak"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == contendFlag { // one of the processes that rows start
		if err := contend(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m, leak.DeadDial())
}

func TestEachRowSaysWhatItIs(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^[a-z0-9_]+$`)
	seen := map[string]bool{}
	for _, row := range rows() {
		if !name.MatchString(row.Key) || !name.MatchString(row.Group) || row.How == "" || row.Run == nil {
			t.Errorf("row %+v lacks something", row)
		}
		if seen[row.Key] {
			t.Errorf("two rows are called %s", row.Key)
		}
		seen[row.Key] = true
	}
}

func TestAQuickRunTouchesNoResultsUnlessToldTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args         []string
		results, raw string
	}{
		{nil, "results.json", "raw"},
		{[]string{"-quick"}, "", ""},
		{[]string{"-quick", "-out", "x.json"}, "x.json", ""},
		{[]string{"-out", ""}, "", "raw"},
	} {
		a, err := parse(c.args, new(bytes.Buffer))
		if err != nil || a.options.Results != c.results || a.options.Raw != c.raw {
			t.Errorf("%v: results %q, samples %q, %v", c.args, a.options.Results, a.options.Raw, err)
		}
	}
}

func TestBadArgumentsAreRefusedBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-rounds", "6"}, {"-run", "("}, {"config"}, {"-run", "nothing-like-this"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, &out); err == nil || strings.Contains(out.String(), "GOMAXPROCS") {
			t.Errorf("%v: %v\n%s", args, err, out.String())
		}
	}
	if err := run(t.Context(), []string{"-h"}, new(bytes.Buffer), new(bytes.Buffer)); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestListShowsRowsAndBars(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-list", "-run", "config_set"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "config/config_set_vs_goredis") || strings.Contains(out.String(), "config_hit") {
		t.Errorf("got\n%s", out.String())
	}
}

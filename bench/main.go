//go:build unix

// Command bench holds this module to its numbers: it compares what we do with
// what others do and prints a table, see docs/benchmarks.md.
//
//	bench -list                     what there is
//	bench -run config               rows whose group/key matches
//	bench -quick                    does it run? The numbers mean nothing
//
// It promises that a bar which is missed is said and is not a failure: only a
// row that could not be measured is. Results are merged into results.json by
// key; samples go into a file per row.
//
// Not for: tests, and not for machines that do something else at the same time,
// although turns alternate so that both sides suffer alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9/logging"

	"github.com/compozy/temporal-redis/bench/internal/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	logging.Disable()
	var err error
	if len(os.Args) == 3 && os.Args[1] == contendFlag {
		err = contend(ctx, os.Args[2], os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		_, _ = fmt.Fprintln(os.Stderr, "bench: "+strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

// arguments are the parsed flags.
type arguments struct {
	options harness.Options
	list    bool
	profile string
}

// run is the program: everything but the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	a, err := parse(args, stderr)
	if err != nil {
		return err
	}
	a.options.Out = stdout
	if a.list {
		return harness.List(stdout, rows(), a.options.Select)
	}
	if a.profile == "" {
		return harness.Run(ctx, rows(), a.options)
	}
	file, err := os.Create(a.profile)
	if err != nil {
		return fmt.Errorf("-cpuprofile: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("-cpuprofile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return harness.Run(ctx, rows(), a.options)
}

func parse(args []string, stderr io.Writer) (arguments, error) {
	var a arguments
	var pattern string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&pattern, "run", "", "rows whose group/key matches this regular expression (default all)")
	flags.IntVar(&a.options.Rounds, "rounds", 11, fmt.Sprintf("rounds per row, at least %d", harness.MinRounds))
	flags.Uint64Var(&a.options.Seed, "seed", 1, "seed of all generated data")
	flags.BoolVar(&a.options.Quick, "quick", false, "few operations, to see that it runs; no results unless -out is given")
	flags.StringVar(&a.options.Results, "out", "results.json", "file that results are merged into; empty for none")
	flags.StringVar(&a.options.Raw, "raw", "raw", "directory for samples; empty for none")
	flags.BoolVar(&a.list, "list", false, "list the rows and end")
	flags.StringVar(&a.profile, "cpuprofile", "", "file for a CPU profile of the run")
	if err := flags.Parse(args); err != nil {
		return a, err
	}
	if flags.NArg() > 0 {
		return a, fmt.Errorf("unexpected argument %q; rows are chosen by -run", flags.Arg(0))
	}
	if a.options.Quick && !given(flags, "out") {
		a.options.Results = ""
	}
	if a.options.Quick && !given(flags, "raw") {
		a.options.Raw = ""
	}
	if pattern != "" {
		var err error
		if a.options.Select, err = regexp.Compile(pattern); err != nil {
			return a, fmt.Errorf("-run: %w", err)
		}
	}
	return a, nil
}

func given(flags *flag.FlagSet, name string) bool {
	found := false
	flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

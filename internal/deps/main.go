//go:build unix

// Command deps is the Makefile's eye on what a machine has for the demo and the
// tests. It looks by the very functions with which the tests look, so that the
// two cannot disagree.
//
//	deps missing redis-server postgresql cc   prints the missing ones, one a line
//	deps why redis-server postgresql cc       fails, saying what is wrong with them
//	deps temporal                             provides a Temporal dev server
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/compozy/temporal-redis/internal/devserver"
	"github.com/compozy/temporal-redis/internal/pgtest"
	"github.com/compozy/temporal-redis/internal/redistest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("deps: want missing, why or temporal; see the Makefile")
	}
	switch command, names := args[0], args[1:]; command {
	case "missing":
		missing, _ := look(ctx, names)
		for _, name := range missing {
			fmt.Println(name)
		}
		return nil
	case "why":
		_, err := look(ctx, names)
		return err
	case "temporal":
		return provideTemporal(ctx)
	default:
		return fmt.Errorf("deps: unknown command %q; want missing, why or temporal", command)
	}
}

// look returns the names that are missing and why, joined.
func look(ctx context.Context, names []string) (missing []string, why error) {
	for _, name := range names {
		if err := lookFor(ctx, name); err != nil {
			missing = append(missing, name)
			why = errors.Join(why, err)
		}
	}
	return missing, why
}

func lookFor(ctx context.Context, name string) error {
	switch name {
	case "redis-server":
		_, err := redistest.Locate(ctx)
		return err
	case "postgresql":
		_, err := pgtest.Locate()
		return err
	case "cc":
		return lookForCompiler(ctx)
	default:
		return fmt.Errorf("deps: %q is not something to look for", name)
	}
}

// lookForCompiler compiles a line with the compiler that Go would use for
// -race: a compiler without the C library's headers is none.
func lookForCompiler(ctx context.Context) error {
	output, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return fmt.Errorf("deps: go env CC: %w", err)
	}
	compiler := strings.Fields(string(output))
	if len(compiler) == 0 {
		return errors.New("deps: go env CC names no C compiler")
	}
	cmd := exec.CommandContext(ctx, compiler[0], append(compiler[1:], "-fsyntax-only", "-x", "c", "-")...)
	cmd.Stdin = strings.NewReader("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("deps: C compiler %s for -race: %w\n%s", compiler[0], err, output)
	}
	return nil
}

func provideTemporal(ctx context.Context) error {
	root, err := devserver.Root()
	if err != nil {
		return err
	}
	_, err = devserver.Provide(ctx, root, os.Stderr)
	return err
}

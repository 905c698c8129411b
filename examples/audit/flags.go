package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/compozy/temporal-redis/redisstate"
)

// settings are what the command line says.
type settings struct {
	file      string // workflow file, "" for the built-in one
	redis     string
	temporal  string // "" for a dev server of our own
	namespace string
	taskQueue string // "" for one per run
	tree      string // "" for what the file says
	out       string // likewise
}

var errHelp = errors.New("help")

const usage = `usage: audit [flags] [FILE.yaml]

Runs a workflow file, by default one that audits the source tree around it, on
an embedded Redis and a Temporal dev server of its own. The shell's REDIS_* and
TEMPORAL_* variables are not read.

flags:
  --redis URL        Redis to use, for example redis://localhost:6379 (default embedded://)
  --temporal ADDR    Temporal server to use, host:port (default: an own dev server)
  --namespace NAME   Temporal namespace (default "default")
  --task-queue NAME  Temporal task queue (default: one per run)
  --tree DIR         source tree, with.tree of the workflow (default: what the file says, else .)
  --out DIR          where reports go, with.out of the workflow (default .build/reports/<run>)
`

// parseFlags reads the command line. Flags may stand before and after the file.
func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.redis, "redis", "embedded://", "")
	flags.StringVar(&s.temporal, "temporal", "", "")
	flags.StringVar(&s.namespace, "namespace", "default", "")
	flags.StringVar(&s.taskQueue, "task-queue", "", "")
	flags.StringVar(&s.tree, "tree", "", "")
	flags.StringVar(&s.out, "out", "", "")
	for len(args) > 0 {
		err := flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			_, _ = fmt.Fprint(stderr, usage)
			return s, errHelp
		}
		if err != nil {
			return s, fmt.Errorf("%w: %w; see --help", errInput, err)
		}
		if args = flags.Args(); len(args) == 0 {
			break
		}
		if s.file != "" {
			return s, fmt.Errorf("%w: two workflow files, %q and %q; name one", errInput, s.file, args[0])
		}
		if s.file, args = args[0], args[1:]; s.file == "" {
			return s, fmt.Errorf("%w: the name of the workflow file is empty; name one, or leave it out", errInput)
		}
	}
	return s, s.validate()
}

// validate checks what can be checked without a connection.
func (s settings) validate() error {
	refuse := func(flag, what string) error { return fmt.Errorf("%w: %s: %s", errInput, flag, what) }
	if s.redis == "" {
		return refuse("--redis", "is empty; write a URL such as redis://localhost:6379, or leave the flag out")
	}
	if err := (redisstate.Options{URL: s.redis}).Validate(); err != nil {
		return refuse("--redis", err.Error())
	}
	if s.temporal != "" {
		if _, port, err := net.SplitHostPort(s.temporal); err != nil || port == "" {
			return refuse("--temporal", "is not an address; write host:port, for example localhost:7233")
		}
	}
	if strings.TrimSpace(s.namespace) == "" {
		return refuse("--namespace", "is empty; name a Temporal namespace, or leave the flag out")
	}
	return nil
}

// settle turns the workflow's inputs tree and out into absolute paths: from the
// flags, else from the file, else the defaults.
func (s settings) settle(with map[string]any, run string) error {
	tree, err := directory("--tree", "with.tree", s.tree, with["tree"], ".")
	if err != nil {
		return err
	}
	out, err := directory("--out", "with.out", s.out, with["out"], filepath.Join(".build", "reports", run))
	if err != nil {
		return err
	}
	refuse := func(flag, path, what string) error {
		return fmt.Errorf("%w: %s: %s %s", errInput, flag, shown(path), what)
	}
	if info, err := os.Stat(tree); err != nil || !info.IsDir() {
		return refuse("--tree", tree, "is not a directory; name the root of a source tree")
	}
	if info, err := os.Stat(out); err == nil && !info.IsDir() {
		return refuse("--out", out, "is not a directory; name one, it is made if need be")
	}
	if rel, err := filepath.Rel(out, tree); err == nil && filepath.IsLocal(rel) {
		return refuse("--out", out, "holds the tree; name a directory inside or outside of it")
	}
	with["tree"], with["out"] = tree, out
	return nil
}

// directory picks the flag, the file's value or the default, made absolute.
func directory(flag, field, fromFlag string, fromFile any, fallback string) (string, error) {
	dir := fallback
	switch v, isText := fromFile.(string); {
	case fromFlag != "":
		dir = fromFlag
	case isText && v != "":
		dir = v
	case fromFile != nil:
		return "", fmt.Errorf("%w: %s: is not the name of a directory; write one, or give %s", errInput, field, flag)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errInput, flag, err)
	}
	return abs, nil
}

// shown is the start of a path, on one line.
func shown(path string) string {
	if len(path) > 200 {
		path = path[:200] + "..."
	}
	return fmt.Sprintf("%q", path)
}

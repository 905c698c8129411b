package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/compozy/temporal-redis/redisstate"
)

// settings are what the command line says.
type settings struct {
	file       string // workflow file, "" for the built-in one
	redis      string
	redisGiven bool   // be it what is the default
	temporal   string // "" for a dev server of our own
	namespace  string
	tree       string // "" for what the file says
	out        string // likewise
	chaos      bool
	nearCache  int64 // bytes, for tests; 0 for the default
}

// embedded is the Redis of a demo that was not told of another.
const embedded = "embedded://"

var errHelp = errors.New("help")

const usage = `usage: audit [flags] [FILE.yaml]

Runs a workflow file, by default one that audits the source tree around it, on
an embedded Redis and a Temporal dev server of its own. The shell's REDIS_* and
TEMPORAL_* variables are not read.

flags:
  --redis URL       Redis to use, for example redis://localhost:6379 (default embedded://)
  --temporal ADDR   Temporal server to use, host:port (default: an own dev server)
  --namespace NAME  Temporal namespace (default "default")
  --tree DIR        source tree, with.tree of the workflow (default: what the file says, else .)
  --out DIR         where reports go, with.out of the workflow (default .build/reports/<run>)
  --chaos           kill Redis in mid-run, for 15 s: a redis-server of the demo's own
`

// parseFlags reads the command line. Flags may stand before and after the file.
func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.redis, "redis", embedded, "")
	flags.StringVar(&s.temporal, "temporal", "", "")
	flags.StringVar(&s.namespace, "namespace", "default", "")
	flags.StringVar(&s.tree, "tree", "", "")
	flags.StringVar(&s.out, "out", "", "")
	flags.BoolVar(&s.chaos, "chaos", false, "")
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
	flags.Visit(func(f *flag.Flag) { s.redisGiven = s.redisGiven || f.Name == "redis" })
	return s, s.validate()
}

// validate checks what can be checked without a connection.
func (s settings) validate() error {
	if s.redis == "" {
		return refuse("--redis", "is empty; write a URL such as redis://localhost:6379, or leave the flag out")
	}
	if err := (redisstate.Options{URL: s.redis}).Validate(); err != nil {
		return refuse("--redis", err.Error())
	}
	if s.chaos && s.redisGiven {
		return refuse("--chaos", "kills Redis in mid-run, and does so only to one that the demo itself starts, not to what --redis names; leave out --redis, or --chaos")
	}
	if _, port, err := net.SplitHostPort(s.temporal); s.temporal != "" && (err != nil || port == "") {
		return refuse("--temporal", "is not an address; write host:port, for example localhost:7233")
	}
	if strings.TrimSpace(s.namespace) == "" {
		return refuse("--namespace", "is empty; name a Temporal namespace, or leave the flag out")
	}
	return nil
}

// settle turns the workflow's inputs tree and out into absolute paths: from the
// flags, else from the file, else the defaults.
func (s settings) settle(with map[string]any, run string) error {
	for _, d := range []struct{ name, flag, fallback, remedy string }{
		{"tree", s.tree, ".", "name the root of a source tree"},
		{"out", s.out, filepath.Join(".build", "reports", run), "name one, it is made if need be"},
	} {
		dir, isText := with[d.name].(string)
		switch {
		case d.flag != "":
			dir = d.flag
		case with[d.name] == nil:
			dir = d.fallback
		case !isText || dir == "":
			return refuse("with."+d.name, "is not the name of a directory; write one, or give --"+d.name)
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return refuse("--"+d.name, err.Error())
		}
		info, err := os.Stat(abs)
		if made := d.name == "out" && errors.Is(err, fs.ErrNotExist); !made && (err != nil || !info.IsDir()) {
			return refuse("--"+d.name, fmt.Sprintf("%.200q is not a directory; %s", abs, d.remedy))
		}
		with[d.name] = abs
	}
	return nil
}

func refuse(field, what string) error { return fmt.Errorf("%w: %s: %s", errInput, field, what) }

package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// version prints what the Go tool noted in the program.
func version(_ context.Context, args []string, s streams, _ lookup) error {
	f := flag.NewFlagSet("temporal-redis version", flag.ContinueOnError)
	if err := parse(f, args, s); err != nil {
		return err
	}
	name, revision := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		name = info.Main.Version
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				revision = " " + setting.Value
			case "vcs.modified":
				if setting.Value == "true" {
					revision += " (modified)"
				}
			}
		}
	}
	_, err := fmt.Fprintf(s.out, "temporal-redis %s%s %s %s/%s\n", name, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// completions are scripts in which %s stands for the names of the commands.
var completions = map[string]string{
	"bash": "complete -W '%s' temporal-redis\n",
	"zsh":  "#compdef temporal-redis\ncompdef '_arguments \"1:command:(%s)\"' temporal-redis\n",
	"fish": "complete -c temporal-redis -f -n __fish_use_subcommand -a '%s'\n",
}

// completion prints the script of a shell.
func completion(args []string, s streams) int {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	if len(args) == 1 && completions[args[0]] != "" {
		_, _ = fmt.Fprintf(s.out, completions[args[0]], strings.Join(append(names, "completion", "help"), " "))
		return 0
	}
	_, _ = fmt.Fprint(s.err, "usage: temporal-redis completion bash|zsh|fish\n")
	return exitUsage
}

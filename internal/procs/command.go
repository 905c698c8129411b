//go:build unix

package procs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Command says what to run. It can be reused for several calls of Start.
type Command struct {
	// Path is the absolute path of the program. Required.
	Path string
	// Args follow the program's name. Defaults to none.
	Args []string
	// Dir is the working directory. Defaults to that of this process.
	Dir string
	// Env is the whole environment, NAME=value. Defaults to an empty one, so
	// that nothing of the shell leaks in; see Environ.
	Env []string
	// Output receives stdout and stderr; the caller closes it after the end.
	// Defaults to the null device.
	Output *os.File
	// Credential is the user to run as, for a parent that is root. Defaults to
	// the user of this process.
	Credential *syscall.Credential
	// StopSignal asks the program to end at once. Stop sends it, and so does
	// the watchdog before it kills. Defaults to SIGTERM.
	StopSignal syscall.Signal
	// Scratch is a directory to remove when the parent dies without Stop. It
	// must have been made for this child alone. Defaults to none.
	Scratch string
}

func (c Command) withDefaults() Command {
	if c.StopSignal == 0 {
		c.StopSignal = syscall.SIGTERM
	}
	if c.Env == nil {
		c.Env = []string{}
	}
	return c
}

func (c Command) validate() error {
	var errs []error
	if len(c.Path) == 0 || c.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("procs: Path %q is not absolute", c.Path))
	}
	if c.Scratch != "" && (c.Scratch[0] != '/' || c.Scratch == "/") {
		errs = append(errs, fmt.Errorf("procs: Scratch %q is not an absolute path below /", c.Scratch))
	}
	return errors.Join(errs...)
}

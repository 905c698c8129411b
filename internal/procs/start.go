//go:build unix

package procs

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

const shell = "/bin/sh"

// launcherScript becomes the command once the parent has said go.
const launcherScript = `read -r word <&3 && [ "$word" = go ] || exit 125
exec 3<&-
exec "$@"`

// watchdogScript outlives the parent by as long as the clean-up takes. Its
// arguments: process group, stop signal, scratch directory. The word "over" is
// the parent's message that the child has ended and that its number may be
// somebody else's by now.
const watchdogScript = `read -r word <&3
[ "$word" = over ] && exit 0
kill -s "$2" -- "$1" 2>/dev/null
n=0
while kill -s 0 -- "$1" 2>/dev/null && [ $n -lt 10 ]; do sleep 0.1; n=$((n+1)); done
kill -s KILL -- "-$1" 2>/dev/null
[ -n "$3" ] && rm -rf -- "$3"
exit 0`

// Start runs the command in a process group of its own. The child is killed
// when this process ends in any way. Errors are those of the options and of
// starting the shell; a program that cannot be executed ends with code 126 or
// 127 and says so in Output.
func Start(command Command) (*Process, error) {
	command = command.withDefaults()
	if err := command.validate(); err != nil {
		return nil, err
	}
	launcher, goPipe, err := startLauncher(command)
	if err != nil {
		return nil, fmt.Errorf("procs: start %s: %w", command.Path, err)
	}
	watchdog, lifeline, err := startWatchdog(launcher.Process.Pid, command)
	if err != nil {
		_ = goPipe.Close()
		_ = launcher.Wait()
		return nil, fmt.Errorf("procs: watch %s: %w", command.Path, err)
	}
	_, err = io.WriteString(goPipe, "go\n")
	if closeErr := goPipe.Close(); err == nil {
		err = closeErr
	}
	process := newProcess(command, launcher, watchdog, lifeline)
	if err != nil {
		process.Kill()
		return nil, fmt.Errorf("procs: start %s: %w", command.Path, err)
	}
	return process, nil
}

func startLauncher(command Command) (*exec.Cmd, *os.File, error) {
	cmd := exec.Command(shell, append([]string{"-c", launcherScript, shell, command.Path}, command.Args...)...)
	cmd.Dir = command.Dir
	cmd.Env = command.Env
	if command.Output != nil {
		cmd.Stdout, cmd.Stderr = command.Output, command.Output
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: command.Credential}
	pipe, err := startWithPipe(cmd)
	return cmd, pipe, err
}

func startWatchdog(pid int, command Command) (*exec.Cmd, *os.File, error) {
	cmd := exec.Command(shell, "-c", watchdogScript, shell,
		strconv.Itoa(pid), strconv.Itoa(int(command.StopSignal)), command.Scratch)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := startWithPipe(cmd)
	return cmd, pipe, err
}

// startWithPipe starts cmd with the reading end of a pipe as descriptor 3 and
// returns the writing end, which no other child inherits (os.Pipe sets
// close-on-exec).
func startWithPipe(cmd *exec.Cmd) (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{reader}
	err = cmd.Start()
	_ = reader.Close()
	if err != nil {
		_ = writer.Close()
		return nil, err
	}
	return writer, nil
}

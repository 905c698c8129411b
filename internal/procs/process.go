//go:build unix

package procs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a child that runs or has ended. All methods are safe for
// concurrent use.
type Process struct {
	command  Command
	launcher *exec.Cmd
	watchdog *exec.Cmd
	lifeline *os.File
	done     chan struct{}
	err      error // written before done is closed

	signalling sync.Mutex // held while a signal is sent, and while the child is marked as reaped
	reaped     bool
}

func newProcess(command Command, launcher, watchdog *exec.Cmd, lifeline *os.File) *Process {
	p := &Process{
		command: command, launcher: launcher, watchdog: watchdog,
		lifeline: lifeline, done: make(chan struct{}),
	}
	go p.wait()
	return p
}

func (p *Process) wait() {
	p.err = p.launcher.Wait()
	p.signalling.Lock()
	// What the child itself started and left behind, if anything.
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
	p.reaped = true
	p.signalling.Unlock()
	// The watchdog may have been killed by somebody: nothing to be done then.
	_, _ = io.WriteString(p.lifeline, "over\n")
	_ = p.lifeline.Close()
	_ = p.watchdog.Wait()
	close(p.done)
}

// Pid is the number of the child, which is also that of its process group.
func (p *Process) Pid() int { return p.launcher.Process.Pid }

// Done is closed when the child has ended and everything around it is cleaned
// up.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the child ended: nil while it runs and after exit code 0, else an
// *exec.ExitError.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Running says whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the child alone. A child that has ended is an
// os.ErrProcessDone.
func (p *Process) Signal(signal syscall.Signal) error {
	return p.signal(p.Pid(), signal)
}

func (p *Process) signal(target int, signal syscall.Signal) error {
	p.signalling.Lock()
	defer p.signalling.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(target, signal); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	return nil
}

// StandBack makes the child, and what it started in its process group, stand back for
// others who want the processor: nice is 0 to 19 as in nice(1). Who is not root cannot
// make it stand back less than it does. A child that has ended is an os.ErrProcessDone.
func (p *Process) StandBack(nice int) error {
	if nice < 0 || nice > 19 {
		return fmt.Errorf("procs: stand back: nice is %d; use 0 to 19", nice)
	}
	p.signalling.Lock()
	defer p.signalling.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	// Of the group: Linux sets a single thread for PRIO_PROCESS, setpriority(2).
	if err := syscall.Setpriority(syscall.PRIO_PGRP, p.Pid(), nice); err != nil {
		return fmt.Errorf("procs: stand back: %w", err)
	}
	return nil
}

// Kill sends SIGKILL to the child's process group and waits for its end.
func (p *Process) Kill() {
	_ = p.signal(-p.Pid(), syscall.SIGKILL)
	<-p.done
}

// Stop sends the stop signal, waits up to grace for the end and then kills. A
// child that was paused by SIGSTOP is continued first.
func (p *Process) Stop(grace time.Duration) {
	_ = p.signal(p.Pid(), syscall.SIGCONT)
	_ = p.Signal(p.command.StopSignal)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	p.Kill()
}

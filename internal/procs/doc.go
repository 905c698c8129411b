// Package procs starts child processes that die with this process, however it
// ends: return, panic, Ctrl-C, SIGTERM, SIGKILL. It works on Linux and macOS.
//
// A child is started in three steps, so that there is no moment at which the
// death of the parent could leave it behind:
//
//  1. the launcher, a shell in a process group of its own, waits for a line on
//     a pipe from the parent; at the end of the pipe it exits;
//  2. the watchdog, a shell in another group, waits on a second pipe from the
//     parent; at its end it stops the launcher's group and removes the scratch
//     directory;
//  3. the parent writes the line, and the launcher becomes the command by exec.
//
// Only the parent holds the writing ends, so the kernel closes them when it
// dies. Ctrl-C in a terminal reaches neither shell, as both are outside the
// foreground group.
//
// States of a Process: running, then ended (Done is closed); nothing else.
//
// Not for: services that outlive the program that starts them, nor for
// commands that answer and end; use os/exec for these. Linux' Pdeathsig is not
// used: it follows the thread that forked, which Go may end at any time.
package procs

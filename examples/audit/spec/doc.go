// Package spec turns a workflow file (YAML) into validated, normalized task
// configs: the small documents that the rest of the demo keeps in Redis and
// hands around by ref.
//
// It promises that what Normalize accepts can be run: every id is fit to become
// part of a name, every task type and tool exists and has what it needs, every
// next leads somewhere, and no path comes back to where it was. What it refuses,
// it refuses with one line that says where (file and line), which field, what
// is wrong and what would be right. Templates are looked up when a task runs; a
// path that leads nowhere then fails that task.
//
// Not for: reading other files, the shell's environment, or the network. A
// workflow file is data; templates are value paths, nothing
// that could loop or call.
package spec

// Package spec turns a workflow file (YAML) into validated, normalized task
// configs: the small documents that the rest of the demo keeps in Redis and
// hands around by ref.
//
// It promises that what Normalize accepts can be run: every id is fit to become part
// of a name, every task type and tool exists, every next leads somewhere, no
// path comes back to where it was, and every template names a value that can be
// there. What it refuses, it refuses with one line that says where (file and
// line), which field, what is wrong and what would be right.
//
// Not for: reading other files, the shell's environment, or the network. A
// workflow file is data; templates are value paths, nothing
// that could loop or call.
package spec

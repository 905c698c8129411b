// Package tools holds the built-in tools of the demo: what a basic task can
// run. Each does real work on real files.
//
// A tool promises that it reads only below the tree and writes only below the
// out directory it is given, that running it again after a crash does no harm,
// and that a file it writes is either the old one or the new one, never half of
// it. The ledger is the exception to "any time, anywhere": its append is a
// read-modify-write of one file, right only under the workflow's lock.
//
// Not for: running commands or reaching the network.
package tools

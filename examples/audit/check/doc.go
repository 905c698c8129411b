// Package check counts a source tree again, by other means than the tools, and
// compares the report of the demo with what it found.
//
// It promises to share no code with package tools: directories are read one by
// one, functions are counted on the token stream of go/scanner instead of the
// syntax tree, the ledger's chain of hashes is followed line by line. A mistake on either side, or a tree that changed in between, shows as a
// difference.
//
// Not for: trees whose Go files do not parse; the tools refuse those.
package check

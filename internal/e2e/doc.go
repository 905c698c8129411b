// Package e2e holds the end-to-end tests: the plugin on a real Temporal server
// and a real redis-server, in one process and in several. It has no code of its
// own beside the tests.
//
// Not for: what a unit test can show.
package e2e

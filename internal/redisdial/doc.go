// Package redisdial makes the dials of go-redis' pools.
//
// It promises that a dial which fails is the failure of the command that needed the
// connection, with the same error, and nothing else. go-redis itself makes two more
// things of it: a line on the standard error each time, through a logger that the
// whole process shares, and, once as many dials have failed as the pool is large, a
// pause in which every command fails at once and Redis is looked for once a second
// only, so that up to a second of failures follows an outage that is over.
//
// Not for: retrying, or the address to dial.
package redisdial

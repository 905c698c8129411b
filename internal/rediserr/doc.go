// Package rediserr is the one place that decides what an error from Redis
// means: whether it will pass (an outage), whether an operator has to act
// (denied), whether the request itself is wrong, or whether the caller gave up.
//
// It promises that an error keeps its cause (errors.Is and errors.As reach the
// go-redis or net error), that its text names the operation and the key family
// and never a key, a value or a password, and that no decision in the module is
// taken on an error's text anywhere else.
//
// Not for: retrying. Who retries, and for how long, is decided by the caller.
package rediserr
